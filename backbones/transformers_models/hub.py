"""Models of the Hugging Face hub: their folders in its local cache, downloaded where they are not there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.backbones.transformers_models import folder as model_folder
from zipeft.errors import UserError
from zipeft.sources.hub_download import HubUnavailable, Repository

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

OWNERS = {
    "roberta-base": "FacebookAI/roberta-base",
    "roberta-large": "FacebookAI/roberta-large",
    "xlm-roberta-base": "FacebookAI/xlm-roberta-base",
    "xlm-roberta-large": "FacebookAI/xlm-roberta-large",
    "bert-base-uncased": "google-bert/bert-base-uncased",
}
"""The hub knows these by a short name too; a copy of either name is the same one."""

INSTEAD = (
    "use a local folder (--checkpoint PATH), random weights (--no-pretrained), or the embedded default "
    "(no --checkpoint)"
)


def check_name(name: str) -> None:
    """Raise ``UserError`` unless ``name`` may be one of the hub's, "roberta-base" or "owner/name"."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise UserError(f"checkpoint {name!r} is no name on the hub, and there is no such folder: {INSTEAD}") from None


def cached(name: str) -> Path | None:
    """Return the folder of a model in the hub's local cache, whole; None if it is not there."""
    for repository in dict.fromkeys((name, OWNERS.get(name, name))):
        config = Repository(repository).cached(model_folder.CONFIG)
        if config and not model_folder.lacks(config.parent):
            return config.parent
    return None


def tokenizer_checksum(name: str) -> str:
    """Return the SHA-256 of the tokenizer of a model in the hub's local cache, as ``folder.checksum_of``."""
    found = [Repository(name).cached(filename) for filename in sorted({model_folder.CONFIG, *model_folder.TOKENIZER})]
    return model_folder.checksum_of({path.name: path for path in found if path})


def fetch(name: str, check_config: Callable[[PreTrainedConfig], None]) -> Path:
    """Return the folder of a model in the hub's local cache. What is cached is used without asking the hub.

    Raises ``UserError`` when the hub does not give the model, and what ``check_config`` raises of its config, before
    gigabytes of weights come for nothing.
    """
    check_name(name)
    if folder := cached(name):
        return folder
    repository = Repository(name)
    try:
        present = repository.ask().files
        folder = repository.download_file(model_folder.CONFIG).parent
        check_config(model_folder.read_config(folder))
        for filename in _wanted(present):
            repository.download_file(filename)
    except HubUnavailable as reason:
        raise UserError(f"the hub did not give {name} ({reason}): {INSTEAD}") from reason
    if lacking := model_folder.lacks(folder):
        raise UserError(f"{name} on the hub has no {lacking}: {INSTEAD}")
    return folder


def _wanted(present: Collection[str]) -> list[str]:
    """Return which of a repository's files are read: for tokens, for generation, and one form of the weights."""
    weights = next((name for name in model_folder.WEIGHTS if name in present), None)
    pattern = f"{weights.partition('.')[0]}-*" if weights and weights.endswith(".json") else ""
    shards = [name for name in present if pattern and fnmatchcase(name, pattern)]
    read = {*model_folder.TOKENIZER, model_folder.GENERATION}
    return sorted([*(name for name in present if name in read), *([weights] if weights else []), *shards])
