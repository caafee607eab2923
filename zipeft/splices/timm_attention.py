"""The splice for timm's ``Attention``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch import Tensor, nn

from zipeft.api.splice import AttentionLayer, HookSplice
from zipeft.splices.fused_qkv import key_and_value, split_heads


class TimmSplice(HookSplice):
    """Joins timm's ``Attention``: ``q_norm`` returns the queries, and ``norm`` takes the result.

    Both are identities where the model has no such norm.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        timm = sys.modules.get("timm.layers.attention") or sys.modules.get("timm.models.vision_transformer")
        return timm is not None and type(module) is timm.Attention

    @classmethod
    def width_and_heads(cls, attention: AttentionLayer) -> tuple[int, int]:
        return attention.qkv.in_features, attention.num_heads

    def query_module(self) -> nn.Module:
        return self.attention.q_norm

    def result_module(self) -> nn.Module:
        return getattr(self.attention, "norm", self.attention.proj)

    def scale(self) -> float:
        return self.attention.scale

    def frozen(self) -> Sequence[Tensor] | None:
        return super().frozen() if type(self.attention.qkv) is nn.Linear else None

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        qkv, heads = self.attention.qkv, self.attention.num_heads
        if type(qkv) is nn.Linear:
            key, value = key_and_value(qkv.weight, qkv.bias, prompt, heads)
        else:  # wrapped by LoRA, quantised: only the layer itself knows how to project
            _, key, value = (split_heads(x, heads) for x in qkv(prompt).chunk(3, -1))
        return self.attention.k_norm(key), value
