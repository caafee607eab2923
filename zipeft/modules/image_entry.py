"""How an image enters a language model: as a condition of its gated prompts, or as learnt tokens in front of the text.

Either way a projection of the image's features is learnt: one linear layer, as LLaVA has it (arXiv 2304.08485), or a
bottleneck of two, as LLaMA-Adapter does (arXiv 2303.16199, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zipeft.modules.prompt_token_cache import text_in_cache
from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt


def projection(features: int, width: int, bottleneck: int = 0) -> nn.Module:
    """Return a float32 projection of image features: linear, or through ``bottleneck`` channels and a SiLU."""
    if not bottleneck:
        return nn.Linear(features, width)
    return nn.Sequential(nn.Linear(features, bottleneck), nn.SiLU(), nn.Linear(bottleneck, width))


class ImageEntry(nn.Module):
    """What shows images to the model that it is a part of. ``length`` tokens of the sequence stand for an image."""

    length = 0

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def shown(self, model: nn.Module, image: Tensor, has_image: Tensor) -> Any:
        """Return a context in which a model is shown a batch of images: ``image`` (batch, features), and ``has_image``
        (batch, 1), False where there is none."""
        raise NotImplementedError

    def _apply(self, fn: Any, recurse: bool = True) -> ImageEntry:
        """Follow the model to another device, but stay float32: small updates vanish in half precision."""

        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)


class ImageCondition(ImageEntry):
    """Adds the projected image (batch, width) to each prompt token of the gated prompts of a model: LLaMA-Adapter's
    equation for P_l^v. Where there is no image nothing is added."""

    @contextmanager
    def shown(self, model: nn.Module, image: Tensor, has_image: Tensor) -> Iterator[None]:
        condition = self.projection(image) * has_image
        prompts = self.conditioned([module for module in model.modules() if isinstance(module, ZeroGatedPrompt)])
        for prompt in prompts:
            prompt.condition = condition
        try:
            yield
        finally:
            for prompt in prompts:
                prompt.condition = None

    def conditioned(self, prompts: Sequence[ZeroGatedPrompt]) -> Sequence[ZeroGatedPrompt]:
        """Return which of a model's prompts, lowest layer first, the image is added to: all."""
        return prompts


class EarlyCondition(ImageCondition):
    """Adds the projected image to the prompts of the lowest layer alone: the early fusion of LLaMA-Adapter V2
    (arXiv 2304.15010), whose visual tokens join an early layer while those of later ones are static."""

    def conditioned(self, prompts: Sequence[ZeroGatedPrompt]) -> Sequence[ZeroGatedPrompt]:
        return prompts[:1]


class ImageTokens(ImageEntry):
    """Puts the projected image, (batch, length * width), into the first ``length`` places of the sequence.

    The text arrives with so many tokens in front whose hidden states, before the first block, are replaced.
    """

    def __init__(self, projection: nn.Module, length: int) -> None:
        super().__init__(projection)
        self.length = length
        self._tokens: Tensor | None = None

    def enter(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace the hidden states of the places, unless the block's cache holds them; a forward pre-hook."""
        if self._tokens is None or text_in_cache(kwargs):
            return args, kwargs
        hidden, *rest = args
        return (torch.cat([self._tokens.to(hidden.dtype), hidden[:, self.length :]], dim=1), *rest), kwargs

    @contextmanager
    def shown(self, model: nn.Module, image: Tensor, has_image: Tensor) -> Iterator[None]:
        self._tokens = self.projection(image).unflatten(1, (self.length, -1))
        try:
            yield
        finally:
            self._tokens = None
