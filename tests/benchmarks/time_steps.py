"""Time a training step with every method on the embedded architectures, and keep what docs/costs.md shows.

Usage: python tests/benchmarks/time_steps.py [--out FILE] [ARGUMENT OF PYTEST ...]

Runs test_step_times.py beside this file. Without ``--out`` the result is docs/step-times.json; fill the table from it
with ``python tests/fill_documents.py``. Run it on an idle machine. OMP_NUM_THREADS sets the threads, ZIPEFT_ROUNDS how
often step and floor take turns (3).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DIGITS = 3


def measured(arguments: list[str]) -> dict[str, Any]:
    """Return what pytest-benchmark says of all cases, or of those that its arguments choose."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        tests = Path(__file__).with_name("test_step_times.py")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", "--dist=no", str(tests)]
        status = subprocess.run([*command, f"--benchmark-json={report}", *arguments], cwd=ROOT).returncode
        if not report.is_file():
            sys.exit(status or 1)
        return json.loads(report.read_text(encoding="utf-8"))


def times(report: dict[str, Any]) -> dict[str, Any]:
    """Return the machine, the time of each backbone's floor, and the ratios by method and backbone."""
    import torch

    cases = [case["extra_info"] for case in report["benchmarks"]]
    cpu, floors, ratios = report["machine_info"]["cpu"], {}, {}
    for case in cases:
        backbone, method = case["backbone"], case["method"]
        floors[backbone] = min(case["floor"], floors.get(backbone, case["floor"]))
        ratios.setdefault(method, {})[backbone] = float(f"{case['ratio']:.{DIGITS}g}")
    return {
        "machine": {
            "processor": cpu.get("brand_raw") or cpu.get("arch", "unknown"),
            "cores": cpu["count"],
            "threads": cases[0]["threads"],
            "rounds": cases[0]["rounds"],
            "torch": torch.__version__,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        },
        "floors": {backbone: float(f"{seconds:.{DIGITS}g}") for backbone, seconds in floors.items()},
        "ratios": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "step-times.json", help="(default: %(default)s)")
    options, arguments = parser.parse_known_args()
    load = os.getloadavg()[0]
    found = times(measured(arguments))
    found["machine"]["load"] = round(load, 1)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out}: {sum(map(len, found['ratios'].values()))} cases")


if __name__ == "__main__":
    main()
