"""Fixtures of the tests of tasks."""

from __future__ import annotations

import huggingface_hub
import pytest

from zipeft.sources.hub_download import Repository


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Let the hub give what is in a folder; return the folder and what was asked of it."""
    asked, snapshot = [], tmp_path / "0123456789abcdef"  # the hub's client names it after the commit

    def snapshot_download(repository, **options):
        asked.append((repository, options))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(Repository, "ask", lambda _: None)
    return snapshot, asked
