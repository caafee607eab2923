"""Linear adapters in front of attention and feed-forward layers (RepAdapter, arXiv 2302.08106)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.errors import UserError
from zipeft.modules.block_layers import linear_layers, project_blocks
from zipeft.modules.hooked import Hooked, linear, replace_weights, weight_of


class RepAdapter(Hooked):
    """A narrow layer, without a nonlinearity, that changes what layers read:

        f(x) = x + scale * up(down(x))

    ``up`` is dense within each of some groups of numbers, and zero between them.
    It starts at zero, so the layers start as they were. Since f is linear, the layers' weights can take it in.

    Args:
        width: of the hidden states (..., width).
        bottleneck: of what is between ``down`` and ``up``; ``groups`` divides both.
        scale: of what the adapter adds.
        dropout: of what is between ``down`` and ``up``, while training.
        readers: the layers that read what the adapter returns.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        groups: int,
        scale: float,
        dropout: float,
        readers: Sequence[nn.Linear],
    ) -> None:
        super().__init__()
        device = readers[0].weight.device
        self.scale, self.dropout, self.readers = scale, dropout, list(readers)
        self.down = nn.Linear(width, bottleneck, device=device, dtype=torch.float32)
        self.up = nn.Parameter(
            torch.zeros(groups, bottleneck // groups, width // groups, device=device, dtype=torch.float32)
        )
        self.bias = nn.Parameter(torch.zeros(width, device=device, dtype=torch.float32))
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        self.handles += [reader.register_forward_pre_hook(self.enter) for reader in readers]

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layers read in the place of ``x``, in its dtype."""
        narrow = functional.dropout(linear(x, self.down), self.dropout, self.training)
        grouped = narrow.unflatten(-1, (len(self.up), -1))
        wide = torch.einsum("...gi,gio->...go", grouped, self.up.to(x.dtype)).flatten(-2)
        return x + self.scale * (wide + self.bias.to(x.dtype))

    def enter(self, _layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Change what a layer is given; a forward pre-hook."""
        return (self(args[0]), *args[1:])

    @torch.no_grad()
    def merge(self) -> None:
        """Put it into the layers: W f(x) is W (I + scale * up down) x, and a part that goes into the bias."""
        for reader in self.readers:
            weight = weight_of(reader)
            up = torch.block_diag(*self.up).to(weight.dtype).T  # (width, bottleneck)
            down, bias = self.down.weight.to(weight.dtype), self.down.bias.to(weight.dtype)
            shift = weight @ (self.scale * (up @ bias + self.bias.to(weight.dtype)))
            own = 0 if reader.bias is None else reader.bias.to(weight.dtype)
            replace_weights(reader, weight + self.scale * (weight @ up) @ down, own + shift)


def insert(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    *,
    width: int,
    bottleneck: int,
    groups: int,
    scale: float,
    dropout: float,
) -> None:
    """Put an adapter in front of the attention and one in front of the feed-forward of each block of a model.

    Raises: ``UserError`` if a block has no linear layers there, or ``groups`` do not divide the width.
    """
    if width % groups:
        raise UserError(f"groups must divide the model's width, and {groups} does not divide {width}")
    project_blocks(model, blocks)
    for block in blocks:
        attention, feed_forward = linear_layers(block)
        for name, layers in (("attention_adapter", attention), ("feed_forward_adapter", feed_forward)):
            block.add_module(name, RepAdapter(width, bottleneck, groups, scale, dropout, layers[:-1]))
