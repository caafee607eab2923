"""``zipeft doctor``: whether this machine is ready, one line a check, and what to do where it is not."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import printable

if TYPE_CHECKING:
    from zipeft.doctor.check import Check

EXAMPLES = """\
examples:
  zipeft doctor
      looks at all, and trains toys for at most a minute
  zipeft doctor --quick
      leaves the self-test out
  zipeft doctor --device cpu --json
      for scripts, of the CPU alone

Offline variables (HF_HUB_OFFLINE, PIP_NO_INDEX) and proxies are heeded. The status is 1 if something is broken that
runs need.
"""

SECONDS = 30.0
"""For one look."""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Print the checks and return the exit status: 1 if one of them is broken."""
    options = _parser().parse_args(argv)
    checks: list[Check] = []
    for check in _checks(options):
        checks.append(check)
        if not options.json:
            print(printable(_line(check)), flush=True)
    healthy = all(check.status != "broken" for check in checks)
    if options.json:
        print(json.dumps({"healthy": healthy, "checks": [asdict(check) for check in checks]}, indent=2))
    return 0 if healthy else 1


def _checks(options: argparse.Namespace) -> Iterator[Check]:
    """Look at one thing after the other; what does not come back in time is passed over."""
    from zipeft.doctor import surroundings
    from zipeft.doctor.check import looked_at

    yield looked_at("packages", surroundings.packages, SECONDS)
    from zipeft.doctor import attention, machine
    from zipeft.sources.package_archive import cache_dir

    device = machine.device_of(options.device)
    yield looked_at("torch", machine.build, SECONDS)
    yield (of_device := looked_at("device", lambda: machine.device(device), SECONDS))
    looks: dict[str, Callable[[], Check]] = {}
    if of_device.status != "broken":
        looks["precision"] = lambda: machine.dtypes(device)
        looks["attention"] = lambda: attention.attention(device)
        looks["free memory"] = lambda: machine.memory(device, options.results, cache_dir())
    looks |= {"CPU": machine.threads, "cache": surroundings.cache}
    looks |= {"package index": surroundings.package_index, "hub": surroundings.hub}
    for name, look in looks.items():
        yield looked_at(name, look, SECONDS)
    if of_device.status != "broken" and not options.quick:
        from zipeft.doctor import self_test

        yield looked_at("self-test", lambda: self_test.self_test(device), self_test.SECONDS + SECONDS)


def _line(check: Check) -> str:
    mark = {"ok": "ok", "note": "note", "broken": "BROKEN"}[check.status]
    return f"{mark:<7}{check.name}: {check.found}" + (f" -> {check.advice}" if check.advice else "")


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft doctor",
        "Say whether this machine is ready: device, driver and torch, attention kernels, memory, cache, package index "
        "and hub. Then train toys on the device by every method and compare them with the CPU.",
        EXAMPLES,
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="(default: auto)")
    parser.add_argument("--quick", action="store_true", help="leave the self-test out")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
