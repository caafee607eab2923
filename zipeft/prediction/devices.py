"""Devices, by their published memory and arithmetic. This module imports no torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zipeft.errors import UserError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHARE = 0.4
"""The part of its peak that a device is taken to reach in a training, unless it is said. It is an assumption, which no
measurement here supports. Llama 3 was trained at 38 to 43 % of the peak of H100s (arXiv 2407.21783, Table 4); small
models and short texts reach less."""


@dataclass(frozen=True)
class Device:
    """A device: memory in bytes, and its peak in floating-point operations a second, in half and in single precision.

    ``source`` says which of its maker's papers has the figures, ``checked`` what they were held against.
    """

    name: str
    memory: float
    half: float
    fp32: float
    source: str
    checked: str

    def peak(self, precision: str) -> float:
        """Return the peak in a protocol's precision."""
        return self.fp32 if precision == "fp32" else self.half


@cache
def known_devices() -> dict[str, Device]:
    """Return the devices of the table beside this module, by their names on the command line."""
    table = tomllib.loads(Path(__file__).with_name("devices.toml").read_text("utf-8"))
    units = {"memory": 1e9, "half": 1e12, "fp32": 1e12}
    return {
        key: Device(**{**row, **{name: row[name] * unit for name, unit in units.items()}}) for key, row in table.items()
    }


def device_named(name: str) -> Device:
    """Return a device of the table. Raises ``UserError`` for an unknown name."""
    if name not in known_devices():
        raise UserError(f"no device {name!r}{did_you_mean(name, known_devices())} ({', '.join(known_devices())})")
    return known_devices()[name]
