"""Saved adapters on the Hugging Face hub: three files a repository, of which none is run when it is loaded.

This was tested against a stand-in for the hub, and has never been tried against the real one.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zipeft.adapters.card import CARD
from zipeft.adapters.saved import RECORD, TENSORS, read_record, read_tensors
from zipeft.errors import UserError
from zipeft.files import write_atomically
from zipeft.text.tables import one_line

FILES = (TENSORS, RECORD, CARD)
OWN_FILES = {*FILES, ".gitattributes"}
TIMEOUT = 15.0
"""Seconds to wait for the hub's first answer."""


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload an adapter's folder with its card, nothing else that lies in it, and return its address.

    The record that is uploaded names no path of this machine: see ``published``. Raises ``UserError`` if the folder
    lacks a file, the repository holds something else, or is public and should not be, and if the hub refuses.
    """
    import huggingface_hub

    check_name(repository)
    record = read_record(folder)
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(f"{folder} has no {missing[0]}")
    read_tensors(folder)
    if not huggingface_hub.get_token():
        raise UserError("no token for the Hugging Face hub: make one in its settings, then `hf auth login` or HF_TOKEN")
    with TemporaryDirectory(prefix="zipeft-") as copy, _worded(f"the hub did not take {repository}"):
        for name in FILES:
            shutil.copyfile(folder / name, Path(copy, name))
        Path(copy, RECORD).write_text(json.dumps(published(record), indent=2) + "\n", "utf-8")
        hub = huggingface_hub.HfApi()
        url = hub.create_repo(repository, private=private or None, exist_ok=True)
        _check_fit(hub.model_info(repository, timeout=TIMEOUT), repository, private)
        hub.upload_folder(
            repo_id=repository, folder_path=copy, allow_patterns=list(FILES), commit_message="Upload a zipeft adapter"
        )
    return str(url)


def pull(repository: str, out: Path, *, revision: str | None = None) -> Path:
    """Download an adapter into a new folder, and return it.

    Raises ``UserError`` if the hub does not give it, if what it gives is no adapter, and if there is a folder already.
    """
    import huggingface_hub

    check_name(repository)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is there already: choose another folder for --out")
    with _worded(f"the hub did not give {repository}"):
        # Asked first, because this question is not repeated for half a minute when there is no network.
        info = huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=TIMEOUT)
        if missing := {TENSORS, RECORD} - _names(info):
            raise UserError(f"{repository} on the hub is no adapter of zipeft: it has no {min(missing)}")
        snapshot = Path(huggingface_hub.snapshot_download(repository, revision=info.sha, allow_patterns=list(FILES)))
    try:
        read_record(snapshot)
        read_tensors(snapshot)
    except UserError as error:  # which names a file in the cache of the hub's client
        raise UserError(f"{repository} on the hub is no adapter that can be used: {error}") from error
    for name in FILES:
        if (snapshot / name).is_file():
            write_atomically(out / name, (snapshot / name).read_bytes())
    return out


def published(record: dict[str, Any]) -> dict[str, Any]:
    """Return an adapter's record without paths of this machine: the backbone by its name, and no folder of data."""
    backbone, task = record["backbone"], record["task"]
    checkpoint = {"checkpoint": backbone["checkpoint"]} if "checkpoint" in backbone["settings"] else {}
    data_dir = {"data_dir": None} if "data_dir" in task["settings"] else {}
    return {
        **record,
        "backbone": {**backbone, "settings": {**backbone["settings"], **checkpoint}},
        "task": {**task, "settings": {**task["settings"], **data_dir}},
    }


def check_name(repository: str) -> None:
    """Raise ``UserError`` unless a name is of the form owner/name, as the hub has it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        if repository.count("/") != 1:
            raise HFValidationError
    except HFValidationError:
        raise UserError(f"{repository!r} is no name on the hub: give owner/name") from None


def _check_fit(info: Any, repository: str, private: bool) -> None:
    if private and not info.private:  # the hub passes over the wish where the repository is there already
        raise UserError(
            f"{repository} is there already and is public: make it private on the hub, or leave out --private"
        )
    others = _names(info) - OWN_FILES
    if others and RECORD not in _names(info):
        raise UserError(f"{repository} is there already and holds something else ({min(others)}): give another name")


def _names(info: Any) -> set[str]:
    return {file.rfilename for file in info.siblings or ()}


@contextmanager
def _worded(what: str) -> Iterator[None]:
    """Say in one line what the hub's client raises, and nothing else of what it has to say."""
    from huggingface_hub import errors

    try:
        with _silent():
            yield
    except UserError:
        raise
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{what}: it has no such revision") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{what}: there is no such repository, or your token may not see it (hf auth whoami)"
        ) from error
    except Exception as error:  # the client changed its HTTP library twice: its errors have no common base
        raise UserError(
            f"{what} ({type(error).__name__}: {one_line(error)[:160]}): check connection and token"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the hub's client from telling of its attempts, and from drawing bars where nobody sees them move."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    verbosity, bars = logging.get_verbosity(), not are_progress_bars_disabled() and not sys.stderr.isatty()
    logging.set_verbosity_error()
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            enable_progress_bars()
