"""What of a model nothing has joined, and why, in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet

from torch import nn

from zipeft.api.splice import AttentionSplice
from zipeft.formatting import counted

ATTENTION = re.compile(r"att(entio)?n", re.IGNORECASE)
SHOWN = 3


def pooling(part: nn.Module) -> set[nn.Module]:
    """Return the modules in the pooling heads of a model, whose one attention layer makes one vector of all tokens.

    It stands behind the layers and is none of them. It is known by the name of the class around it.
    """
    heads = (module for module in part.modules() if module is not part and "Pool" in type(module).__name__)
    return {inside for head in heads for inside in head.modules() if inside is not head}


def unjoined(part: nn.Module, joined: Collection[nn.Module], splices: Sequence[type[AttentionSplice]]) -> str:
    """Return which attention layers of a model are not among those that are joined, and why; "" if all are.

    Layers are known by the names of their classes; of blocks of one class in one list, all or none should have one.
    """
    inside = {module for attention in joined for module in attention.modules()}
    named = [m for m in part.modules() if ATTENTION.search(type(m).__name__) and any(True for _ in m.parameters())]
    suspects = [m for m in dict.fromkeys([*named, *_odd_blocks(part, inside)]) if inside.isdisjoint(m.modules())]
    innermost = [m for m in suspects if not any(other in m.modules() for other in suspects if other is not m)]
    pooled = pooling(part)
    found = Counter((type(m).__name__, "it pools" if m in pooled else _reason(m, splices)) for m in innermost)
    texts = [f"{counted(count, 'layer')} of {name} ({reason})" for (name, reason), count in found.most_common(SHOWN)]
    return ", ".join([*texts, *(["..."] if len(found) > SHOWN else [])])


def _reason(module: nn.Module, splices: Sequence[type[AttentionSplice]]) -> str:
    reasons = (splice.objection(module) for splice in splices)
    return next(filter(None, reasons), "no splice is for it")


def _odd_blocks(part: nn.Module, inside: AbstractSet[nn.Module]) -> Iterator[nn.Module]:
    """Yield the blocks in which nothing is joined, in lists where something is in others of their class."""
    for blocks in part.modules():
        if isinstance(blocks, (nn.ModuleList, nn.Sequential)):
            without = [block for block in blocks if inside.isdisjoint(block.modules())]
            kinds = {type(block) for block in blocks if block not in without}
            yield from (block for block in without if type(block) in kinds)
