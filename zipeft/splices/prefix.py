"""The splice that lets learnt keys and values join an attention layer of ``transformers``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zipeft.api.splice import AttentionLayer
from zipeft.errors import UserError
from zipeft.modules.prefix import Prefix, widened
from zipeft.splices.attention_interface import InterfaceSplice, dispatches
from zipeft.splices.transformers_attention import key_value_heads, objection, separate


class PrefixSplice(InterfaceSplice):
    """Joins a ``Prefix`` to layers of three projections that ``TransformersSplice`` joins gated prompts to.

    The model's own kernel (sdpa or eager) runs once, over the learnt keys and the tokens' own; every query sees the
    learnt ones, whatever its mask says of the tokens. Attention weights that a model returns begin with the prefix's.
    """

    name = "prefix"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return dispatches(module) and separate(module) is not None and not objection(module)

    @classmethod
    def objection(cls, module: nn.Module) -> str:
        if not dispatches(module):
            return ""
        return objection(module) or ("" if separate(module) else "its projections are not three linear layers")

    @classmethod
    def make(cls, attention: AttentionLayer, **settings: Any) -> Prefix:
        heads, head_dim = key_value_heads(attention)
        return Prefix(heads, head_dim=head_dim, device=next(attention.parameters()).device, **settings)

    def attend(
        self, kernel: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Raises ``UserError`` for a kernel other than sdpa and eager, for others mask by positions and lengths."""
        if kernel not in ("sdpa", "eager"):
            raise UserError(f"a prefix goes with sdpa or eager attention, not with {kernel}")
        if mask is None and kernel == "sdpa" and self._looks_back(query, options):
            mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
        if mask is not None:
            mask = widened(mask, self.joined.length)
        if (bias := options.get("position_bias")) is not None:  # T5's: learnt keys have no position
            options["position_bias"] = widened(bias, self.joined.length)
        return self.run(kernel, query, *self.joined(key, value), mask, **options)

    def _looks_back(self, query: Tensor, options: dict[str, Any]) -> bool:
        """Whether sdpa without a mask is causal, as transformers decides it: a lone query sees everything."""
        asked = options.get("is_causal")
        return query.shape[2] > 1 and (getattr(self.attention, "is_causal", True) if asked is None else asked)
