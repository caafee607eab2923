"""Files of tensors in the formats of others: floating-point numbers alone, all finite."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from zipeft.errors import UserError
from zipeft.sources.tensors import read_tensors


def read_floats(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a state dict that ``torch.save`` wrote, by name, in float32.

    Raises ``UserError`` as ``read_tensors`` does, and if there are other than finite floating-point numbers.
    """
    size, floats = path.stat().st_size if path.is_file() else 0, {}
    for name, tensor in read_tensors(path).items():
        if not tensor.is_floating_point():
            raise _unusable(path, f"{name!r} is no tensor of floating-point numbers")
        if tensor.numel() * tensor.element_size() > size:  # a few numbers, repeated without an end
            raise _unusable(path, f"{name} is larger than the file")
        floats[name] = tensor.float()
        if not floats[name].isfinite().all():
            raise _unusable(path, f"{name} has numbers that are not finite in float32")
    return floats


def _unusable(path: Path, fault: str) -> UserError:
    return UserError(f"{str(path)!r} cannot be used ({fault}): get it again")
