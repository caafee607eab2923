"""Bottleneck adapters beside the feed-forward layers (AdaptFormer, arXiv 2205.13535)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.errors import UserError
from zipeft.modules.hooked import Hooked, linear

SCALES = ("ls2", "ls_2")
"""What blocks of timm and open_clip call the scale of the feed-forward branch (LayerScale), which is often no more than
an identity."""


class Bottleneck(Hooked):
    """A narrow layer in parallel to a block's feed-forward layer: with hidden states h after the layer norm,

        x + FFN(h) + scale * up(ReLU(down(h)))

    as in equations 2 and 3 of the paper. ``up`` starts at zero, so the block starts as it was. Where a learnt scale
    stands behind the feed-forward layer (LayerScale), the adapter joins behind it.

    Args:
        width: of the hidden states (batch, tokens, width).
        bottleneck: of what is between ``down`` and ``up``.
        scale: of what the adapter adds.
        dropout: of what is between ``down`` and ``up``, while training.
    """

    def __init__(
        self, width: int, bottleneck: int, scale: float, dropout: float, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck, device=device, dtype=torch.float32)
        self.up = nn.Linear(bottleneck, width, device=device, dtype=torch.float32)
        self.scale, self.dropout = scale, dropout
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)
        self._added: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is added to the feed-forward layer's output, in the dtype of the hidden states."""
        narrow = functional.relu(linear(hidden, self.down))
        return self.scale * linear(functional.dropout(narrow, self.dropout, self.training), self.up)

    def follow(self, _layer: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add to what a layer returns what the adapter makes of it; a forward hook."""
        return output + self(output)

    def enter(self, _feed_forward: nn.Module, args: tuple[Any, ...]) -> None:
        """See what goes into the feed-forward layer; a forward pre-hook."""
        self._added = self(args[0])

    def join(self, _end: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add to what leaves the branch; a forward hook."""
        added, self._added = self._added, None
        assert added is not None, "the feed-forward layer did not run"
        return output + added


def insert_behind(layers: Sequence[nn.Linear], *, bottleneck: int, dropout: float) -> None:
    """Put an adapter behind each of these layers: x + up(ReLU(down(x))) of what the layer returns (arXiv 1902.00751,
    figure 2)."""
    for layer in layers:
        adapter = Bottleneck(layer.out_features, bottleneck, 1.0, dropout, layer.weight.device)
        adapter.handles.append(layer.register_forward_hook(adapter.follow))
        layer.add_module("bottleneck", adapter)


def insert(blocks: Sequence[nn.Module], *, width: int, bottleneck: int, scale: float, dropout: float) -> None:
    """Put an adapter beside the feed-forward layer, ``mlp``, of each block.

    Raises: ``UserError`` if a block has no such layer.
    """
    for block in blocks:
        feed_forward = getattr(block, "mlp", None)
        if not isinstance(feed_forward, nn.Module):
            raise UserError(f"{type(block).__name__} has no feed-forward layer named mlp, which an adapter could join")
        adapter = Bottleneck(width, bottleneck, scale, dropout, next(block.parameters()).device)
        end = next(
            (layer for name in SCALES if isinstance(layer := getattr(block, name, None), nn.Module)), feed_forward
        )
        adapter.handles.append(feed_forward.register_forward_pre_hook(adapter.enter))
        adapter.handles.append(end.register_forward_hook(adapter.join))
        block.add_module("bottleneck", adapter)
