"""What a run needs around it: packages, the cache, the package index and the hub."""

from __future__ import annotations

import os
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryFile

from zipeft import extras
from zipeft.doctor.check import Check
from zipeft.errors import one_line
from zipeft.formatting import counted, listing, size
from zipeft.sources.package_archive import cache_dir
from zipeft.sources.package_index import IndexFailure, answers

SECONDS = 4.0
"""For a server to answer."""


def packages() -> Check:
    """Say which extras are installed, and whether what all runs need is."""
    owner = distribution("zipeft")
    if lacking := extras.lacking(owner):
        return Check("packages", f"without {listing(lacking)}", "broken", "install zipeft again: pip install zipeft")
    names = [name for name in owner.metadata.get_all("Provides-Extra", ()) if name not in ("all", "test", "types")]
    there = [name for name in names if not extras.missing(owner, [name])]
    others = [name for name in names if name not in there]
    found = f"extras: {', '.join(there) or 'none'}" + (f"; not installed: {', '.join(others)}" if others else "")
    return Check("packages", found, "ok", extras.how_to_install(owner, ["NAME"]) + " adds one" if others else "")


def cache() -> Check:
    """Say where the cache is, whether it can be written, and how much it holds."""
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "check its permissions, or set ZIPEFT_CACHE to another folder"
        return Check("cache", f"{folder} cannot be written ({error.strerror})", "broken", advice)
    sizes = [_size(Path(root, name)) for root, _, names in os.walk(folder) for name in names]
    return Check("cache", f"{folder}: {size(sum(sizes))} in {counted(len(sizes), 'file')}")


def package_index() -> Check:
    """Say whether the indexes of pip's settings answer: embedded weights and data come from there."""
    try:
        asked = answers(SECONDS)
    except IndexFailure as reason:
        return Check("package index", str(reason), "note", "correct pip's settings (pip config list)")
    if not asked:
        return Check("package index", "none: pip's settings forbid it", "note", "what is in the cache can be used")
    silent = [f"{place}: {reason}" for place, reason in asked.items() if reason]
    if len(silent) == len(asked):
        advice = "embedded weights and data must be in the cache; behind a proxy set HTTPS_PROXY, or PIP_INDEX_URL"
        return Check("package index", "; ".join(silent), "note", advice)
    return Check("package index", f"{listing([place for place, reason in asked.items() if not reason])} answers")


def hub() -> Check:
    """Say whether the Hugging Face hub answers."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return Check("hub", "not asked: HF_HUB_OFFLINE is set", "note", "what is in its cache can be used")
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS).raise_for_status()
    except Exception as error:  # by its release, of requests or of httpx
        advice = "checkpoints must be local or in the hub's cache; behind a proxy set HTTPS_PROXY, or HF_ENDPOINT"
        return Check("hub", f"{constants.ENDPOINT} does not answer ({one_line(error)})", "note", advice)
    return Check("hub", f"{constants.ENDPOINT} answers")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # it has gone meanwhile
        return 0
