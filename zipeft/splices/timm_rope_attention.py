"""The splice for timm's ``AttentionRope`` and ``EvaAttention`` (DINOv3, EVA-02, Perception Encoder)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.api.splice import AttentionLayer, HookSplice

CLASSES = (("timm.layers.attention", "AttentionRope"), ("timm.models.eva", "EvaAttention"))


class TimmRopeSplice(HookSplice):
    """Joins timm's attention with a rotary embedding by two hooks, and one more that sees the angles.

    Queries are rotated as the layer itself rotates them. A prompt has no place in the image: its keys stay unrotated,
    as those of the class and register tokens do.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return type(module) in [getattr(sys.modules.get(place), name, None) for place, name in CLASSES]

    @classmethod
    def width_and_heads(cls, attention: AttentionLayer) -> tuple[int, int]:
        return (attention.q_proj if attention.qkv is None else attention.qkv).in_features, attention.num_heads

    def query_module(self) -> nn.Module:
        return self.attention.q_norm

    def result_module(self) -> nn.Module:
        return getattr(self.attention, "norm", self.attention.proj)

    def scale(self) -> float:
        return self.attention.scale

    def install(self) -> None:
        super().install()
        self.handles.append(self.attention.register_forward_pre_hook(self._keep_angles, with_kwargs=True))

    def _keep_angles(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.angles = args[1] if len(args) > 1 else kwargs.get("rope")

    def _keep_query(self, _module: nn.Module, _args: tuple[Any, ...], query: Tensor) -> None:
        from timm.layers import apply_rot_embed_cat

        angles, self.angles = self.angles, None
        if angles is not None:
            unrotated, patches = query.tensor_split([self.attention.num_prefix_tokens], dim=2)
            half = getattr(self.attention, "rotate_half", False)
            rotated = apply_rot_embed_cat(patches, angles, half=half)
            query = torch.cat([unrotated, rotated], dim=2).type_as(query)
        self.query = query

    def frozen(self) -> Sequence[Tensor] | None:
        projections = (self.attention.qkv, self.attention.k_proj, self.attention.v_proj)
        known = all(type(layer) is nn.Linear for layer in projections if layer is not None)
        return super().frozen() if known else None

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        attention = self.attention
        if attention.qkv is None:
            key, value = attention.k_proj(prompt), attention.v_proj(prompt)
        else:
            _, key, value = self._fused(prompt).chunk(3, -1)
        key, value = (x.unflatten(-1, (-1, attention.head_dim)).transpose(-2, -3) for x in (key, value))
        return attention.k_norm(key), value

    def _fused(self, prompt: Tensor) -> Tensor:
        """Project as the layer does: EVA keeps the biases of its fused projection apart from it."""
        attention = self.attention
        if getattr(attention, "q_bias", None) is None:
            return attention.qkv(prompt)
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        if attention.qkv_bias_separate:
            return attention.qkv(prompt) + bias
        return functional.linear(prompt, attention.qkv.weight, bias)
