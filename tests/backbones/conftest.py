"""Folders with tiny encoders of transformers, for the tests of backbones."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.encoder_folders import (
    KINDS,
    saved,
)


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def folder(tmp_path: Path, kind: str) -> Path:
    return saved(tmp_path / kind, KINDS[kind]())


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    return saved(tmp_path / "roberta", KINDS["roberta"]())
