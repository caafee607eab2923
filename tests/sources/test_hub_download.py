"""Downloads from the hub, for which stand-ins take its client's place: what is asked, when, and what is said."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from zipeft.sources.hub_download import TIMEOUT, HubUnavailable, Repository, answered


class Hub:
    """A hub with one data set, a local cache, and a network that may be down. ``calls`` says what the client did."""

    def __init__(self, monkeypatch, cache):
        self.cache, self.calls, self.up = cache, [], True
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda api, *args, **kw: self.info(*args, **kw))
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", self.look_up)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.file)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot)

    def info(self, repository, *, revision, timeout):
        assert timeout == TIMEOUT
        self._call("ask")
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename="a.txt")], sha="a1b2", private=True)

    def look_up(self, repository, path, *, repo_type, revision):
        return str(self.cache / path) if (self.cache / path).exists() else None

    def file(self, repository, path, *, repo_type, revision):
        self._call("download")
        (self.cache / path).write_text("a")
        return str(self.cache / path)

    def snapshot(self, repository, *, repo_type, revision, allow_patterns, local_files_only=False, local_dir=None):
        if local_files_only:
            if not any(self.cache.iterdir()):
                raise errors.LocalEntryNotFoundError("nothing there")
            return str(self.cache)
        self._call("download")
        (self.cache / "a.txt").write_text("a")
        return str(local_dir or self.cache)

    def _call(self, what):
        self.calls.append(what)
        if not self.up:
            logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 8s [Retry 4/5].")
            raise ConnectionError("no\nroute")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    return Hub(monkeypatch, tmp_path)


def has_a(folder):
    return (folder / "a.txt").exists()


@pytest.mark.parametrize("revision", ["", "c0ffee"])
def test_a_file_is_asked_for_once_and_then_taken_from_the_cache(hub, revision):
    repository = Repository("who/what", revision, "dataset")
    assert repository.cached("a.txt") is None
    for _ in range(2):
        assert repository.file("a.txt") == hub.cache / "a.txt"
    assert hub.calls == ["ask", "download"]


def test_what_a_repository_holds(hub):
    contents = Repository("who/what", kind="dataset").ask()
    assert (contents.files, contents.commit, contents.private) == ({"a.txt"}, "a1b2", True)


def test_a_fixed_revision_is_not_asked_for_again(hub):
    repository = Repository("who/what", "c0ffee", "dataset")
    (hub.cache / "b.txt").write_text("a part of it, which an interrupted download left")
    assert repository.snapshot(["*"], has_a) == hub.cache
    assert hub.calls == ["ask", "download"]
    assert repository.snapshot(["*"], has_a) == hub.cache
    assert hub.calls == ["ask", "download"]


def test_the_newest_revision_is_asked_for_and_the_cache_serves_without_a_network(hub):
    repository = Repository("who/what", kind="dataset")
    repository.snapshot(["*"], has_a)
    repository.snapshot(["*"], has_a)
    assert hub.calls == ["ask", "download"] * 2
    hub.up = False
    assert repository.snapshot(["*"], has_a) == hub.cache
    assert hub.calls == ["ask", "download"] * 2 + ["ask"]


@pytest.mark.parametrize("revision", ["", "c0ffee"])
def test_a_hub_that_cannot_be_reached_is_asked_once_and_silently(hub, revision, caplog):
    hub.up = False
    repository = Repository("who/what", revision, "dataset")
    for take in (lambda: repository.file("a.txt"), lambda: repository.snapshot(["*"], has_a)):
        with pytest.raises(HubUnavailable, match=r"^ConnectionError: no route$"):
            take()
    assert hub.calls == ["ask", "ask"]
    assert not caplog.records


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (errors.RepositoryNotFoundError, "there is no such repository, or your token may not see it"),
        (errors.GatedRepoError, "there is no such repository, or your token may not see it"),
        (errors.RevisionNotFoundError, "it has no such revision"),
    ],
)
def test_what_is_not_there_is_said_in_plain_words(kind, reason):
    with pytest.raises(HubUnavailable) as caught, answered():
        raise kind.__new__(kind)
    assert str(caught.value) == reason
