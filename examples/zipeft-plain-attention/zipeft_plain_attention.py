"""A model's own attention layer, and the splice that joins prompts to it.

``PlainAttention`` stands for the class of yours: import it from where it is, and delete it here.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from zipeft import Splice


class PlainAttention(nn.Module):
    """Self-attention with four projections: (batch, tokens, width) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split(projection(x), self.heads) for projection in (self.query, self.key, self.value))
        result = functional.scaled_dot_product_attention(query, key, value)
        return self.output(result.transpose(1, 2).flatten(2))


class PlainAttentionSplice(Splice):
    """Joins ``PlainAttention`` by two hooks (an example of a third-party plug-in).

    The layer's forward stays as it is. The first hook keeps the queries, which the query projection returns, and the
    second adds the prompt's term to what enters the output projection.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        # Not a subclass, which may compute something else: to join it wrongly is worse than not to join it.
        return type(module) is PlainAttention

    @classmethod
    def width_and_heads(cls, attention: PlainAttention) -> tuple[int, int]:
        return attention.query.in_features, attention.heads

    def install(self) -> None:
        self.handles = [
            self.attention.query.register_forward_hook(self._keep_query),
            self.attention.output.register_forward_pre_hook(self._add_term),
        ]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (..., heads, length, head dim) of prompts (..., length, width)."""
        layer = self.attention
        return split(layer.key(prompt), layer.heads), split(layer.value(prompt), layer.heads)

    def _keep_query(self, _module: nn.Module, _inputs: tuple[Tensor], query: Tensor) -> None:
        self.query = split(query, self.attention.heads)

    def _add_term(self, _module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        term = self.term(self.query, self.query.shape[-1] ** -0.5)
        del self.query
        return (inputs[0] + term.transpose(1, 2).flatten(2),)


def split(x: Tensor, heads: int) -> Tensor:
    """(..., tokens, width) to (..., heads, tokens, head dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)
