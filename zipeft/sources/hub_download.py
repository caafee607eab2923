"""Downloads from the Hugging Face hub: from its local cache where that has them, asked for once, told of in one line.

Where there is no network, the hub's client tries a download again for half a minute or more, and logs each attempt.
So one question with a short timeout comes first, and whatever fails is one exception, ``HubUnavailable``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zipeft.errors import UserError, described

LOGGERS = ("huggingface_hub", "datasets")
TIMEOUT = 15.0
"""Seconds to wait for the hub's first answer."""


class HubUnavailable(Exception):
    """The hub did not give what it was asked for. The message is the reason, in a phrase; callers add their advice."""


@dataclass(frozen=True)
class Contents:
    """What a repository holds at a commit: the paths of its files."""

    files: frozenset[str]
    commit: str
    private: bool


@dataclass(frozen=True)
class Repository:
    """A repository of the hub: ``kind`` is "model" or "dataset"; without a ``revision`` it is the newest one.

    Every method that asks the hub raises ``HubUnavailable``.
    """

    name: str
    revision: str = ""
    kind: str = "model"

    def ask(self) -> Contents:
        """Ask, once and within ``TIMEOUT`` seconds, what the repository holds."""
        import huggingface_hub

        api = huggingface_hub.HfApi()
        with answered():
            question = api.dataset_info if self.kind == "dataset" else api.model_info
            info = question(self.name, revision=self.revision or None, timeout=TIMEOUT)
        return Contents(frozenset(file.rfilename for file in info.siblings or ()), info.sha or "", bool(info.private))

    def cached(self, path: str) -> Path | None:
        """Return a file in the local cache; None if it is not there. The hub is not asked."""
        import huggingface_hub

        file = huggingface_hub.try_to_load_from_cache(self.name, path, **self._place)
        return Path(file) if isinstance(file, str) else None

    def file(self, path: str) -> Path:
        """Return a file in the local cache; if it is not there, ask for the repository and download it."""
        if (file := self.cached(path)) is None:
            self.ask()
            file = self.download_file(path)
        return file

    def download_file(self, path: str) -> Path:
        """Return a file in the local cache, downloaded if need be. Call ``ask`` first."""
        import huggingface_hub

        with answered():
            return Path(huggingface_hub.hf_hub_download(self.name, path, **self._place))

    def snapshot(self, patterns: Sequence[str], is_whole: Callable[[Path], bool]) -> Path:
        """Return the folder of the repository in the local cache, with the files that match ``patterns``.

        A copy of a fixed revision that ``is_whole`` is used without asking the hub; a copy of the newest one, where
        the hub cannot be reached.
        """
        if self.revision and (copy := self._copy(patterns, is_whole)):
            return copy
        try:
            self.ask()
        except HubUnavailable:
            if copy := self._copy(patterns, is_whole):
                return copy
            raise
        return self.download(patterns)

    def download(self, patterns: Sequence[str], folder: Path | None = None) -> Path:
        """Download the files that match ``patterns`` and are not there yet, to ``folder`` or the local cache; return
        where they are. Call ``ask`` first."""
        import huggingface_hub

        wanted = {**self._place, "allow_patterns": list(patterns)} | ({"local_dir": folder} if folder else {})
        with answered():
            path = huggingface_hub.snapshot_download(self.name, **wanted)
        return Path(path)

    def _copy(self, patterns: Sequence[str], is_whole: Callable[[Path], bool]) -> Path | None:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        wanted = {**self._place, "allow_patterns": list(patterns), "local_files_only": True}
        with answered():
            try:
                copy = Path(huggingface_hub.snapshot_download(self.name, **wanted))
            except LocalEntryNotFoundError:
                return None
        return copy if is_whole(copy) else None

    @property
    def _place(self) -> dict[str, Any]:
        return {"repo_type": self.kind, "revision": self.revision or None}


@contextmanager
def answered() -> Iterator[None]:
    """Raise ``HubUnavailable`` for what the hub's clients raise, and keep them quiet.

    Their errors have no common base: they have changed their HTTP library twice.
    """
    try:
        with quiet():
            yield
    except (UserError, HubUnavailable):
        raise
    except Exception as error:
        raise HubUnavailable(_reason(error)) from error


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or your token may not see it"
    return described(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the hub's clients from logging their attempts, and from drawing bars where nobody sees them move."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    hides_bars = not are_progress_bars_disabled() and not sys.stderr.isatty()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    if hides_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if hides_bars:
            enable_progress_bars()


@contextmanager
def offline() -> Iterator[None]:
    """Let the hub's clients take what is in their caches, and ask nothing."""
    import datasets
    import huggingface_hub

    places: list[Any] = [datasets.config, huggingface_hub.constants]
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value
