"""The splice for open_clip's own ``Attention`` (its custom blocks; in versions after 3.3 its blocks in general)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from zipeft.splices.base import Splice
from zipeft.splices.timm_attention import TimmSplice

PARTS = {"ln_q", "ln_k", "attn_drop", "ln_inner", "out_proj", "out_drop"}


class OpenCLIPSplice(TimmSplice):
    """Joins open_clip's ``Attention`` by two hooks, as timm's is joined.

    ``ln_q`` (an identity where there is no QK-norm) returns the queries as the softmax takes them; the result enters
    ``ln_inner`` (an identity likewise) on its way to the output projection. A layer is known by its parts, since the
    class has moved and changed between versions; with cosine attention, a scale for each head, or keys and values of
    another width than the queries' it is not joined.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return (
            type(module).__name__ == "Attention"
            and {name for name, _ in module.named_children()} == PARTS
            and getattr(module, "in_proj_weight", None) is not None
            and module.logit_scale is None
            and module.head_scale is None
        )

    @classmethod
    def width_and_heads(cls, attention: nn.Module) -> tuple[int, int]:
        return attention.out_proj.in_features, attention.num_heads

    def install(self) -> None:
        self.handles = [
            self.attention.ln_q.register_forward_hook(self._keep_query),
            self.attention.ln_inner.register_forward_pre_hook(self._add_term),
        ]

    def frozen(self) -> list[Tensor] | None:
        return Splice.frozen(self)

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        attention = self.attention
        _, *weight = attention.in_proj_weight.chunk(3)
        _, *bias = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        key, value = (functional.linear(prompt, w, b) for w, b in zip(weight, bias, strict=True))
        key, value = (x.unflatten(-1, (attention.num_heads, -1)).transpose(-2, -3) for x in (key, value))
        return attention.ln_k(key), value
