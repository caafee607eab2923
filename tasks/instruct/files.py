"""Reading instructions and responses: in Alpaca's layout or as conversations, from a folder, a file or the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.sources.folder import require_data
from zipeft.sources.hub_download import HubUnavailable, Repository, answered, offline
from zipeft.tasks.instruct.data import ASSISTANT, SYSTEM, USER, Instruction, Record
from zipeft.text.tables import SUFFIXES, find_split, read_table

REPOSITORY, REVISION = "tatsu-lab/alpaca", "dce01c9b08f87459cf36a430d809084718273017"
"""Stanford Alpaca on the hub, and the commit of it that is read unless another one is named."""

STEMS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
    "unseen": ("unseen",),
}
"""Names of the files of a split."""

ROLES = {
    "system": SYSTEM, "user": USER, "human": USER,
    "assistant": ASSISTANT, "gpt": ASSISTANT, "chatgpt": ASSISTANT,
}  # fmt: skip
"""Who speaks, by the names that OpenAI's and ShareGPT's layouts have for it."""

CONVERSATION = ("messages", "conversations")

RESPONSE = ("output", "response")

NOTHING = ("", '""', "[]", "{}", "null", "none", "None")
"""What is written where there is nothing to say."""

OPTIONAL = ("input", "context", "system", "history", "prompt", "completion", "question", "answer", "tools")
"""Columns that a record may have beside its instruction or its messages; they are read, or refused."""


class Row(NamedTuple):
    """A raw record: its name, its place in words for messages, and its values by column names in lower case."""

    name: str
    place: str
    values: Mapping[str, Any]


class Skip(NamedTuple):
    """Whether to leave out and count, rather than refuse, records with an ``empty`` response and ``broken`` records."""

    empty: bool = False
    broken: bool = False


@dataclass
class RecordListing:
    """Records by split, their source, and how many were left out."""

    name: str
    source: str
    splits: dict[str, list[Record]] = field(default_factory=dict)
    empty: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, split: str, rows: Iterator[Row], skip: Skip) -> None:
        """Add the records of some rows. Raises ``UserError``, which names the place, for what is no record, unless it
        is one to ``skip``: then it is counted and passed over."""
        records = self.splits.setdefault(split, [])
        for row in rows:
            try:
                found = _records(row)
            except UserError as error:
                if not skip.broken:
                    raise UserError(f"{error}; instruct.skip_broken=true leaves such records out") from None
                self.broken.append(str(error))
                continue
            for record in found:
                if record.references[0]:
                    records.append(record)
                elif skip.empty:
                    self.empty += 1
                else:
                    raise UserError(
                        f"{row.place} has an empty response: correct it, or set instruct.skip_empty=true to leave "
                        "such records out"
                    )
        if self.broken and not records:
            raise UserError(f"all records for {split} are broken: {self.broken[0]}")

    def notes(self) -> list[str]:
        empty = [f"{counted(self.empty, 'record')} with an empty response left out"] if self.empty else []
        broken = [f"{counted(len(self.broken), 'broken record')} left out"] if self.broken else []
        return empty + broken


def local_name(root: Path) -> str:
    """Return the name of a data set: of its folder, or of its one file. Raises ``UserError`` if there is neither."""
    root = require_data(Path(root))
    return root.stem if root.is_file() else root.name


def read_local(root: Path, skip: Skip) -> RecordListing:
    """Return the records of a folder with train, validation, test and unseen files, or of a single file.

    A record is {"instruction", "output"}, perhaps with "input", or a conversation: {"messages": [{"role", "content"}]}
    or {"conversations": [{"from", "value"}]}; either may have a "system". Dolly's {"context", "response"} are an input
    and an output. Raises ``UserError`` that names the file and the record.
    """
    root = require_data(Path(root))
    listing = RecordListing(local_name(root), f"{'file' if root.is_file() else 'folder'} {root.name}")
    for split, paths in _files(root).items():
        for path in paths:
            listing.add(split, _local_rows(path), skip)
    return listing


def read_hub(repository: str, revision: str, skip: Skip) -> RecordListing:
    """Return the records of a data set on the hub, or in its local cache, by the names of its splits.

    ``revision`` "" stands for the newest one, of Alpaca for ``REVISION``. Raises ``UserError``, also if the hub does
    not give it, or it has no split named train.
    """
    revision = revision or (REVISION if repository == REPOSITORY else "")
    listing = RecordListing(repository.rpartition("/")[2], f"hub {repository}{'@' if revision else ''}{revision[:7]}")
    for split, rows in _hub_splits(repository, revision).items():
        listing.add(split, _hub_rows(repository, split, rows), skip)
    return listing


# --- files ------------------------------------------------------------------------------------------------------------


def _files(root: Path) -> dict[str, list[Path]]:
    kinds = ", ".join(f".{suffix}" for suffix in SUFFIXES)
    if root.is_file():
        if root.suffix.lower().lstrip(".") not in SUFFIXES:
            raise UserError(f"{root} is of no known kind: give {kinds}")
        return {"train": [root]}
    found = {split: files for split, stems in STEMS.items() if (files := find_split(root, stems))}
    if "train" not in found:
        raise UserError(f"{root} has no train file ({kinds}): add one, or give a single file as --data-dir")
    return found


def _local_rows(path: Path) -> Iterator[Row]:
    first = read_table(path, [(*CONVERSATION, "instruction")]).rows[0][1][0]
    said, needed = (CONVERSATION, ()) if isinstance(first, list) else (("instruction",), (RESPONSE,))
    table = read_table(path, [said, *needed], optional=[(name,) for name in OPTIONAL])
    required = (said[0], *(name for name, *_ in needed))
    for number, values in table.rows:
        there = dict(zip((*required, *OPTIONAL), values, strict=True))
        there = {name: value for name, value in there.items() if name in required or value is not None}
        yield Row(f"{path.stem}/{number}", table.place(number), there)


def _hub_splits(repository: str, revision: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    import datasets

    unreached = None
    try:
        Repository(repository, revision, "dataset").ask()
    except HubUnavailable as reason:
        unreached = reason
    try:
        with answered(), offline() if unreached else nullcontext():
            splits = datasets.load_dataset(repository, revision=revision or None)
    except HubUnavailable as reason:
        raise UserError(
            f"the hub did not give {repository} ({unreached or reason}): connect, or name a folder or a file with "
            "--data-dir"
        ) from reason
    if "train" not in splits:
        raise UserError(f"{repository} has no split named train (there: {', '.join(splits)}): take another data set")
    return {split: splits[split] for split in STEMS if split in splits}


def _hub_rows(repository: str, split: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        yield Row(f"{split}/{number}", f"{repository}, {split}, row {number}", {k.lower(): v for k, v in row.items()})


# --- records ----------------------------------------------------------------------------------------------------------


def _records(row: Row) -> list[Record]:
    """Return the records of a row: one, or one for each turn of the assistant in a conversation."""
    for column in CONVERSATION:
        if row.values.get(column) is not None:
            return _turns(row, row.values[column])
    if "instruction" not in row.values:
        raise UserError(f"{row.place} has neither an instruction nor messages (there: {', '.join(row.values)})")
    values = row.values
    instruction = _text(row, "instruction", values["instruction"])
    given, context = (_optional(row, name) for name in ("input", "context"))
    given = "" if given == values["instruction"] else given
    if given and context:
        raise UserError(f"{row.place} has both an input and a context: join them, or take one out")
    output = _text(row, "output", values.get("output", values.get("response")))
    _check_all_read(row, ("input", "context", "system"), (instruction, output))
    example = Instruction(instruction, given or context, _system(row), row.name)
    return [_record(row, example, output)]


def _turns(row: Row, messages: Any) -> list[Record]:
    """Return each turn of the assistant as a record, with what stands before it as its history."""
    said = _said(row, messages)
    if system := _system(row):
        if said and said[0][0] == SYSTEM:
            raise UserError(f"{row.place} has a system beside its messages and in them: take one out")
        said = [*system, *said]
    _check_all_read(row, ("system",), [content for _, content in said])
    records: list[Record] = []
    for at, (role, content) in enumerate(said):
        if role == ASSISTANT:
            name = f"{row.name}.{len(records) + 1}"
            records.append(_record(row, Instruction(said[at - 1][1], "", tuple(said[: at - 1]), name), content))
    if not records:
        raise UserError(f"{row.place} has no message of the assistant, of which to learn: take the record out")
    return records


def _system(row: Row) -> tuple[tuple[str, str], ...]:
    """Return what the system says before all else, as a history."""
    text = _optional(row, "system")
    return ((SYSTEM, text),) if text else ()


def _optional(row: Row, name: str) -> str:
    """Return the text of a column that need not be there, or may be empty: "" then."""
    return "" if row.values.get(name) is None else _text(row, name, row.values[name])


def _check_all_read(row: Row, read: Sequence[str], said: Sequence[str]) -> None:
    """Raise ``UserError`` for an optional column that holds more than what is read says already, as the whole prompt
    does that many data sets have beside its parts."""
    for name in OPTIONAL:
        value = row.values.get(name)
        text = value.strip() if isinstance(value, str) else json.dumps(value or "", default=str)
        repeats = any(part and part in text for part in said)
        if name not in read and text not in NOTHING and not repeats:
            raise UserError(
                f"{row.place} has {_a(name)}, which is not read: write the record as messages, or take it out"
            )


def _said(row: Row, messages: Any) -> list[tuple[str, str]]:
    """Return the role and the content of each message. Raises ``UserError`` unless user and assistant alternate."""
    if not isinstance(messages, (list, tuple)):
        raise UserError(f"{row.place} has messages that are no list: give [{{role, content}}, ...]")
    said = [_message(row, number, message) for number, message in enumerate(messages, 1)]
    first = 1 if said and said[0][0] == SYSTEM else 0
    for at, (role, _) in enumerate(said[first:]):
        expected = ASSISTANT if at % 2 else USER
        if role != expected:
            raise UserError(
                f"{row.place}, message {first + at + 1} is of the {role} where the {expected} should speak: user and "
                "assistant must alternate, the user first"
            )
    return said


def _message(row: Row, number: int, message: Any) -> tuple[str, str]:
    where = row._replace(place=f"{row.place}, message {number}")
    if not isinstance(message, Mapping):
        raise UserError(f"{where.place} is no JSON object: give {{role, content}}")
    role = message.get("role", message.get("from"))
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise UserError(f"{where.place} has the role {role!r}: give system, user or assistant")
    content = _text(where, "content", _joined(where, message.get("content", message.get("value"))))
    if not content and ROLES[role.lower()] == USER:
        raise UserError(f"{where.place} has an empty content: correct it, or take the record out")
    return ROLES[role.lower()], content


def _joined(row: Row, content: Any) -> Any:
    """Return a content that may come in parts, {"type": "text", "text": ...}, as one."""
    if not isinstance(content, (list, tuple)):
        return content
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text":
            raise UserError(f"{row.place} has a part of the type {kind!r}: texts alone can be read")
    return "".join(_text(row, "text", part.get("text"), strip=False) for part in content)


def _record(row: Row, example: Instruction, response: str) -> Record:
    if not example.instruction:
        raise UserError(f"{row.place} has an empty instruction: correct it, or take the record out")
    return Record(example, (response,), conversation=row.name)


def _text(row: Row, name: str, value: Any, *, strip: bool = True) -> str:
    """Return a text without blanks around it. Raises ``UserError`` for what is none, or cannot be written as UTF-8."""
    if value is None:
        raise UserError(f"{row.place} has no {name}: add it, or take the record out")
    if not isinstance(value, str):
        raise UserError(f"{row.place} has {_a(name)} that is no text ({value!r:.40}): give a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{row.place} has half of a surrogate pair in its {name}: correct it") from None
    return value.strip() if strip else value


def _a(name: str) -> str:
    """Return a name behind its article."""
    return name if name.endswith("s") else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
