"""The linear layers of transformer blocks, by what they are for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from zipeft.errors import UserError
from zipeft.modules.projected_attention import project_attention


def linear_layers(block: nn.Module) -> tuple[list[nn.Linear], list[nn.Linear]]:
    """Return the linear layers of a block in the order of its modules: those of what has attention in its name, of
    which the last is the output projection, and those of its feed-forward, of which the last is its end.

    Raises: ``UserError`` if a part has not two: one that reads the hidden states, and one that ends the part.
    """
    layers = [(name.lower(), part) for name, part in block.named_modules() if isinstance(part, nn.Linear)]
    attention = [part for name, part in layers if "att" in name]
    feed_forward = [part for name, part in layers if "att" not in name]
    if len(attention) < 2 or len(feed_forward) < 2:
        raise UserError(f"{type(block).__name__} has no attention and feed-forward of linear layers")
    return attention, feed_forward


def project_blocks(model: nn.Module, blocks: Sequence[nn.Module]) -> None:
    """Give PyTorch's own attention in these blocks of a model linear layers for its projections, in place: it calls
    none that could be changed."""
    inside = {id(part) for block in blocks for part in block.modules()}
    project_attention(
        model,
        [
            name
            for name, part in model.named_modules()
            if id(part) in inside and isinstance(part, nn.MultiheadAttention)
        ],
    )
