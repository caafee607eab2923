"""The table of docs/costs.md, made of what ``benchmarks/time_steps.py`` has written beside it."""

from __future__ import annotations

import json
from typing import Any

from support import ROOT
from zipeft import registry

FILE = ROOT / "docs" / "step-times.json"
BACKBONES = ("vit", "roberta", "llama", "clip")
NONE = "\N{EN DASH}"


def known() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def table() -> str:
    """Return the machine, and a table of methods, by family, with the ratio on each backbone."""
    measured = known()
    machine, floors, ratios = measured["machine"], measured["floors"], measured["ratios"]
    load = f", load {machine['load']} before it began" if "load" in machine else ""
    said = (
        f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s), "
        f"{machine['rounds']} rounds{load}, torch {machine['torch']}, {machine['date']}."
    )
    cells = [f"{1000 * floors[name]:.0f} ms" if name in floors else NONE for name in BACKBONES]
    lines = [_row("method", "family", *BACKBONES), _row(":--", ":--", *["--:"] * len(BACKBONES))]
    lines.append(_row("*frozen floor*", "", *cells))
    family = {name: registry.methods.get(name).family for name in ratios}
    for name in sorted(ratios, key=lambda name: (family[name], name)):
        cells = [f"{ratios[name][each]:.2f}" if each in ratios[name] else NONE for each in BACKBONES]
        lines.append(_row(f"`{name}`", family[name], *cells))
    return "\n".join([said, "", *lines])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
