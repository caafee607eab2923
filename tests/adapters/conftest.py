"""Fixtures of the tests of this folder."""

from __future__ import annotations

import pytest

from support.gated_adapters import (
    Work,
    narrow,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return narrow(tmp_path_factory.mktemp("narrow"))


@pytest.fixture
def work(checkpoint, tmp_path):
    """Converts adapters of the narrow decoder in a folder, and makes some."""
    return Work(tmp_path, checkpoint)
