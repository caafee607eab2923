"""Prefix tuning: keys and values that are learnt (arXiv 2101.00190; in every layer, P-tuning v2, arXiv 2110.07602)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Prefix(nn.Module):
    """Learnt keys and values that stand before those of the tokens in one attention layer.

    With queries q, and keys k and values v of the tokens after whatever the layer does to them, attention becomes

        softmax(q [k_P; k]^T * scale) [v_P; v]

    one softmax over both, where k_P and v_P (key-value heads, length, head dim) are the parameters. They are made in
    float32 and join in the dtype of the layer's keys and values.

    Args:
        heads: number of key-value heads.
        length: number of learnt keys.
        head_dim: width of a head.
        std: standard deviation of the initial values.
        dropout: of keys and values, drawn for each example, while training.
    """

    def __init__(
        self,
        heads: int,
        length: int,
        head_dim: int,
        *,
        std: float,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.length, self.dropout = length, dropout
        self.key, self.value = (
            nn.Parameter(torch.empty(heads, length, head_dim, device=device, dtype=torch.float32)) for _ in range(2)
        )
        nn.init.normal_(self.key, std=std)
        nn.init.normal_(self.value, std=std)

    def forward(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put the learnt keys and values before the tokens' (batch, key-value heads, tokens, head dim)."""
        return self._before(self.key, key), self._before(self.value, value)

    def _before(self, learnt: Tensor, own: Tensor) -> Tensor:
        learnt = learnt.to(own.dtype).expand(len(own), -1, -1, -1)
        return torch.cat([functional.dropout(learnt, self.dropout, self.training), own], dim=2)

    def extra_repr(self) -> str:
        heads, length, head_dim = self.key.shape
        return f"heads={heads}, length={length}, head_dim={head_dim}, dropout={self.dropout}"


def widened(mask: Tensor, length: int) -> Tensor:
    """Return a mask (..., length + keys) in which the first keys are seen by all, of a mask (..., keys).

    Where it is boolean True means seen; else it is added to the scores.
    """
    return functional.pad(mask, (length, 0), value=float(mask.dtype == torch.bool))
