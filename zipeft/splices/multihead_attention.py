"""The splice for ``torch.nn.MultiheadAttention`` (open_clip up to 3.3, torchvision, plain PyTorch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.api.splice import AttentionLayer, Splice
from zipeft.modules.attention_masks import merge_masks
from zipeft.splices.fused_qkv import key_and_value


class MultiheadSplice(Splice):
    """Joins ``nn.MultiheadAttention``, whose forward hides the queries: its in-projection, then the fused attention.

    Where the caller asks for attention weights, which the fused attention does not return, the layer's own forward
    runs, and the term joins behind the output projection, which is linear, at the price of a second one.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return type(module) is nn.MultiheadAttention and not cls.objection(module)

    @classmethod
    def objection(cls, module: nn.Module) -> str:
        if type(module) is not nn.MultiheadAttention:
            return ""
        if not module._qkv_same_embed_dim:
            return "its keys or values come from another width than its queries"
        return "it adds a key of its own" if module.bias_k is not None or module.add_zero_attn else ""

    @classmethod
    def width_and_heads(cls, attention: AttentionLayer) -> tuple[int, int]:
        return attention.embed_dim, attention.num_heads

    def install(self) -> None:
        self.attention.forward = self._forward
        # PyTorch's encoder layers have an inference path that reads the weights past this forward. It is not taken
        # where a hook is present.
        self.handle = self.attention.register_forward_pre_hook(_no_fast_path)

    def remove(self) -> None:
        del self.attention.forward
        self.handle.remove()

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        layer = self.attention
        return key_and_value(layer.in_proj_weight, layer.in_proj_bias, prompt, layer.num_heads)

    def frozen(self) -> Sequence[Tensor]:
        # By name: peft's LoRA puts plain tensors in the parameters' place.
        return [t for t in (self.attention.in_proj_weight, self.attention.in_proj_bias) if t is not None]

    def _in_projection(self) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
        bias = self.attention.in_proj_bias
        return self.attention.in_proj_weight.chunk(3), (None,) * 3 if bias is None else bias.chunk(3)

    def _forward(
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
        if query.is_nested:  # how ``nn.TransformerEncoder`` packs a padded batch for its inference path
            padded = query.to_padded_tensor(0.0)
            lengths = torch.tensor([len(example) for example in query.unbind()], device=query.device)
            padding = torch.arange(padded.shape[1], device=query.device) >= lengths[:, None]
            result, _ = self._forward(padded, padded, padded, padding, need_weights=False)
            return torch._nested_tensor_from_mask(result, ~padding), None
        if need_weights or query.dim() == 2:
            masks = {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask, "is_causal": is_causal}
            weights = {"need_weights": need_weights, "average_attn_weights": average_attn_weights}
            return self._own_forward(query, key, value, **masks, **weights)
        attention = self.attention
        self_attention = query is key and key is value
        if attention.batch_first:  # the arithmetic is in PyTorch's own order, so that results agree to the last bit
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (self._heads(x) for x in self._queries_keys_values(query, key, value, self_attention))
        mask, is_causal = merge_masks(q, key_padding_mask, attn_mask, is_causal)
        dropout = attention.dropout if attention.training else 0.0
        out = functional.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
        out = out + self.term(q, q.shape[-1] ** -0.5)
        queries, batch, width = query.shape
        out = out.permute(2, 0, 1, 3).reshape(queries * batch, width)
        out = functional.linear(out, attention.out_proj.weight, attention.out_proj.bias).view(queries, batch, width)
        return out.transpose(0, 1) if attention.batch_first else out, None

    def _queries_keys_values(self, query: Tensor, key: Tensor, value: Tensor, self_attention: bool) -> Sequence[Tensor]:
        """Project (tokens, batch, width), in one product where it is self-attention."""
        if self_attention:
            return functional.linear(query, self.attention.in_proj_weight, self.attention.in_proj_bias).chunk(3, -1)
        weight, bias = self._in_projection()
        return [functional.linear(x, w, b) for x, w, b in zip((query, key, value), weight, bias, strict=True)]

    def _heads(self, x: Tensor) -> Tensor:
        """(tokens, batch, width) to (batch, heads, tokens, head dim)."""
        return x.unflatten(-1, (self.attention.num_heads, -1)).permute(1, 2, 0, 3)

    def _own_forward(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
        attention = self.attention
        output, weights = nn.MultiheadAttention.forward(attention, query, key, value, **options)
        batched = query if query.dim() == 3 else query[:, None]
        tokens_first = batched if query.dim() == 2 or not attention.batch_first else batched.transpose(0, 1)
        weight, bias = self._in_projection()
        q = self._heads(functional.linear(tokens_first, weight[0], bias[0]))
        term = self.term(q, q.shape[-1] ** -0.5).permute(2, 0, 1, 3).flatten(2)
        if query.dim() == 2 or attention.batch_first:
            term = term.transpose(0, 1)
        term = functional.linear(term, attention.out_proj.weight)
        return output + term.view_as(output), weights


def _no_fast_path(_module: nn.Module, _args: tuple[Any, ...]) -> None:
    """Does nothing; that it is there is the point."""
