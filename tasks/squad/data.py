"""From questions in files to a data set: the splits it lacks, the part that is taken, the checksum, the note."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping

from zipeft.api.data import Data, Split
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.sources.splits import choose
from zipeft.tasks.squad.files import QuestionListing, Record, Repairs, read_questions
from zipeft.tasks.squad.sets import Files
from zipeft.text.assembly import cut_groups

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")

MIN_ARTICLES = 5
"""Questions on fewer articles are split by context."""

Records = list[Record]


def build_data(name: str, files: Files, taken: Mapping[str, int], split_seed: int, repairs: Repairs) -> Data:
    """Return a data set, with the splits that it lacks cut by whole articles or contexts and seeded (see ``_cut``).

    Without any split: 60% train, 20% validation, 20% test. Without validation: 10% of train. ``taken`` says how many
    questions of each split are taken: the first of a seeded shuffle, in the order of the file; 0 or more than there
    are for all. Splits by other names are sets of other domains (``Data.shifted``). ``Data.checksum`` covers all that
    is taken. Raises ``UserError``: what ``read_questions`` finds, a question in two splits, a split without questions,
    a set named squad-v1.1 that has questions without an answer.
    """
    listings = {
        split: read_questions(paths, repairs, learnt=split in ("train", "all")) for split, paths in files.splits.items()
    }
    _check(name, files, listings)
    whole, notes = _completed(name, {split: listing.records for split, listing in listings.items()}, split_seed)
    splits = {split: _some(records, taken[split], split_seed) for split, records in whole.items()}
    shifted = [split for split in splits if split not in SPLITS]
    for title, group in (("questions", SPLITS), ("other domains", shifted)):
        if group:
            notes.append(f"{title}: {', '.join(_count(split, splits[split], whole[split]) for split in group)}")
    if any(len(splits[split]) < len(whole[split]) for split in splits):
        notes.append(f"parts chosen with seed {split_seed}")
    notes += _unanswerable(splits) + _leaks(name, splits) + _repaired(files, listings)
    return Data(
        name=name,
        classes=("start", "end"),
        train=_split(splits["train"]),
        validation=_split(splits["validation"]),
        test=_split(splits["test"]),
        source=files.source,
        checksum=_checksum(splits),
        note="; ".join([*([files.what] if files.what else []), *notes]),
        shifted={split: _split(splits[split]) for split in shifted},
    )


def _check(name: str, files: Files, listings: Mapping[str, QuestionListing]) -> None:
    seen: dict[str, str] = {}
    for split, listing in listings.items():
        file = files.splits[split][0]
        if both := [record.id for record in listing.records if record.id in seen]:
            more = f", and {len(both) - 1:,} more are in two files" if len(both) > 1 else ""
            raise UserError(
                f"{file}: question {both[0]!r} is in {seen[both[0]]} too{more}: keep it in one of them, "
                "or give it another id"
            )
        for record in listing.records:
            if name == "squad-v1.1" and not record.answers.texts:
                raise UserError(
                    f"{file}: question {record.id!r} has no answer, but in version 1.1 each has one: name the "
                    "files train-v2.0.json and dev-v2.0.json if they are of version 2.0, else train.json and dev.json"
                )
        seen.update((record.id, file.name) for record in listing.records)


# --- splits -----------------------------------------------------------------------------------------------------------


def _completed(name: str, splits: Mapping[str, Records], seed: int) -> tuple[dict[str, Records], list[str]]:
    """Return all splits, those that were lacking cut out of others, and a note of how."""
    if "all" in splits:
        records = splits["all"]
        unit = _unit(records)
        rest, test = _cut(name, records, unit, 0.2, seed)
        train, validation = _cut(name, rest, unit, 0.25, seed)
        splits = {"train": train, "validation": validation, "test": test, **_without(splits, "all")}
        parts = ", ".join(f"{_groups(splits[split], unit):,} {split}" for split in SPLITS)
        groups = counted(_groups(records, unit), unit)
        return splits, [f"{len(records):,} questions in {groups}, split 60/20/20 by {unit} with seed {seed} ({parts})"]
    if "validation" in splits:
        return dict(splits), []
    unit = _unit(splits["train"])
    train, validation = _cut(name, splits["train"], unit, 0.1, seed)
    part, whole = (_groups(records, unit) for records in (validation, splits["train"]))
    note = f"validation cut from the given training questions, 10% by {unit} with seed {seed} ({part:,} of {whole:,})"
    return {**splits, "train": train, "validation": validation}, [note]


def _without(splits: Mapping[str, Records], name: str) -> dict[str, Records]:
    return {split: records for split, records in splits.items() if split != name}


def _unit(records: Records) -> str:
    """Return what is kept whole: "article" where every question names its own and there are some, else "context"."""
    articles = {record.article for record in records}
    return "article" if "" not in articles and len(articles) >= MIN_ARTICLES else "context"


def _key(record: Record, unit: str) -> str:
    return record.article if unit == "article" else record.question.context


def _groups(records: Records, unit: str) -> int:
    return len({_key(record, unit) for record in records})


def _cut(name: str, records: Records, unit: str, fraction: float, seed: int) -> tuple[Records, Records]:
    """Return the questions that stay and those that are taken, both in their order: about ``fraction`` of them, by
    whole groups, but one group at least."""
    keys = [_key(record, unit) for record in records]
    sizes = Counter(keys)
    if len(sizes) < 2:
        raise UserError(f"{name} has too few questions to split them by {unit}: add some on other contexts")
    _, taken = cut_groups(keys, fraction, seed)
    chosen = {keys[index] for index in taken} or {min(sizes, key=sizes.__getitem__)}
    sides: tuple[Records, Records] = ([], [])
    for key, record in zip(keys, records, strict=True):
        sides[key in chosen].append(record)
    return sides


def _some(records: Records, count: int, seed: int) -> Records:
    return [records[index] for index in choose([0] * len(records), count, seed)]


def _split(records: Records) -> Split:
    return Split(
        examples=[record.question for record in records],
        targets=[record.answers for record in records],
        names=[record.id for record in records],
    )


def _checksum(splits: Mapping[str, Records]) -> str:
    digest = hashlib.sha256()
    for split, records in splits.items():
        for record in records:
            digest.update(json.dumps([split, *record]).encode() + b"\n")
    return digest.hexdigest()


# --- notes ------------------------------------------------------------------------------------------------------------


def _count(split: str, taken: Records, there: Records) -> str:
    return f"{len(taken):,} {split}" if len(taken) == len(there) else f"{len(taken):,} of {len(there):,} {split}"


def _repaired(files: Files, listings: Mapping[str, QuestionListing]) -> list[str]:
    """Return how much of the files was changed or left out."""
    kinds = {
        "answers moved to the nearest place where the context has them": "moved",
        "questions dropped that have the id of an earlier one": "repeated",
        "questions left out of which the context does not hold an answer": "unfounded",
    }
    notes = []
    for what, count in kinds.items():
        numbers = {files.splits[split][0].name: getattr(listing, count) for split, listing in listings.items()}
        if there := [f"{number:,} in {name}" for name, number in numbers.items() if number]:
            notes.append(f"{what}: {', '.join(there)}")
    return notes


def _unanswerable(splits: Mapping[str, Records]) -> list[str]:
    numbers = {split: sum(not record.answers.texts for record in splits[split]) for split in SPLITS}
    if not any(numbers.values()):
        return []
    return [f"of these without an answer: {', '.join(f'{number:,} {split}' for split, number in numbers.items())}"]


def _leaks(name: str, splits: Mapping[str, Records]) -> list[str]:
    """Warn of contexts of test questions that training has too, under other questions. It is no error: what is asked
    is new."""
    seen = {record.question.context for split in ("train", "validation") for record in splits[split]}
    notes = []
    for split, records in splits.items():
        leaks = 0 if split in ("train", "validation") else sum(record.question.context in seen for record in records)
        if leaks:
            log.warning("%s: %d %s questions are on contexts that train or validation has too", name, leaks, split)
            notes.append(f"{counted(leaks, f'{split} question')} on contexts that train or validation has too")
    return notes
