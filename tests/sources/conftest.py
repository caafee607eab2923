"""Fixtures of the tests of this folder."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from support.package_index import PAYLOAD, Handler, Index, publish, wheel
from zipeft.sources import package_index
from zipeft.sources.package_archive import PackageArchive


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, none of the machine's index settings, and no waiting."""
    for name in list(os.environ):
        if name.upper().startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nothing answers
    monkeypatch.setenv("ZIPEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZIPEFT_OFFLINE", raising=False)
    monkeypatch.setattr(package_index, "BACKOFF", 0.0)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    index = Index()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, index)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        index.url = f"http://127.0.0.1:{server.server_port}/simple"
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield index
        server.shutdown()


@pytest.fixture
def tiny(index: Index) -> PackageArchive:
    return publish(index, wheel({"tiny/weights.bin": PAYLOAD, "tiny/a.txt": b"a", "tiny/sub/b.txt": b"b"}))
