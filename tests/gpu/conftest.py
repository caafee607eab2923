"""Tests on a GPU: ``pytest -m gpu``. Each skips itself where there is none; ZIPEFT_GPU_TESTS=cpu runs them on the CPU.

They need no network and no files: models are small, at random weights. What they measured and found is written to the
folder that ZIPEFT_GPU_REPORT names, by default ``build/gpu-report``. Run them in one process.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from support.gpu_report import Report

REPORT = Report()
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU, or the CPU where that is asked for."""
    if os.environ.get("ZIPEFT_GPU_TESTS") == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU (ZIPEFT_GPU_TESTS=cpu runs this on the CPU)")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def report(device) -> Report:
    """Takes what is measured, one row at a time."""
    REPORT.device = device
    return REPORT


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if str(item.path).startswith(HERE) and (outcome.when == "call" or outcome.outcome != "passed"):
        REPORT.outcome(item.originalname, outcome.outcome)
    return outcome


def pytest_sessionfinish():
    if REPORT.device is not None:
        REPORT.write(Path(os.environ.get("ZIPEFT_GPU_REPORT") or "build/gpu-report"))
