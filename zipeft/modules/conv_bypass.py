"""Convolutions of patches beside attention and feed-forward layers (Convpass, arXiv 2207.07039)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.errors import UserError
from zipeft.modules.hooked import Hooked, linear

BRANCHES = {
    "attention_bypass": (("attn", "attention"), ("ls1", "ls_1")),
    "feed_forward_bypass": (("mlp",), ("ls2", "ls_2")),
}
"""What a bypass is called, what blocks call the layer that it is beside, and the scale behind that (LayerScale), which
is often no more than an identity."""


class PatchGrid(Hooked):
    """Sees in how many rows and columns patches lie, ``size``, by what the convolution returns that makes them."""

    def __init__(self, patches: nn.Conv2d) -> None:
        super().__init__()
        self.size = (0, 0)
        self.handles.append(patches.register_forward_hook(self.see))

    def see(self, _patches: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        """Keep the size of what a convolution returned; a forward hook."""
        self.size = (output.shape[-2], output.shape[-1])


class ConvBypass(Hooked):
    """A narrow convolution in parallel to a layer: with hidden states h that the layer reads,

        x + layer(h) + scale * up(GELU(conv(GELU(down(h)))))

    ``conv`` is 3 x 3 over the grid of patches, and each token that is no patch (the
    class token) is a grid of its own. ``up`` starts at zero, so the block starts as it was, and ``conv`` as the
    identity. (The authors' code takes the sigmoid form of GELU.)

    Args:
        width: of the hidden states (batch, tokens, width).
        bottleneck: channels of the convolution.
        leading: how many tokens, which are no patches, come first.
        grid: what sees the grid that the patches lie in.
        scale: of what the bypass adds.
        dropout: of what goes into ``up``, while training.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        leading: int,
        grid: PatchGrid,
        scale: float,
        dropout: float,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.leading, self.scale, self.dropout = leading, scale, dropout
        self._grid = (grid,)  # of the whole model: no submodule of this one
        self.down = nn.Linear(width, bottleneck, device=device, dtype=torch.float32)
        self.conv = nn.Conv2d(bottleneck, bottleneck, 3, padding=1, device=device, dtype=torch.float32)
        self.up = nn.Linear(bottleneck, width, device=device, dtype=torch.float32)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.dirac_(self.conv.weight)
        for parameter in (self.down.bias, self.conv.bias, self.up.weight, self.up.bias):
            assert parameter is not None
            nn.init.zeros_(parameter)
        self._added: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is added to the layer's output, in the dtype of the hidden states."""
        narrow = functional.gelu(linear(hidden, self.down))
        weight, bias = (each.to(hidden.dtype) for each in self.conv.parameters())
        leading, patches = narrow[:, : self.leading], narrow[:, self.leading :]
        alone = functional.linear(leading, weight[:, :, 1, 1], bias)  # the others read the padding
        rows, columns = self._grid[0].size
        image = patches.transpose(1, 2).unflatten(-1, (rows, columns))
        convolved = functional.conv2d(image, weight, bias, padding=1).flatten(2).transpose(1, 2)
        middle = functional.gelu(torch.cat([alone, convolved], dim=1))
        return self.scale * linear(functional.dropout(middle, self.dropout, self.training), self.up)

    def enter(self, _layer: nn.Module, args: tuple[Any, ...]) -> None:
        """See what goes into the layer; a forward pre-hook."""
        self._added = self(args[0])

    def join(self, _end: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        """Add to what leaves the branch; a forward hook."""
        added, self._added = self._added, None
        assert added is not None, "the layer did not run"
        return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added


def insert(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    *,
    width: int,
    bottleneck: int,
    leading: int,
    scale: float,
    dropout: float,
) -> None:
    """Put a bypass beside the attention and one beside the feed-forward of each block of a model.

    Raises: ``UserError`` if no convolution makes patches, or a block has none of these layers under a known name.
    """
    patches = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    if patches is None:
        raise UserError(f"it convolves patches of images, and {type(model).__name__} makes none by a convolution")
    grid = PatchGrid(patches)
    patches.add_module("patch_grid", grid)
    for block in blocks:
        for name, (layers, scales) in BRANCHES.items():
            layer = _named(block, layers)
            if layer is None:
                raise UserError(f"{type(block).__name__} has no layer named {' or '.join(layers)} to pass by")
            device = next(block.parameters()).device
            bypass = ConvBypass(width, bottleneck, leading, grid, scale, dropout, device)
            end = _named(block, scales) or layer
            bypass.handles += [layer.register_forward_pre_hook(bypass.enter), end.register_forward_hook(bypass.join)]
            block.add_module(name, bypass)


def _named(block: nn.Module, names: Sequence[str]) -> nn.Module | None:
    """Return the first part of a block that has one of these names."""
    return next((part for name in names if isinstance(part := getattr(block, name, None), nn.Module)), None)
