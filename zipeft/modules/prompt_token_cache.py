"""Prompt tokens in a cache of ``transformers``: their keys and values stand among the text's, and are not counted."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from zipeft.errors import UserError


class PromptedLayer(DynamicLayer):
    """The keys and values (batch, key-value heads, tokens, head dim) of one block, those of prompt tokens among them.

    Whoever asks a cache for its length, to count positions or to make masks, gets that of the text. Nothing is dropped
    where the block has a window: its mask hides what lies outside, and prompts never do.
    """

    def __init__(self, prompts: int) -> None:
        super().__init__()
        self.prompts = prompts

    def get_seq_length(self) -> int:
        return max(super().get_seq_length() - self.prompts, 0)

    def reset(self) -> None:
        """Hold nothing; older releases of transformers would go on from zeros."""
        self.keys = self.values = None
        self.is_initialized = False

    def crop(self, tokens: int) -> None:
        """Keep the first ``tokens`` of the text or, below zero, take so many from its end; zero takes none."""
        keys, values, length = self.keys, self.values, self.get_seq_length()
        if keys is None or values is None or length == 0:
            return
        kept = self.prompts + max(tokens if tokens > 0 else length + tokens, 0)
        self.keys, self.values = keys[..., :kept, :], values[..., :kept, :]


SERVED = {DynamicLayer, DynamicSlidingWindowLayer, PromptedLayer}


def cached_tokens(block: nn.Module, arguments: dict[str, Any]) -> int:
    """Return how many tokens of the text the cache among a block's arguments holds for it, 0 where there is none.

    Where it holds a token it holds the prompts too. Raises ``UserError`` for a cache that has no place for them, and
    for one that holds a text without them.
    """
    cache, index = _cache(arguments), _index(block)
    if cache is None:
        return 0
    layer: Any = None
    if type(cache) is DynamicCache and index is not None:
        layer = cache.layers[index] if index < len(cache.layers) else DynamicLayer()
    if type(layer) not in SERVED:
        kind = f"{type(cache).__name__} of {type(layer).__name__}" if layer else type(cache).__name__
        raise UserError(f"prompt tokens do not go with a {kind} here: take a plain DynamicCache, or use_cache=False")
    if not isinstance(layer, PromptedLayer) and layer.get_seq_length() > 0:
        raise UserError("this cache was filled before the prompt tokens were there: start with an empty one")
    return layer.get_seq_length()


def text_in_cache(arguments: dict[str, Any]) -> bool:
    """Whether the cache among a block's arguments, if there is one, holds the first part of a text already."""
    cache = _cache(arguments)
    return cache is not None and cache.get_seq_length() > 0


def make_room(block: nn.Module, arguments: dict[str, Any], prompts: int) -> None:
    """Let the cache among a block's arguments, if there is one, take the keys and values of so many prompt tokens."""
    cache, index = _cache(arguments), _index(block)
    if cache is not None and index is not None:
        cache.layers += [DynamicLayer() for _ in range(index + 1 - len(cache.layers))]
        cache.layers[index] = PromptedLayer(prompts)


def _cache(arguments: dict[str, Any]) -> Cache | None:
    """Return the cache among arguments, under whatever name a release of transformers has for it."""
    return next((value for value in arguments.values() if isinstance(value, Cache)), None)


def _index(block: Any) -> int | None:
    """Return the place of a block in a cache, which its attention layer knows."""
    return next((module.layer_idx for module in block.modules() if hasattr(module, "layer_idx")), None)
