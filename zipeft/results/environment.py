"""Software and hardware of a run, for its record."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

PACKAGES = ("accelerate", "numpy", "open_clip_torch", "peft", "timm", "torch", "transformers", "zipeft")
CODE = ("zipeft", "backbones", "tasks", "pyproject.toml")


@dataclass(frozen=True)
class Environment:
    """Software and hardware of a run. ``commit`` is "" outside a checkout of zipeft; ``dirty`` says whether its code
    differs from that commit; ``cores`` counts the CPU cores that the process may use; ``execution`` says how a training
    was carried out, where not as by default: what decides memory and time, and no result beyond rounding."""

    versions: dict[str, str]
    commit: str
    dirty: bool
    device: str
    cpu: str
    cores: int
    command: str
    execution: dict[str, Any]


def current_environment(
    command: str, device: str = "cpu", execution: Mapping[str, Any] = MappingProxyType({})
) -> Environment:
    """Return the environment of this process, which ``command`` started and which computes on ``device``."""
    commit, dirty = _checkout(Path(__file__).resolve().parents[2])
    return Environment(_versions(), commit, dirty, device, _cpu(), cores(), command, dict(execution))


def _versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a package that is not installed has no version to record
    return {"python": platform.python_version(), **installed}


def _checkout(root: Path) -> tuple[str, bool]:
    """Return commit and whether the code differs from it; ("", False) if ``root`` is no checkout of its own."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root or not (commit := _git(root, "rev-parse", "--verify", "HEAD")):
        return "", False
    # Only the code counts: the results that runs leave in the tree change nothing in the next run.
    return commit, _git(root, "status", "--porcelain", "--", *CODE) != ""


def _git(folder: Path, *arguments: str) -> str:
    """Return what git prints, or "" where there is no git or it refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    listing = Path("/proc/cpuinfo")
    for line in listing.read_text().splitlines() if listing.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_known_commit(commit: str) -> bool:
    """Whether this checkout of zipeft has a commit; True where zipeft is no checkout, and nobody can tell."""
    root = Path(__file__).resolve().parents[2]
    return not _checkout(root)[0] or _git(root, "cat-file", "-t", commit) == "commit"
