"""Fixtures of the tests of this folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from zipeft.judge import client as judge_client


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch, tmp_path):
    """No proxy and no key of the user's, pauses that are short, and a folder to work in."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("OPENAI_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(judge_client, "BACKOFF", 0.001)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def start(tmp_path):
    """Start the command as a process of its own; what is left of them ends with the test."""
    started = []

    def run(server, *options):
        command = [sys.executable, "-m", "zipeft", "judge", "a.jsonl", "b.jsonl", "--endpoint", server.url]
        # A shell starts what is in its background with Ctrl-C ignored, and so would the tests' own processes.
        heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} if os.name == "posix" else {}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **heeds}
        started.append(subprocess.Popen([*command, "--model", "judge", *options], cwd=tmp_path, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()
