"""From questions on images to a data set: the checks, the part that is taken, the note and the checksum."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from zipeft.api.data import Data, Split
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.images.reading import BrokenImage
from zipeft.objectives.options import Answer
from zipeft.sources.splits import choose
from zipeft.vqa.question import VisualQuestion

log = logging.getLogger(__name__)

Asked = tuple[VisualQuestion, Answer]
"""An example: what is asked, and the right answer."""

Splits = Mapping[str, Sequence[Asked]]


def by_groups(asked: Asked) -> Hashable:
    """Return what the question counts for: the stratum from which it is chosen."""
    return asked[1].groups


def by_answer(asked: Asked) -> Hashable:
    """Return what the question asks and what is right, as another stratum than ``by_groups``."""
    answer = asked[1]
    return answer.asked, answer.options[answer.index]


def vqa_data(
    name: str,
    splits: Splits,
    *,
    limits: Mapping[str, int],
    seed: int,
    source: str,
    content: Any = None,
    notes: Sequence[str] = (),
    strata: Callable[[Asked], Hashable] = by_groups,
) -> Data:
    """Return the data set of questions, given by split: "train", "validation" and "test".

    ``limits`` says how many of each split to take (0: all), of every stratum as large a share as it has of all; a pair
    is taken whole. ``Data.checksum`` covers what is taken, all but the pixels: ``content``, a JSON value, stands for
    these (the hash of a carrier, or of each file). Raises ``UserError``: a split without questions, a question whose
    answer is none of its options.
    """
    chosen = {}
    for split, examples in splits.items():
        for example in examples:
            if said := fault(example):
                raise UserError(f"{said}: repair it, or set skip_broken=true to leave such questions out")
        if not examples:
            raise UserError(f"{source} has too few questions to have one for {split}: add some")
        chosen[split] = _chosen(examples, limits.get(split, 0), seed, strata)
    made = {split: _split(examples) for split, examples in chosen.items()}
    return Data(
        name=name,
        classes=[],
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        source=source,
        checksum=_checksum(content, chosen),
        note="; ".join([*notes, _counts(splits, chosen, seed)]),
    )


def fault(asked: Asked) -> str:
    """Return what is wrong with an example, which is named; "" for nothing."""
    question, answer = asked
    if not 0 <= answer.index < len(answer.options):
        there = counted(len(answer.options), "option")
        return f"{question.name}: its answer is number {answer.index}, counted from 0, of {there}"
    return ""


def without_broken(splits: Splits) -> tuple[dict[str, list[Asked]], list[str]]:
    """Return the questions that are whole and whose pictures decode, and a note of how many others there are.

    Every picture is decoded once; each one that fails is logged.
    """
    decodes: dict[str, bool] = {}
    kept = {split: [each for each in some if _is_whole(each, decodes)] for split, some in splits.items()}
    lost = sum(len(splits[split]) - len(kept[split]) for split in splits)
    return kept, [f"{counted(lost, 'broken question')} left out"] if lost else []


def _is_whole(asked: Asked, decodes: dict[str, bool]) -> bool:
    picture = asked[0].picture
    if said := fault(asked):
        log.warning("%s: left out", said)
        return False
    if picture is None:
        return True
    if picture.name not in decodes:
        try:
            picture.read()
            decodes[picture.name] = True
        except BrokenImage as error:
            log.warning("%s does not decode (%s): left out", error.path, error.reason)
            decodes[picture.name] = False
    return decodes[picture.name]


def _chosen(examples: Sequence[Asked], limit: int, seed: int, strata: Callable[[Asked], Hashable]) -> list[Asked]:
    """Return as many examples as ``limit`` says, as near as whole pairs come to it."""
    units: dict[Hashable, list[int]] = {}
    for index, (_, answer) in enumerate(examples):
        units.setdefault(answer.pair or index, []).append(index)
    members = list(units.values())
    count = max(round(limit * len(members) / len(examples)), 1) if limit else 0
    taken = choose([strata(examples[unit[0]]) for unit in members], count, seed)
    return [examples[index] for index in sorted(index for unit in taken for index in members[unit])]


def _split(examples: Sequence[Asked]) -> Split:
    return Split(
        examples=[question for question, _ in examples],
        targets=[answer for _, answer in examples],
        names=[question.name for question, _ in examples],
    )


def _counts(splits: Splits, chosen: Splits, seed: int) -> str:
    words = []
    for split, examples in splits.items():
        of_all = f" of {len(examples):,}" if len(chosen[split]) < len(examples) else ""
        words.append(f"{len(chosen[split]):,}{of_all} {split}")
    is_part = any(len(chosen[split]) < len(examples) for split, examples in splits.items())
    return f"questions: {', '.join(words)}" + (f", the part chosen by kind with seed {seed}" if is_part else "")


def _checksum(content: Any, chosen: Splits) -> str:
    digest = hashlib.sha256(json.dumps(content).encode())
    for split, examples in sorted(chosen.items()):
        for question, answer in examples:
            picture = question.picture.name if question.picture else None
            record = [split, *question._replace(picture=None), picture, *astuple(answer)]
            digest.update(b"\n" + json.dumps(record).encode())
    return digest.hexdigest()
