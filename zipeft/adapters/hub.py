"""Saved adapters on the Hugging Face hub: three files a repository; loading one runs no code.

This was tested against a stand-in for the hub, and has never been tried against the real one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from zipeft.adapters.card import CARD
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import RECORD, TENSORS, read_record, read_tensors
from zipeft.errors import UserError
from zipeft.files import write_atomically
from zipeft.sources.hub_download import Contents, HubUnavailable, Repository, answered

FILES = (TENSORS, RECORD, CARD)
OWN_FILES = {*FILES, ".gitattributes"}


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
        Path(copy, RECORD).write_bytes(published(record).write())
        hub = huggingface_hub.HfApi()
        url = hub.create_repo(repository, private=private or None, exist_ok=True)
        _check_fit(Repository(repository).ask(), repository, private)
        hub.upload_folder(
            repo_id=repository, folder_path=copy, allow_patterns=list(FILES), commit_message="Upload a zipeft adapter"
        )
    return str(url)


def pull(repository: str, out: Path, *, revision: str | None = None) -> Path:
    """Download an adapter into a new folder, and return it.

    Raises ``UserError`` if the hub does not give it, if what it gives is no adapter, and if there is a folder already.
    """
    check_name(repository)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is there already: choose another folder for --out")
    with _worded(f"the hub did not give {repository}"):
        contents = Repository(repository, revision or "").ask()
        if missing := {TENSORS, RECORD} - contents.files:
            raise UserError(f"{repository} on the hub is no adapter of zipeft: it has no {min(missing)}")
        snapshot = Repository(repository, contents.commit).download(FILES)
    try:
        read_record(snapshot)
        read_tensors(snapshot)
    except UserError as error:  # which names a file in the cache of the hub's client
        raise UserError(f"{repository} on the hub is no adapter that can be used: {error}") from error
    for name in FILES:
        if (snapshot / name).is_file():
            write_atomically(out / name, (snapshot / name).read_bytes())
    return out


def published(record: AdapterRecord) -> AdapterRecord:
    """Return an adapter's record without paths of this machine: the backbone by its name, and no folder of data."""
    backbone, task = record.backbone, record.task
    checkpoint = {"checkpoint": backbone.checkpoint} if "checkpoint" in backbone.settings else {}
    data_dir = {"data_dir": None} if "data_dir" in task.settings else {}
    return replace(
        record,
        backbone=replace(backbone, settings={**backbone.settings, **checkpoint}),
        task=replace(task, settings={**task.settings, **data_dir}),
    )


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


def _check_fit(there: Contents, repository: str, private: bool) -> None:
    if private and not there.private:  # the hub passes over the wish where the repository is there already
        raise UserError(
            f"{repository} is there already and is public: make it private on the hub, or leave out --private"
        )
    others = there.files - OWN_FILES
    if others and RECORD not in there.files:
        raise UserError(f"{repository} is there already and holds something else ({min(others)}): give another name")


@contextmanager
def _worded(what: str) -> Iterator[None]:
    """Say in one line what the hub's client raises, and nothing else of what it has to say."""
    try:
        with answered():
            yield
    except HubUnavailable as reason:
        raise UserError(f"{what} ({reason}): check connection and token (hf auth whoami)") from reason
