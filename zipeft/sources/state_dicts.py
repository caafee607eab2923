"""State dicts that others saved: what training scripts wrap around them, and what makes them of no use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def unwrapped(content: Any) -> dict[str, Tensor]:
    """Return the state dict in what ``torch.save`` wrote, under the names that the model itself has for its tensors.

    Training scripts put it beside an optimiser's state, and the copies of a model that ``DistributedDataParallel``
    and ``torch.compile`` make put "module." and "_orig_mod." into the names. Raises ``ValueError`` if there is none.
    """
    import torch

    for key in ("state_dict", "model"):
        inner = content.get(key) if isinstance(content, Mapping) else None
        content = inner if isinstance(inner, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError("it holds no state dict")
    if not all(isinstance(name, str) for name in content):
        raise ValueError("it holds no state dict")
    return {re.sub(r"^module\.", "", name.replace("_orig_mod.", "")): value for name, value in content.items()}


def check_finite(named: Iterable[tuple[str, Tensor]], file: Path) -> None:
    """Raise ``UserError``, with the name, for a tensor with a number that is none, or is infinite."""
    for name, tensor in named:
        if tensor.is_floating_point() and not tensor.is_meta and not tensor.isfinite().all():
            raise UserError(f"{str(file)!r} has a weight that is not finite: {name}: get it again, or another one")
