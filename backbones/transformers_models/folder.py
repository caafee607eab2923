"""The files of a model in a folder, as ``transformers`` saves them: config, weights, tokenizer, each checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft import strict_json
from zipeft.errors import UserError, described, one_line
from zipeft.sources import package_archive
from zipeft.sources.tensors import read_tensors

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""The files that hold the weights or list those that do; the first that is there counts."""

VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model",
    "tokenizer.model",
)  # fmt: skip
TOKENIZER = {
    *VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt",
    "chat_template.jinja", "tekken.json",
}  # fmt: skip
MORE = ("tokenizer.*.json", "additional_chat_templates/*.jinja")
"""Tokenizers for some versions of the library alone, and chat templates by name."""

GENERATION = "generation_config.json"

MOST_TOKENS = 2**31
"""More than any vocabulary has."""

MOST_LAYERS = 2_000
LONGEST_NAME = 255
"""What file systems take; to ask for longer names is an error there."""


def lacks(folder: Path, *, weights: bool = True) -> str:
    """Say what a folder lacks to hold a model with its tokenizer, or a config alone; "" if it is whole."""
    if not (folder / CONFIG).is_file():
        return CONFIG
    if not weights:
        return ""
    missing = next((file.name for file in weight_files(folder) if not file.is_file()), "")
    return missing or ("" if has_tokenizer(folder) else "tokenizer.json")


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in VOCABULARIES)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ``transformers`` from reporting on stderr what is checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def read_config(folder: Path) -> PreTrainedConfig:
    """Return the config. Raises ``UserError`` if it cannot be read without running code of the folder's."""
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # what a damaged or foreign file raises is no contract of the library
        raise UserError(
            f"{str(folder / CONFIG)!r} is no config that transformers reads ({one_line(error.__cause__ or error)})"
        ) from error
    if (count := getattr(config, "num_hidden_layers", None) or 0) > MOST_LAYERS:  # to build them would take for ever
        raise UserError(
            f"{str(folder / CONFIG)!r} has {count:,} layers, and a model {MOST_LAYERS:,} at most: repair it"
        )
    return config


def end_tokens(folder: Path) -> list[int]:
    """Return the ids at which a model's own settings of generation end a text, beside its tokenizer's end token.

    Nothing else of them is read: temperatures and penalties would make other answers of the likeliest ones.
    """
    path = folder / GENERATION
    try:
        found = strict_json.parse(path.read_bytes()).get("eos_token_id") if path.is_file() else None
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{str(path)!r} cannot be read ({described(error)}): take it out") from error
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(token) is int and 0 <= token < MOST_TOKENS for token in ids):
        raise UserError(f"{str(path)!r} has the eos_token_id {found!r:.40}: give the id of a token, or a list of them")
    return ids


# --- weights ----------------------------------------------------------------------------------------------------------


def weight_files(folder: Path) -> list[Path]:
    """Return the files of the weights, which need not be there: one, or the shards by name."""
    name = next((name for name in WEIGHTS if (folder / name).is_file()), WEIGHTS[0])
    if not name.endswith(".index.json"):
        return [folder / name]
    try:
        shards = sorted(set(strict_json.parse((folder / name).read_bytes())["weight_map"].values()))
        if not shards or any(Path(shard).name != shard or len(shard) > LONGEST_NAME for shard in shards):
            raise ValueError("it names no files beside it")
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{str(folder / name)!r} is no list of the files of weights ({described(error)})") from error
    return [folder / shard for shard in shards]


def checksum(folder: Path, *, weights: bool = True) -> str:
    """Return the checksum of all files of a folder that are read, as ``checksum_of``.

    They are config, tokenizer with its chat templates, settings of generation and, if asked for, the weights: another
    config makes another model of the same weights, and another template asks it another question.
    """
    present = [path for name in (CONFIG, GENERATION, *TOKENIZER) if (path := folder / name).is_file()]
    files = {*present, *chain.from_iterable(map(folder.glob, MORE)), *(weight_files(folder) if weights else ())}
    return checksum_of({file.relative_to(folder).as_posix(): file for file in files})


def checksum_of(files: Mapping[str, Path]) -> str:
    """Return the SHA-256 of what ``sha256sum`` prints of files, by their names in order."""
    lines = [f"{package_archive.file_sha256(file)}  {name}\n" for name, file in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def weights_checksum(folder: Path) -> str:
    """Return the checksum that older versions of zipeft took of a folder, of its weights alone: their SHA-256, or where
    they are several files, the SHA-256 of those files' SHA-256s."""
    hashes = [package_archive.file_sha256(file) for file in weight_files(folder)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_state(folder: Path) -> dict[str, Tensor]:
    """Return the weights by name. Raises ``UserError`` for a damaged file and for one that asks to run code."""
    state: dict[str, Tensor] = {}
    for file in weight_files(folder):
        state |= read_tensors(file)
    return state


# --- the tokenizer ----------------------------------------------------------------------------------------------------


def read_tokenizer(
    folder: Path, *, vocabulary: int, longest: int, types: bool, end_pads: bool
) -> PreTrainedTokenizerFast:
    """Return the tokenizer, set up for a model: what it gives for a text is what the model takes, padded by none.

    Args:
        vocabulary: how many ids have an embedding.
        longest: how many tokens the model takes; the tokenizer's own limit may be lower.
        types: whether the model tells a pair's first text from its second by token types.
        end_pads: whether the end token may pad where the tokenizer has no padding token.

    Raises: ``UserError`` if it is a slow one (written in Python), has no padding token, or has ids of no embedding.
    """
    from transformers import AutoTokenizer

    place = f"the tokenizer in {str(folder)!r}"
    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # as above
        raise UserError(f"{place} cannot be loaded ({described(error)}): save it again, as a tokenizer.json") from error
    if not tokenizer.is_fast:
        raise UserError(f"{place} is a slow one, which does not say where tokens lie: save it as a tokenizer.json")
    own = tokenizer.model_max_length
    if type(own) not in (int, float) or not own >= 1:
        raise UserError(f"{place} has the model_max_length {own!r:.40}: give a number of tokens, or take it out")
    if tokenizer.pad_token_id is None and end_pads:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise UserError(f"{place} has no padding token: set one (pad_token) and save it again")
    if (highest := max(tokenizer.get_vocab().values(), default=0)) >= vocabulary:
        raise UserError(f"{place} has ids up to {highest}, but the model has {vocabulary} embeddings: take its own")
    tokenizer.backend_tokenizer.no_truncation()  # some files ask for either
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.model_max_length = int(min(longest, own))
    tokenizer.model_input_names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    # Windows are cut from texts of any length; to warn of one too long once is what the library does where this is not.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer
