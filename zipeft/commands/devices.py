"""The device on which a command computes, and its precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zipeft.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator(device: str, precision: str) -> Accelerator:
    """Set up device and precision. Raises ``UserError`` for a device that this machine does not have."""
    import torch

    from zipeft.training.parallel import new_accelerator

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        raise UserError(f"--device {device}: this machine has none, or this torch was built without it")
    try:
        return new_accelerator(cpu=device == "cpu", mixed_precision={"fp32": "no"}.get(precision, precision))
    except ValueError as error:
        raise UserError(f"--precision {precision}: {error}") from error
