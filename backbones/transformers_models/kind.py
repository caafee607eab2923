"""Models of ``transformers`` of one kind: built from a folder or at random, and refused where a method would not work.

What the library passes over is an error here: weights that lack a part, which it draws at random, weights of layers
that the config does not have, and tables of another size.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft.backbones.transformers_models import folder as model_folder
from zipeft.backbones.transformers_models.folder import quiet
from zipeft.errors import UserError, described
from zipeft.sources.tensors import check_finite

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

BUFFERS = ("position_ids", "token_type_ids", "inv_freq")
"""Constants that older files hold among the weights."""


@dataclass(frozen=True)
class Kind:
    """A kind of model: encoders, say.

    Args:
        auto: the name of the class of ``transformers`` that builds the model of a config, "AutoModel" say.
        classes: the name of the mapping of ``transformers`` from a config to the class of the model.
        check: raises ``UserError`` unless a model is one that every method can join.
        advice: what to take instead of a model that is refused.
        hidden_only: whether hidden states are all that is taken from a model; parts that they do not need are dropped.
        end_pads: whether any token may pad, the end token say: in a decoder nothing sees what stands behind it, and
            many come without a padding token.
    """

    auto: str
    classes: str
    check: Callable[[PreTrainedModel], None]
    advice: str
    hidden_only: bool = False
    end_pads: bool = False

    def load(self, folder: Path) -> PreTrainedModel:
        """Return the model of a folder in float32 and evaluation mode, without a pooling layer where it can be.

        Parts of the weights that the model has no use for, such as a head, are dropped; all else must match. Raises
        ``UserError`` if it does not, and as ``check``.
        """
        config = model_folder.read_config(folder)
        self.check_config(config)
        model_class = self.model_class(config)
        # Read here and not by the library, so that what is hashed is what is loaded, and nothing else in the folder is.
        state = model_folder.read_state(folder)
        with self._built(model_class):
            loaded: Any = model_class.from_pretrained(
                None,
                config=config,
                state_dict=state,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report
                **_options(model_class),
            )
        model, report = loaded  # with ``output_loading_info`` it is both
        if problem := _mismatch(model, report):
            raise UserError(f"the weights in {str(folder)!r} are not those of the model in its config: {problem}")
        check_finite(model.named_parameters(), folder)
        if model.can_generate() and (ends := model_folder.end_tokens(folder)):
            model.generation_config.eos_token_id = ends
        return self._checked(model.eval())

    def at_random(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Return the model of a config at random weights, the same each time, in float32 and evaluation mode.

        Raises ``UserError`` as ``check`` does.
        """
        import transformers

        model_class = self.model_class(config)
        with self._built(model_class):
            auto = getattr(transformers, self.auto)
            model = auto.from_config(copy.deepcopy(config), trust_remote_code=False, **_options(model_class))
        return self._checked(model.eval())

    def check_config(self, config: PreTrainedConfig) -> None:
        """Check the model of a config as far as that goes without its weights and their memory."""
        import torch

        with torch.device("meta"):
            self.at_random(config)

    def model_class(self, config: PreTrainedConfig) -> type[PreTrainedModel]:
        """Return the class of a config's model. Raises ``UserError`` if there is none of this kind."""
        import transformers

        found = getattr(transformers, self.classes).get(type(config), None)
        if found is None:
            raise UserError(f"transformers has no model of this kind for {type(config).__name__}: {self.advice}")
        return found[0] if isinstance(found, tuple) else found

    def longest_input(self, config: PreTrainedConfig) -> int:
        """Return for how many tokens a model has positions; where they are relative, as many as an int can say."""
        rows = getattr(config, "max_position_embeddings", None) or sys.maxsize
        return rows - (config.pad_token_id or 0) - 1 if self.counts_from_padding(config) else rows

    def counts_from_padding(self, config: PreTrainedConfig) -> bool:
        """Whether positions are counted from the padding id plus one, as RoBERTa and its kin do."""
        code = sys.modules[self.model_class(config).__module__]
        parts = (part for part in vars(code).values() if inspect.isclass(part) and part.__module__ == code.__name__)
        return any(hasattr(part, "create_position_ids_from_input_ids") for part in (code, *parts))

    def _checked(self, model: PreTrainedModel) -> PreTrainedModel:
        self.check(model)
        if self.hidden_only:
            drop_unused(model)
        return model

    @contextmanager
    def _built(self, model_class: type[PreTrainedModel]) -> Iterator[None]:
        """Build a model without a trace in the random numbers of others, and word what the library raises."""
        import torch

        try:
            with torch.random.fork_rng(devices=[]), quiet():
                torch.default_generator.manual_seed(0)
                yield
        except Exception as error:  # what sizes, kernels or tensors that do not go together raise is no contract
            raise UserError(f"{model_class.__name__} cannot be built ({described(error)}): {self.advice}") from error


def layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers in order: the list in the model that is as long as its config says; empty if there is none."""
    from torch import nn

    count = getattr(model.config, "num_hidden_layers", None)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return list(next((found for found in lists if len(found) == count), ()))


def attentions(model: nn.Module) -> list[nn.Module] | None:
    """Return the attention of each layer; None unless each has one that every method can join."""
    found = [[part for part in layer.modules() if _all_join(part)] for layer in layers(model)]
    return [inside for (inside,) in found] if found and all(len(inside) == 1 for inside in found) else None


def _all_join(part: nn.Module) -> bool:
    """Whether a prefix joins an attention, which asks more of it than a gated prompt, and LoRA knows its names."""
    from zipeft.splices import PrefixSplice

    return PrefixSplice.matches(part) and any(hasattr(part, name) for name in ("q_proj", "query"))


def why_not(model: nn.Module) -> str:
    """Return, in brackets, what keeps attention layers of a model from being joined; "" where nothing is known."""
    from zipeft.splices import PrefixSplice
    from zipeft.splices.unjoined import unjoined

    found = [part for part in model.modules() if _all_join(part)]
    others = unjoined(model, found, [PrefixSplice])
    return f" (not {others})" if others else ""


def looks_back_only(model: PreTrainedModel, advice: str) -> bool:
    """Whether a token does not see those behind it, by two short inputs that differ in their last one.

    Raises ``UserError`` if the layers do not hand hidden states on to each other.
    """
    import torch

    name, found, passed = type(model).__name__, layers(model), []

    def keep(layer: nn.Module, taken: tuple[Any, ...], given: Any) -> None:
        passed.append((layer, *taken[:1], given))

    one, other = [token for token in range(3) if token != model.config.pad_token_id][:2]
    ids = torch.tensor([[one, one], [one, other]])
    handles = [layer.register_forward_hook(keep) for layer in found]
    try:
        with torch.no_grad():
            hidden = model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    except Exception as error:  # it asks for other inputs, or gives other outputs
        raise UserError(f"{name} does not turn token ids into hidden states ({described(error)}): {advice}") from error
    finally:
        for handle in handles:
            handle.remove()
    shape = (*ids.shape, model.config.hidden_size)
    states = [state for _, *both in passed for state in both]
    if [layer for layer, *_ in passed] != found or any(getattr(state, "shape", 0) != shape for state in states):
        raise UserError(f"the layers of {name} do not hand hidden states on, one to the next: {advice}")
    return torch.allclose(hidden[0, 0], hidden[1, 0], rtol=0, atol=1e-6)


def drop_unused(model: PreTrainedModel) -> None:
    """Replace each part that the hidden states do not depend on, such as a pooling layer, by an identity.

    Such a part would train, or count as trainable, without any effect on a run.
    """
    import torch
    from torch import nn
    from torch._subclasses.fake_tensor import FakeTensorMode

    without_weights = model.device.type == "meta"
    with torch.enable_grad(), FakeTensorMode(allow_non_fake_inputs=True) if without_weights else nullcontext():
        ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        try:
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        except Exception:  # what is wrong with it is said once it has weights
            if without_weights:
                return
            raise
    used = _leaves(hidden)
    for name, part in list(model.named_children()):
        own = set(part.parameters())
        if own and own.isdisjoint(used):
            setattr(model, name, nn.Identity())


def _leaves(result: Tensor) -> set[Tensor]:
    """Return the parameters that a result was computed from."""
    seen, waiting = set(), [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(before for before, _ in node.next_functions)
    return {node.variable for node in seen if hasattr(node, "variable")}


def _options(model_class: type[PreTrainedModel]) -> dict[str, Any]:
    import torch

    pooling = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    options = {"add_pooling_layer": False} if pooling else {}
    return {**options, "dtype": torch.float32, "attn_implementation": "sdpa"}


def _mismatch(model: PreTrainedModel, report: Mapping[str, Any]) -> str:
    """Say what in the report of a loading does not match, "" if all does; a pooling layer is of no account."""
    if missing := sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")):
        return f"it lacks {missing[0]!r}"
    for key, given, own in sorted(report["mismatched_keys"]):
        return f"{key!r} is {tuple(given)}, not {tuple(own)}"
    parts = {name for name, _ in model.named_children()} - {"pooler"}
    for key in sorted(report["unexpected_keys"]):
        path = key.removeprefix(f"{model.base_model_prefix}.").split(".")
        if path[0] in parts and path[-1] not in BUFFERS:
            return f"it has {key!r}, which the model has not"
    return ""
