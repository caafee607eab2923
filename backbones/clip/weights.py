"""The weights of open_clip's models: published ones from the hub, and what a file must hold to be loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.backbones.clip.choice import Choice
from zipeft.errors import UserError
from zipeft.sources.hub_download import HubUnavailable, Repository, answered
from zipeft.sources.tensors import check_finite, mismatch, read_tensors

if TYPE_CHECKING:
    from torch import nn


def cached(choice: Choice) -> Path | None:
    """Return the file of published weights where open_clip keeps it; None if it is not there yet."""
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, filename = os.path.split(choice.published.get("hf_hub", ""))
    if not repository:
        file = Path("~/.cache/clip").expanduser() / os.path.basename(choice.published["url"])
        return file if file.is_file() else None
    published = filename or HF_WEIGHTS_NAME
    safe = Path(filename).with_suffix(".safetensors").name if filename else HF_SAFE_WEIGHTS_NAME
    found = (Repository(repository).cached(name) for name in (safe, published))
    return next(filter(None, found), None)


def fetch(choice: Choice) -> Path:
    """Return the file of published weights; what is cached is used without asking the hub.

    Raises: ``UserError`` when they cannot be had.
    """
    import open_clip

    if file := cached(choice):
        return file
    repository, _ = os.path.split(choice.published.get("hf_hub", ""))
    try:
        if repository:
            Repository(repository).ask()
        with answered():
            return Path(open_clip.download_pretrained(choice.published))
    except HubUnavailable as reason:
        raise UserError(
            f"the weights of {choice.label} cannot be had ({reason}): use a local file (--checkpoint "
            f"{choice.label}:PATH), random weights (--no-pretrained), or the embedded default (no --checkpoint)"
        ) from reason


def load(model: nn.Module, choice: Choice, file: Path) -> None:
    """Load a file of weights, which must be just those of the model, without running anything that it holds.

    Raises: ``UserError`` for a damaged file and for weights of another model.
    """
    state = read_tensors(file)
    if problem := mismatch(state, model.state_dict()):
        raise UserError(f"{str(file)!r} holds no weights of {choice.label}: {problem}: name the model they belong to")
    check_finite(state.items(), file)
    model.load_state_dict(state)
