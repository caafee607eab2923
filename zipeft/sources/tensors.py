"""Tensors in files that others made, read without running anything that the files hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft.errors import UserError, one_line
from zipeft.sources.git_lfs import check_fetched

if TYPE_CHECKING:
    from torch import Tensor

ALONE = "save the model's state_dict() alone, best as safetensors"


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name: safetensors, NumPy's .npz, or a state dict that ``torch.save`` wrote.

    A state dict that a training script wrote is unwrapped: see ``unwrapped``. Raises ``UserError`` if the file cannot
    be read, asks to run code, or holds anything but tensors.
    """
    from pickle import UnpicklingError

    try:
        check_fetched(file)  # which does not wait for a FIFO
        return _read_npz(file) if file.suffix == ".npz" else unwrapped(_read(file))
    except UserError:
        raise
    except NoStateDict as error:
        raise UserError(f"{str(file)!r} {error}: {ALONE}") from error
    except UnpicklingError as error:  # its message proposes to run the code
        fault = "is damaged or holds more than tensors, and would run code when it is read"
        raise UserError(f"{str(file)!r} {fault}: {ALONE}") from error
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be read ({error.strerror or one_line(error)}): get it again") from error
    except Exception as error:  # safetensors and zip files break in many ways
        raise UserError(f"{str(file)!r} cannot be read ({one_line(error)}): get it again") from error


class NoStateDict(ValueError):
    """A file holds something other than a state dict."""


def unwrapped(content: Any) -> dict[str, Tensor]:
    """Return the state dict in what ``torch.save`` wrote, under the names that the model itself has for its tensors.

    Training scripts put it beside an optimiser's state, and the copies of a model that ``DistributedDataParallel``
    and ``torch.compile`` make put "module." and "_orig_mod." into the names. Raises ``NoStateDict`` if there is none.
    """
    import torch

    for key in ("state_dict", "model"):
        inner = content.get(key) if isinstance(content, Mapping) else None
        content = inner if isinstance(inner, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise NoStateDict("holds no state dict")
    if not all(isinstance(name, str) for name in content):
        raise NoStateDict("holds no state dict")
    return {re.sub(r"^module\.", "", name.replace("_orig_mod.", "")): value for name, value in content.items()}


def mismatch(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Say what in a state dict differs from the model's own in name, shape or kind of numbers; "" for nothing."""
    for key, value in own.items():
        if key not in state:
            return f"it lacks {key!r}"
        if state[key].shape != value.shape:
            return f"{key!r} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
        if state[key].is_floating_point() != value.is_floating_point():
            return f"{key!r} is of {state[key].dtype}, not {value.dtype}"
    foreign = sorted(state.keys() - own.keys())
    return f"it has {foreign[0]!r}, which the model has not" if foreign else ""


def check_finite(named: Iterable[tuple[str, Tensor]], file: Path) -> None:
    """Raise ``UserError``, with the name, for a tensor with a number that is none, or is infinite."""
    for name, tensor in named:
        if tensor.is_floating_point() and not tensor.is_meta and not tensor.isfinite().all():
            raise UserError(f"{str(file)!r} has a weight that is not finite: {name}: get it again, or another one")


def _read(file: Path) -> Any:
    import torch
    from safetensors.torch import load_file

    if file.suffix == ".safetensors":
        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _read_npz(file: Path) -> dict[str, Tensor]:
    import numpy as np
    import torch

    with np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
