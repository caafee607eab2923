"""The splice for open_clip's own ``Attention`` (its custom blocks; in versions after 3.3 its blocks in general)."""

from __future__ import annotations

from torch import Tensor, nn

from zipeft.api.splice import AttentionLayer, HookSplice
from zipeft.splices.fused_qkv import key_and_value

PARTS = {"ln_q", "ln_k", "attn_drop", "ln_inner", "out_proj", "out_drop"}


class OpenCLIPSplice(HookSplice):
    """Joins open_clip's ``Attention``: ``ln_q`` returns the queries, and ``ln_inner`` takes the result.

    Both are identities where the model has no such norm. A layer is known by its parts, since the class has moved and
    changed between versions. It is not joined where it has cosine attention, or keys and values of another width than
    the queries'. A scale for each head, which comes before ``ln_inner``, scales the term too.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return (
            type(module).__name__ == "Attention"
            and {name for name, _ in module.named_children()} == PARTS
            and getattr(module, "in_proj_weight", None) is not None
            and module.logit_scale is None
        )

    @classmethod
    def width_and_heads(cls, attention: AttentionLayer) -> tuple[int, int]:
        return attention.out_proj.in_features, attention.num_heads

    def query_module(self) -> nn.Module:
        return self.attention.ln_q

    def result_module(self) -> nn.Module:
        return self.attention.ln_inner

    def scale(self) -> float:
        return self.attention.scale

    def term(self, query: Tensor, scale: float, cap: float | None = None) -> Tensor:
        term, each = super().term(query, scale, cap), self.attention.head_scale
        return term if each is None else term * each

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        layer = self.attention
        key, value = key_and_value(layer.in_proj_weight, layer.in_proj_bias, prompt, layer.num_heads)
        return layer.ln_k(key), value
