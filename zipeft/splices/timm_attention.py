"""The splice for timm's ``Attention``."""

from __future__ import annotations

import sys

from torch import Tensor, nn
from torch.nn import functional

from zipeft.splices.base import Splice


class TimmSplice(Splice):
    """Joins timm's ``Attention`` by two hooks, so that its forward stays timm's own, fused kernel and masks and all.

    ``q_norm`` (an identity where there is no QK-norm) returns the queries as the softmax takes them; the result enters
    ``norm`` (an identity likewise) on its way to the output projection.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        timm = sys.modules.get("timm.layers.attention") or sys.modules.get("timm.models.vision_transformer")
        return timm is not None and type(module) is timm.Attention

    @classmethod
    def width_and_heads(cls, attention: nn.Module) -> tuple[int, int]:
        return attention.qkv.in_features, attention.num_heads

    def install(self) -> None:
        before_output = getattr(self.attention, "norm", self.attention.proj)
        self.handles = [
            self.attention.q_norm.register_forward_hook(self._keep_query),
            before_output.register_forward_pre_hook(self._add_term),
        ]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _keep_query(self, _module: nn.Module, _args: tuple, query: Tensor) -> None:
        self.query = query

    def _add_term(self, _module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        term = self.term(self.query, self.attention.scale)
        del self.query
        return (args[0] + term.transpose(1, 2).flatten(2),)

    def frozen(self) -> list[Tensor] | None:
        return super().frozen() if type(self.attention.qkv) is nn.Linear else None

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        attention = self.attention
        if type(attention.qkv) is nn.Linear:  # the keys' and values' two thirds of the fused projection
            _, *weight = attention.qkv.weight.chunk(3)
            _, *bias = attention.qkv.bias.chunk(3) if attention.qkv.bias is not None else (None, None, None)
            key, value = (functional.linear(prompt, w, b) for w, b in zip(weight, bias, strict=True))
        else:  # wrapped by LoRA, quantised: only the layer itself knows how to project
            _, key, value = attention.qkv(prompt).chunk(3, -1)
        key, value = (x.unflatten(-1, (attention.num_heads, -1)).transpose(-2, -3) for x in (key, value))
        return attention.k_norm(key), value
