"""What a rotary embedding of ``transformers`` does to the keys of the first token, which it does not rotate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zipeft.errors import UserError


class FirstToken(NamedTuple):
    """The numbers from ``start`` to ``stop`` of each head's keys are multiplied by ``factor``.

    YaRN and LongRoPE set the temperature of the softmax by multiplying queries and keys alike.
    """

    factor: float = 1.0
    start: int = 0
    stop: int = 0

    def scaled(self, key: Tensor) -> Tensor:
        """Return keys (..., head dim) as they are at the first position."""
        if self.factor == 1.0:
            return key
        before, rotated, after = key.tensor_split((self.start, self.stop), dim=-1)
        return torch.cat([before, rotated * self.factor, after], dim=-1)


def first_token(attention: nn.Module, keys_at: Callable[[Tensor, Tensor], Tensor]) -> FirstToken:
    """Return what happens to a layer's keys at the first position.

    Args:
        attention: the layer.
        keys_at: returns the keys (..., head dim) that the layer makes of a token at given cosines and sines; it tells
            what is rotated, for some models pass over some layers, or some part of each head.

    Raises: ``UserError`` where the layer takes no such cosines and sines.
    """
    scaled_by, frequencies = _factor_and_frequencies(attention)
    if scaled_by == 1.0 or next(attention.parameters()).is_meta:
        return FirstToken()
    for count in (2 * frequencies, frequencies):  # most models have each cosine twice, one for either of a pair
        ones = torch.ones(1, 1, count)
        try:
            plain, doubled = (keys_at(cosine, torch.zeros_like(ones)) for cosine in (ones, 2 * ones))
        except Exception:  # what numbers that do not go together raise is no contract
            continue
        rotated = (plain != doubled).flatten(0, -2).any(0).nonzero().flatten().tolist()
        if rotated == list(range(*(ends := (rotated[0], rotated[-1] + 1) if rotated else (0, 0)))):
            return FirstToken(scaled_by, *ends)
    raise UserError(f"how the rotary embedding of {type(attention).__name__} scales its keys is not understood")


def factor(attention: nn.Module) -> float:
    """Return by what a layer's rotary embedding multiplies queries and keys."""
    return _factor_and_frequencies(attention)[0]


def _factor_and_frequencies(attention: nn.Module) -> tuple[float, int]:
    """Return by what cosines and sines are multiplied, and how many frequencies there are; a config says both."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    settings, layer_type = _settings(attention)
    kind = settings.get("rope_type", "default")
    if kind not in ROPE_INIT_FUNCTIONS:  # the plain embedding is each model's own
        return 1.0, 0
    frequencies, scaled_by = ROPE_INIT_FUNCTIONS[kind](attention.config, "cpu", **layer_type)
    return float(scaled_by), len(frequencies)


def _settings(attention: nn.Module) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the rotary settings of a layer, and by what name its type has them, where each type has its own."""
    config = attention.config
    found = getattr(config, "rope_parameters", None) or {}
    types, index = getattr(config, "layer_types", None), getattr(attention, "layer_idx", None)
    if not types or index is None or types[index] not in found:
        return found, {}
    return found[types[index]] or {}, {"layer_type": types[index]}
