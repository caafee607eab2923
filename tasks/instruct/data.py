"""From instructions and their responses to a data set: the splits it lacks, the part that is taken, the checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zipeft.api.data import Data, Split
from zipeft.errors import UserError
from zipeft.sources.splits import choose, note_shared
from zipeft.text import templates
from zipeft.text.assembly import cut_groups, linked, validation_share, words_of

SPLITS = ("train", "validation", "test")

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


class Instruction(NamedTuple):
    """What a model is to respond to. ``input`` is what the instruction is about, or "".

    ``history`` is what was said before, as (role, content): perhaps a system's message, then user and assistant in
    turn. ``name`` says which record it is.
    """

    instruction: str
    input: str = ""
    history: tuple[tuple[str, str], ...] = ()
    name: str = ""

    def content(self) -> Instruction:
        """Return it without its name, to compare what is asked."""
        return self._replace(name="")


class Record(NamedTuple):
    """An instruction and its reference responses; the first response is learnt. ``subtask`` and ``conversation`` name
    what it belongs to, if anything."""

    example: Instruction
    references: tuple[str, ...]
    subtask: str = ""
    conversation: str = ""


Splits = Mapping[str, Sequence[Record]]


def completed(splits: Splits, seed: int) -> tuple[Splits, list[str]]:
    """Return the splits with those that lack cut from the training data, and notes of how.

    Conversations are never cut in two, and what asks the same stays together. The test data are the same whatever
    ``seed`` is, which decides what of the rest is validation data.
    """
    made, notes = dict(splits), []
    for split, own, said in (("test", 0, ""), ("validation", seed, f" with seed {seed}")):
        if split in made:
            continue
        train = made["train"]
        share = validation_share(len(train))
        stay, taken = cut_groups(_groups(train), share, own)
        made |= {"train": [train[at] for at in stay], split: [train[at] for at in taken]}
        notes.append(f"{split} cut from the training data, {100 * share:.2g}%{said}")
    return {split: made[split] for split in (*SPLITS, *made.keys() - set(SPLITS))}, notes


def build_data(
    name: str, splits: Splits, taken: Mapping[str, int], seed: int, source: str, notes: Sequence[str]
) -> Data:
    """Return the data set of records by split; splits by other names than ``SPLITS`` are ``Data.shifted``.

    ``taken`` says how many records of each split to take (0: all), chosen with ``seed``, of each subtask as large a
    share as it has of all. ``Data.checksum`` covers all that is taken. Raises ``UserError``: a split without records,
    test data that are, for the most part, training data.
    """
    chosen = {}
    for split, records in splits.items():
        if not records:
            raise UserError(f"{source} has too few records to have one for {split}: add some")
        indices = choose([record.subtask for record in records], taken[split], seed)
        chosen[split] = [records[index] for index in indices]
    made = {split: _split(records) for split, records in chosen.items()}
    return Data(
        name=name,
        classes=[],
        train=made.pop("train"),
        validation=made.pop("validation"),
        test=made.pop("test"),
        source=source,
        checksum=_checksum(chosen),
        note="; ".join([*notes, _counts(splits, chosen, seed), *_note_leaks(source, chosen)]),
        shifted=made,
    )


def check_template(splits: Splits, template: str) -> None:
    """Raise ``UserError``, which names a record, if a template has no place for what records hold."""
    for records in splits.values():
        for record in records:
            example = record.example
            if example.history and template != templates.CHAT:
                raise UserError(
                    f"{example.name} comes after other messages, for which a template other than chat has no place: "
                    "set instruct.template=chat"
                )
            if example.input and not templates.takes_input(template):
                raise UserError(
                    f"{example.name} has an input, for which the template has no place: add {{input}} to "
                    "instruct.template"
                )


def _groups(records: Sequence[Record]) -> list[int]:
    """Return which records stay together: turns of a conversation, and those that ask for the same in other cases."""
    asked = [
        (words_of(record.example.instruction), words_of(record.example.input), record.example.history)
        for record in records
    ]
    return linked([[record.conversation, key] for record, key in zip(records, asked, strict=True)])


def _split(records: Sequence[Record]) -> Split:
    return Split(
        examples=[record.example for record in records],
        targets=[record.references for record in records],
        names=[record.example.name for record in records],
    )


def _counts(splits: Splits, chosen: Splits, seed: int) -> str:
    words = []
    for split, records in splits.items():
        of_all = f" of {len(records):,}" if len(chosen[split]) < len(records) else ""
        words.append(f"{len(chosen[split]):,}{of_all} {split}")
    is_part = any(len(chosen[split]) < len(records) for split, records in splits.items())
    return f"records: {', '.join(words)}" + (f", the part chosen with seed {seed}" if is_part else "")


def _note_leaks(source: str, chosen: Splits) -> list[str]:
    """Return notes on test records that ask what a training record asks, word for word."""
    seen = {record.example.content() for split in ("train", "validation") for record in chosen[split]}
    notes = []
    for split, records in chosen.items():
        if split not in ("train", "validation"):
            notes += note_shared(source, f"{split} record", seen, [record.example.content() for record in records])
    return notes


def _checksum(chosen: Splits) -> str:
    digest = hashlib.sha256()
    for split, records in sorted(chosen.items()):
        for record in records:
            digest.update(json.dumps([split, *record]).encode() + b"\n")
    return digest.hexdigest()
