"""The weights of open_clip's models: published ones from the hub, and what a file must hold to be loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.backbones.clip.choice import Choice
from zipeft.errors import UserError

if TYPE_CHECKING:
    from torch import nn

ALONE = 'weights are the model\'s state dict, alone or beside other things as "state_dict", best as safetensors'


def cached(choice: Choice) -> Path | None:
    """Return the file of published weights where open_clip keeps it; None if it is not there yet."""
    import huggingface_hub
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, filename = os.path.split(choice.published.get("hf_hub", ""))
    if not repository:
        file = Path("~/.cache/clip").expanduser() / os.path.basename(choice.published["url"])
        return file if file.is_file() else None
    published = filename or HF_WEIGHTS_NAME
    safe = Path(filename).with_suffix(".safetensors").name if filename else HF_SAFE_WEIGHTS_NAME
    for name in (safe, published):
        file = huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(file, str):
            return Path(file)
    return None


def fetch(choice: Choice) -> Path:
    """Return the file of published weights; what is cached is used without asking the hub.

    Raises: ``UserError`` when they cannot be had.
    """
    import huggingface_hub
    import open_clip

    from zipeft.backbones.transformers_models.folder import line

    if file := cached(choice):
        return file
    repository, _ = os.path.split(choice.published.get("hf_hub", ""))
    try:
        if repository:  # asked first: this question is not repeated for half a minute when there is no network
            huggingface_hub.HfApi().model_info(repository, timeout=15)
        return Path(open_clip.download_pretrained(choice.published))
    except Exception as error:  # clients of hubs and of the web fail in many ways
        raise UserError(
            f"the weights of {choice.label} cannot be had ({line(error)}): use a local file (--checkpoint "
            f"{choice.label}:PATH), random weights (--no-pretrained), or the embedded default (no --checkpoint)"
        ) from error


def load(model: nn.Module, choice: Choice, file: Path) -> None:
    """Load a file of weights, which must be just those of the model, without running anything that it holds.

    Raises: ``UserError`` for a damaged file and for weights of another model.
    """
    from zipeft.adapters.formats.files import read_tensors

    try:
        state = read_tensors(file)
    except UserError as error:
        raise UserError(f"{error} ({ALONE})") from error
    if problem := _mismatch(state, model.state_dict()):
        raise UserError(f"{str(file)!r} holds no weights of {choice.label}: {problem}: name the model they belong to")
    model.load_state_dict(state)


def _mismatch(state: dict, own: dict) -> str:
    """Say what in a state dict differs from the model's own in name or shape; "" for nothing."""
    for key, value in own.items():
        if key not in state:
            return f"it lacks {key!r}"
        if state[key].shape != value.shape:
            return f"{key!r} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
    foreign = sorted(state.keys() - own.keys())
    return f"it has {foreign[0]!r}, which the model has not" if foreign else ""
