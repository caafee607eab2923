"""Files that others made: read without running anything that they hold."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor

from zipeft.errors import UserError
from zipeft.sources.git_lfs import check_fetched
from zipeft.sources.state_dicts import unwrapped
from zipeft.text.tables import one_line


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a state dict that ``torch.save`` wrote, by name, in float32.

    Raises ``UserError`` if the file is damaged, holds anything but tensors of finite numbers, or asks to run code.
    """
    try:
        check_fetched(path)  # which does not wait for a FIFO
        return _load(path)
    except UserError:
        raise
    except UnpicklingError:  # its message proposes to run the code
        raise UserError(f"{path} is damaged or holds more than tensors, and would run code when it is read") from None
    except Exception as error:  # safetensors and zip files break in many ways
        raise UserError(f"{path} cannot be read ({one_line(error)[:160]}): get it again") from error


def _load(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        tensors = unwrapped(load_file(path))
    else:
        tensors = unwrapped(torch.load(path, map_location="cpu", weights_only=True))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name!r} is no tensor of floating-point numbers")
        if tensor.numel() * tensor.element_size() > path.stat().st_size:  # a few numbers, repeated without an end
            raise ValueError(f"{name} is larger than the file")
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has numbers that are not finite in float32")
    return tensors
