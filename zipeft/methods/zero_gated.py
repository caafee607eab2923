"""LLaMA-Adapter's zero-initialised gated prompts (arXiv 2303.16199), and their ablation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipeft.api.method import HEAD_SPACE, Method, require_float32, require_size
from zipeft.api.search import Range, Space
from zipeft.api.settings import later_setting, setting
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone
    from zipeft.api.training_sample import TrainingSample
    from zipeft.splices import Splice


@dataclass(frozen=True)
class ZeroGated(Method):
    """Zero-initialised gated prompts in the attention of the top layers (LLaMA-Adapter, arXiv 2303.16199)."""

    learning_rate: float = 1e-1
    length: int = 10
    layers: int | None = None
    """How many of the topmost layers; None for all."""
    gate: Literal["head", "layer", "channel"] = "head"
    """Of what each gate lets through: a head's result, a layer's, or one number of a head's."""
    gate_activation: Literal["tanh", "none"] = setting("tanh", recorded_as="squash")
    gate_init: Literal["zero", "random"] = "zero"
    prompt_std: float = 1.0
    gate_learning_rate: float | None = later_setting(None)
    """Peak learning rate of the gates; None for that of the prompts."""
    prompt_init: Literal["normal", "sampled", "kmeans", "scaled"] = later_setting("normal")
    """Where prompts start: at N(0, prompt_std); at some of the vectors that their layers take of training examples, or
    at the centres of clusters of them; or at N(0, prompt_std) times the standard deviation of those vectors."""
    init_examples: int = later_setting(64)
    """How many training examples show these vectors."""
    prompt_form: Literal["tokens", "key_value"] = later_setting("tokens")
    """What is learnt: tokens, of which the layer's own projections make keys and values, or these themselves."""
    prompt_mlp: int = later_setting(0)
    """Hidden width of a network that the prompts of all layers of a tower pass (arXiv 2502.03029); 0 for none."""
    prompt_norm: bool = later_setting(False)
    """Whether prompts pass the norm that the layer's input passes, before its projections."""
    tune_norms_and_biases: bool = later_setting(False)
    """Whether norms, and scales and biases of linear layers, train too (LLaMA-Adapter V2, arXiv 2304.15010)."""

    family: ClassVar[str] = "gated prompts"
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(1e-2, 3e-1), **HEAD_SPACE}

    image_entry: ClassVar[str] = "condition"
    towers: ClassVar[tuple[str, ...]] = ()
    """Which of a backbone's towers are joined; empty for all."""
    scales: ClassVar[str] = "tune_norms_and_biases"
    """What a refusal to scale layers calls itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("length", self.length)
        require(self.layers is None or self.layers >= 1, "layers must be 1 or more, or none for all")
        require(self.prompt_std > 0, "prompt_std must be above 0")
        require(self.gate_learning_rate is None or self.gate_learning_rate > 0, "gate_learning_rate must be above 0")
        require_size("init_examples", self.init_examples)
        if self.prompt_mlp:
            require_size("prompt_mlp", self.prompt_mlp)
        if self.prompt_form == "key_value":
            require(not self.prompt_mlp, "prompt_form=key_value has no tokens for prompt_mlp: take one of the two")
            require(not self.prompt_norm, "prompt_form=key_value has no tokens for prompt_norm: take one of the two")
        drawn = self.prompt_init in ("sampled", "kmeans")
        require(
            not (self.prompt_mlp and drawn),
            f"prompt_mlp makes other tokens of what prompt_init={self.prompt_init} starts at: take one of the two",
        )

    def learning_rate_of(self, parameter: str) -> float:
        of_gate = self.gate_learning_rate is not None and parameter.endswith(".zero_gated_prompt.gate")
        return self.gate_learning_rate if of_gate else self.learning_rate  # type: ignore[return-value]  # it is not None

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` for what a setting does not go with: see the functions that this calls."""
        from zipeft.splices.input_norm import input_norm

        self._check(backbone)
        if self.tune_norms_and_biases:
            self._scale_linear_layers(backbone, model)
        self.join_layers(backbone, model)  # prompts pass the scaled projections
        if self.prompt_mlp:
            self._share_networks(backbone, model)
        if self.prompt_norm:
            for block, splice in self._joined(backbone, model):
                splice.joined.normalise(input_norm(block, splice.attention, splice.joined.prompt.shape[1]))
        if self.tune_norms_and_biases:
            train_norms(model)

    def blocks(self, backbone: Backbone, model: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks of all towers that are joined."""
        towers = backbone.towers(model)
        return [block for name in self.towers or towers for block in towers[name]]

    def join_layers(self, backbone: Backbone, model: nn.Module) -> None:
        """Join prompts to the layers of a model."""
        towers = backbone.towers(model)
        self.join(model, [block for name in self.towers or towers for block in topmost(towers[name], self.layers)])

    def join(self, part: nn.Module, blocks: Sequence[nn.Module], length: int | None = None) -> None:
        """Join prompts of ``length`` tokens, the method's own for None, to blocks of a part of a model."""
        from zipeft.splices import attach

        attach(
            part,
            blocks=blocks,
            length=self.length if length is None else length,
            gate=self.gate,
            gate_activation=self.gate_activation,
            gate_init=self.gate_init,
            prompt_std=self.prompt_std,
            prompt_form=self.prompt_form,
        )

    def sample_size(self) -> int:
        return 0 if self.prompt_init == "normal" else self.init_examples

    def initialise(self, backbone: Backbone, model: nn.Module, sample: TrainingSample) -> None:
        """Raises ``UserError`` for training examples that show a layer fewer vectors than its prompt has tokens."""
        from zipeft.methods.prompt_starts import start, vectors_wanted
        from zipeft.splices.layer_inputs import layer_inputs

        def run() -> None:
            for batch in sample:
                sample.outputs(batch)

        splices = [splice for _, splice in self._joined(backbone, model)]
        lengths = [splice.joined.length for splice in splices]
        norms = [splice.joined.norm if self.prompt_norm else None for splice in splices]
        layers = [(splice.attention, norm) for splice, norm in zip(splices, norms, strict=True)]
        taken = layer_inputs(layers, run, vectors_wanted(max(lengths)))
        with backbone.autocast(model):
            for splice, vectors, length in zip(splices, taken, lengths, strict=True):
                splice.start_from(start(self.prompt_init, vectors, length, self.prompt_std))

    def _check(self, backbone: Backbone) -> None:
        """Raise ``UserError`` where an image would enter tokens and there are none."""
        from zipeft.api.language_backbone import VisionLanguageBackbone

        enters = isinstance(backbone, VisionLanguageBackbone) and self.image_entry in ("condition", "early")
        if enters and self.prompt_form == "key_value":
            raise UserError("an image is added to prompt tokens, and prompt_form=key_value has none: take tokens")

    def _scale_linear_layers(self, backbone: Backbone, model: nn.Module) -> None:
        """Give the linear layers of all blocks a scale and a bias that train (LLaMA-Adapter V2, section 3.2).

        Raises ``UserError`` if there is no plain linear layer, and for quantised weights.
        """
        from zipeft.modules.scaled_linear import scale_linears

        if backbone.is_quantised:
            raise UserError(f"{self.scales} does not scale {backbone.dtype} layers: take dtype=bf16, or zero_gated")
        if not scale_linears(self.blocks(backbone, model)):
            raise UserError(f"{self.scales} scales linear layers, and {type(model).__name__} has none; take zero_gated")

    def _joined(self, backbone: Backbone, model: nn.Module) -> Iterator[tuple[nn.Module, Splice]]:
        """Yield each block that is joined with its splice, tower by tower, lowest first."""
        for tower in backbone.towers(model).values():
            for block in tower:
                for module in block.modules():
                    if splice := getattr(module, "zipeft_splice", None):
                        yield block, splice

    def _share_networks(self, backbone: Backbone, model: nn.Module) -> None:
        """Let the prompts of each tower pass one network, a submodule of the model."""
        from zipeft.modules.prompt_mlp import PromptMLP
        from zipeft.splices import gated_prompts

        for name, tower in backbone.towers(model).items():
            prompts = [prompt for block in tower for prompt in gated_prompts(block)]
            if not prompts:
                continue
            first = prompts[0].prompt
            network = PromptMLP(first.shape[1], self.prompt_mlp, first.device)
            model.add_module(f"{name.replace('-', '_')}_prompt_mlp", network)
            for prompt in prompts:
                prompt.share(network)


@dataclass(frozen=True)
class RandomGated(ZeroGated):
    """Ablation of zero_gated: the gates start at random values, N(0, 1), and not at zero."""

    gate_init: Literal["zero", "random"] = "random"
    starts_at_frozen_model: ClassVar[bool] = False


@dataclass(frozen=True)
class ImageGated(ZeroGated):
    """Zero-initialised gated prompts in the image tower alone."""

    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    towers: ClassVar[tuple[str, ...]] = ("image",)


@dataclass(frozen=True)
class TextGated(ZeroGated):
    """Zero-initialised gated prompts in the text tower alone."""

    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    towers: ClassVar[tuple[str, ...]] = ("text",)


def topmost(blocks: Sequence[nn.Module], layers: int | None) -> Sequence[nn.Module]:
    """Return the last ``layers`` of a tower's blocks, all for None. Raises ``UserError`` if it has fewer."""
    if layers is not None and layers > len(blocks):
        raise UserError(f"layers is {layers}; this model has 1 to {len(blocks)} to join")
    return blocks[-layers:] if layers else blocks


def train_norms(model: nn.Module) -> None:
    """Let the norms of a model train."""
    for norm in (module for module in model.modules() if "norm" in type(module).__name__.lower()):
        require_float32(norm.parameters(recurse=False))
        norm.register_forward_hook(_as_taken)


def _as_taken(_norm: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """Return what a norm made in the dtype that it took: its weights are float32 in any model."""
    return output.to(args[0].dtype)
