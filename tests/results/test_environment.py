"""The environment of a result: versions, machine, and the commit of a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from support.result_factory import make_result
from zipeft import results
from zipeft.results import current_environment


def test_environment_says_where_a_run_ran():
    here = current_environment("python -m x", "cuda:0")
    assert here.versions["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert {"torch", "zipeft", "numpy"} <= set(here.versions)
    assert (here.command, here.device) == ("python -m x", "cuda:0")
    assert here.cores >= 1
    assert here.cpu


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with a copy of the module, and what the module says of it."""
    import zipeft.results.environment as module

    source = tmp_path / "zipeft" / "results" / "environment.py"
    source.parent.mkdir(parents=True)
    source.write_text("old")
    monkeypatch.setattr(module, "__file__", str(source))
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    return tmp_path


def git(folder, *arguments) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_environment_has_the_commit_of_a_checkout(checkout):
    seen = [current_environment("")]
    git(checkout, "init", "-q")
    seen.append(current_environment(""))
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "x")
    head = git(checkout, "rev-parse", "HEAD")
    seen.append(current_environment(""))
    (checkout / "leaderboards").mkdir()
    (checkout / "leaderboards" / "new.json").write_text("{}")
    seen.append(current_environment(""))
    (checkout / "zipeft" / "environment.py").write_text("new")
    seen.append(current_environment(""))
    assert [(e.commit, e.dirty) for e in seen] == [("", False), ("", False), (head, False), (head, False), (head, True)]


def test_a_checkout_of_something_else_is_no_commit_of_zipeft(checkout):
    nested = checkout / "site-packages" / "zipeft" / "results"
    nested.mkdir(parents=True)
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "x")
    import zipeft.results.environment as module

    module.__file__ = str(nested / "environment.py")  # the fixture puts it back
    assert current_environment("").commit == ""


def test_environment_needs_no_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert current_environment("").commit == ""


def test_now_is_a_time_that_results_take():
    assert abs(make_result(created=results.now()).when - datetime.now(timezone.utc)) < timedelta(minutes=1)
