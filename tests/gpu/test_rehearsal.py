"""The tests on a GPU work: they run on the CPU, and write their report."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support import ROOT

pytestmark = pytest.mark.slow


def test_the_tests_on_a_gpu_run_on_the_cpu_and_report(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"]
    environment = {**os.environ, "ZIPEFT_GPU_TESTS": "cpu", "ZIPEFT_GPU_REPORT": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    content = json.loads((tmp_path / "gpu-report.json").read_text())
    assert content["device"] == "CPU"
    assert all("failed" not in counts for counts in content["tests"].values())
    assert (tmp_path / "gpu-report.md").read_text().startswith("# Tests on CPU")
