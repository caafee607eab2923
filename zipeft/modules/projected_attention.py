"""PyTorch's own attention with projections that are linear layers, so that methods can adapt them.

``nn.MultiheadAttention`` reads the weights of its projections and calls no layer: what is put around or in the place of
a layer has no effect there. (peft adapts it by adding to the weights for each forward pass, which leaves them off by
rounding, and adds its update of the output projection twice.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.errors import UserError
from zipeft.modules.attention_masks import merge_masks


class ProjectedAttention(nn.Module):
    """Computes what an ``nn.MultiheadAttention`` does, on the same parameters, through the layers ``in_proj`` (queries,
    keys and values in one) and ``out_proj``."""

    in_proj_bias: ClassVar[None] = None
    """By its lack PyTorch's encoder layer knows that it cannot read the weights past this module."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.batch_first = attention.num_heads, attention.dropout, attention.batch_first
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        with torch.device("meta"):
            self.in_proj = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        self.in_proj.weight = weight
        if bias is not None:
            self.in_proj.bias = bias
        self.out_proj: nn.Module = attention.out_proj
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Take and return what ``nn.MultiheadAttention`` does."""
        if query.dim() == 2:
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
            output, weights = self._attend(
                query[:, None], key[:, None], value[:, None], key_padding_mask, need_weights, attn_mask, is_causal
            )
            output, weights = output[:, 0], None if weights is None else weights[0]
        elif self.batch_first:  # the arithmetic is in PyTorch's own order, so that results agree to the last bit
            own = query.transpose(0, 1)
            other = own if key is query else key.transpose(0, 1)
            values = other if value is key else value.transpose(0, 1)
            output, weights = self._attend(own, other, values, key_padding_mask, need_weights, attn_mask, is_causal)
            output = output.transpose(0, 1)
        else:
            output, weights = self._attend(query, key, value, key_padding_mask, need_weights, attn_mask, is_causal)
        if weights is not None and average_attn_weights:
            weights = weights.mean(-3)
        return output, weights

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool,
        attn_mask: Tensor | None,
        is_causal: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (tokens, batch, width), and the weights (batch, heads, queries, keys) if they are needed."""
        q, k, v = (self._heads(x) for x in self._projected(query, key, value))
        mask, is_causal = merge_masks(q, key_padding_mask, attn_mask, is_causal and not need_weights)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            weights = functional.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            out = weights @ v
        else:
            out = functional.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
        queries, batch, _ = query.shape
        out = self.out_proj(out.permute(2, 0, 1, 3).reshape(queries * batch, -1))
        return out.view(queries, batch, -1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        """Return queries, keys and values; each input goes through the layer once."""
        of = {id(x): self.in_proj(x).chunk(3, -1) for x in (query, key, value)}
        return [of[id(x)][part] for part, x in enumerate((query, key, value))]

    def _heads(self, x: Tensor) -> Tensor:
        """(tokens, batch, width) to (batch, heads, tokens, head dim)."""
        return x.unflatten(-1, (self.num_heads, -1)).permute(1, 2, 0, 3)


def own_attention(model: nn.Module) -> None:
    """Take back ``project_attention``, in place: attention is PyTorch's own again, on the same parameters."""
    for name, module in list(model.named_modules()):
        if isinstance(module, ProjectedAttention):
            width, bias = module.in_proj.in_features, module.in_proj.bias
            with torch.device("meta"):
                attention = nn.MultiheadAttention(
                    width, module.num_heads, module.dropout, bias is not None, batch_first=module.batch_first
                )
            attention.register_parameter("in_proj_weight", cast(nn.Parameter, module.in_proj.weight))
            attention.register_parameter("in_proj_bias", cast("nn.Parameter | None", bias))
            attention.out_proj = module.out_proj  # type: ignore[assignment]  # the layer that it was
            model.set_submodule(name, attention.train(module.training))


def project_attention(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Give PyTorch's own attention that is targeted, whole or by a projection, layers for its projections, in place;
    return the targets, with the projections in the place of attention as a whole.

    Args:
        targets: names of modules, or ends of names behind a point.

    Raises: ``UserError`` for attention that has inputs of several widths, or keys and values of its own.
    """
    for name, attention in list(model.named_modules()):
        if isinstance(attention, nn.MultiheadAttention) and any(
            _is_targeted(part, targets) for part in (name, *_projections(name))
        ):
            if not attention._qkv_same_embed_dim or attention.bias_k is not None or attention.add_zero_attn:
                raise UserError(f"the projections of {name} cannot be adapted: name other layers than {targets[0]}")
            model.set_submodule(name, ProjectedAttention(attention))
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # packed batches are for layers that read the weights
    return [layer for target in targets for layer in _layers(model, target)]


def _layers(model: nn.Module, target: str) -> list[str]:
    """Return a target as it is, or where attention has its name, the names of all that it means."""
    modules = targeted(model, [target])
    if not any(isinstance(module, ProjectedAttention) for module in modules.values()):
        return [target]
    return [
        layer
        for name, module in modules.items()
        for layer in (_projections(name) if isinstance(module, ProjectedAttention) else [name])
    ]


def _projections(name: str) -> list[str]:
    return [f"{name}.in_proj", f"{name}.out_proj"]


def targeted(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Module]:
    """Return the modules of these names, or with names that end in them behind a point, as peft takes them."""
    return {name: module for name, module in model.named_modules() if _is_targeted(name, targets)}


def _is_targeted(name: str, targets: Sequence[str]) -> bool:
    return name in targets or name.endswith(tuple(f".{target}" for target in targets))
