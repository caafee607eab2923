"""What the tests on a GPU found, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from zipeft.doctor.machine import nvidia_driver
from zipeft.results.environment import current_environment


class Report:
    """Collects outcomes of tests, and tables of what they measured; ``device`` is None where nothing has run."""

    def __init__(self) -> None:
        self.device: torch.device | None = None
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.tables: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def outcome(self, test: str, outcome: str) -> None:
        self.outcomes[test][outcome] += 1

    def add(self, table: str, **row: Any) -> None:
        self.tables[table].append(row)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu-report.json").write_text(json.dumps(self.content(), indent=2) + "\n")
        (folder / "gpu-report.md").write_text(self.markdown())

    def content(self) -> dict[str, Any]:
        """Return all of it, as JSON."""
        assert self.device is not None
        environment = current_environment("pytest -m gpu", self.name())
        return {
            "device": self.name(),
            "driver": nvidia_driver(),
            "cuda": torch.version.cuda or "",
            "commit": environment.commit + (" with changes" if environment.dirty else ""),
            "versions": environment.versions,
            "tests": {test: dict(counts) for test, counts in self.outcomes.items()},
            "tables": self.tables,
        }

    def name(self) -> str:
        assert self.device is not None
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"

    def markdown(self) -> str:
        content = self.content()
        versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
        made_with = f"Driver {content['driver'] or 'none'}, CUDA {content['cuda'] or 'none'}, {versions}."
        rows = [
            [test.removeprefix("test_").replace("_", " "), *(counts.get(kind, 0) for kind in KINDS)]
            for test, counts in content["tests"].items()
        ]
        parts = [f"# Tests on {content['device']}", made_with, f"Commit {content['commit'] or 'unknown'}."]
        parts.append(tabulate(rows, headers=["what was shown", *KINDS], tablefmt="github"))
        for title, found in self.tables.items():
            parts += [f"## {title}", tabulate(found, headers="keys", tablefmt="github")]
        return "\n\n".join(parts) + "\n"


KINDS = ("passed", "failed", "skipped")
