"""MMBench (Liu et al. 2023, arXiv 2307.06281): questions with options, right only in every rotation of these."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.published_results import read_published
from zipeft.api.task import PublishedTable
from zipeft.benchmarks.benchmark import Benchmark, Results
from zipeft.benchmarks.mmbench_table import Posed, find_table, read_table
from zipeft.formatting import counted, percent
from zipeft.objectives.options import LETTERS
from zipeft.sources.package_index import sha256_of

if TYPE_CHECKING:
    from zipeft.objectives.options import Choice

ABILITIES = {
    "logic_reasoning": "LR",
    "attribute_reasoning": "AR",
    "relation_reasoning": "RR",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "coarse_perception": "CP",
}
"""The abilities of level 2, as MMBench's tables of results call them."""

Rotations = Sequence[Posed]
Reading = Callable[["Choice", Posed], "int | None"]
"""Returns which option a choice is taken for, None for none."""


@dataclass(frozen=True)
class Accuracy:
    """Fractions of questions: right in all rotations, and right as they stand in the table."""

    questions: int
    circular: float
    vanilla: float


@dataclass(frozen=True)
class MMBench(Benchmark):
    """MMBench's questions, the rotations of each next to each other, beginning with it as it stands in the table."""

    groups: Sequence[Rotations]

    letters: ClassVar[bool] = True
    counts: ClassVar[str] = (
        "What counts is circular evaluation of the written answers, by the rules of MMBench's evaluation; an answer "
        "that they cannot read is wrong here, where MMBench asks ChatGPT."
    )

    @classmethod
    def read(cls, path: Path) -> MMBench:
        table = find_table(path)
        groups = list(read_table(table).values())
        return cls([posed.question for group in groups for posed in group], sha256_of(table), groups)

    @classmethod
    def published(cls) -> Sequence[PublishedTable]:
        return read_published(Path(__file__).with_name("mmbench.toml"))

    def results(self, choices: Sequence[Choice]) -> Results:
        given = iter(choices)
        answered = [[(posed, next(given)) for posed in group] for group in self.groups]
        written, likelier = (_accuracies(answered, reading) for reading in (_written, _likeliest))
        unread = sum(_written(choice, posed) is None for group in answered for posed, choice in group)
        shown = ("overall", *_abilities(self.groups))
        return Results(
            [HEADER, *(_row(name, written[name], likelier[name]) for name in shown)],
            {name: 100 * written[name].circular for name in shown},
            [*self._notes(), f"{counted(unread, 'written answer')} of {len(choices):,} could not be read."],
            {
                "written": {name: asdict(accuracy) for name, accuracy in written.items()},
                "likelihood": {name: asdict(accuracy) for name, accuracy in likelier.items()},
                "unread": unread,
            },
        )

    def _notes(self) -> list[str]:
        fewer = sum(len(group) < len(group[0].question.options) for group in self.groups)
        return [f"{counted(fewer, 'question')} with fewer rotations in the table than options."] if fewer else []


HEADER = ("ability", "questions", *("circular", "vanilla"), *("likelier: circular", "vanilla"))


def _abilities(groups: Sequence[Rotations]) -> list[str]:
    """Return the names of all abilities that there are, MMBench's first, in its order."""
    there = {_ability(group) for group in groups}
    return [*(name for name in ABILITIES.values() if name in there), *sorted(there.difference(ABILITIES.values()))]


def _ability(group: Rotations) -> str:
    return ABILITIES.get(group[0].ability, group[0].ability)


def _accuracies(answered: Sequence[Sequence[tuple[Posed, Choice]]], reading: Reading) -> dict[str, Accuracy]:
    """Return the accuracy over all questions, then over those of each ability, and of each category."""
    right: dict[str, list[list[bool]]] = defaultdict(list)
    for group in answered:
        hits = [reading(choice, posed) == posed.right for posed, choice in group]
        questions = [posed for posed, _ in group]
        for name in ("overall", _ability(questions), *filter(None, [questions[0].category])):
            right[name].append(hits)
    return {name: _accuracy(own) for name, own in right.items()}


def _accuracy(right: Sequence[Sequence[bool]]) -> Accuracy:
    return Accuracy(len(right), fmean(map(all, right)), fmean(rotations[0] for rotations in right))


def _row(name: str, written: Accuracy, likelier: Accuracy) -> tuple[str, ...]:
    shares = (written.circular, written.vanilla, likelier.circular, likelier.vanilla)
    return (name, f"{written.questions:,}", *map(percent, shares))


# --- reading answers --------------------------------------------------------------------------------------------------


def _likeliest(choice: Choice, posed: Posed) -> int:
    return choice.index


def _written(choice: Choice, posed: Posed) -> int | None:
    return named(choice.written or "", posed.question.options)


STATED = re.compile(r"answer\s+is\s+\**([A-Y])\b")
PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))


def named(written: str, options: Sequence[str]) -> int | None:
    """Return which option a written answer names, by the rules of MMBench's evaluation; None if it names none.

    That is the only letter of an option among the answer's words, if it is one of the last four; none where there is no
    such letter, but Z, which stands for none; else the one that "answer is" stands before; else, in an answer that is
    no more than twice as long as all options together, the only option whose text it has.
    """
    words, letters = written.translate(PUNCTUATION).split(), LETTERS[: len(options)]
    found = [letter for letter in letters if letter in words]
    if len(found) == 1 and words.index(found[0]) > len(words) - 5:
        return letters.index(found[0])
    if not found and "Z" in words:
        return None
    if (stated := STATED.search(written)) and stated[1] in letters:
        return letters.index(stated[1])
    if len(written) > 2 * sum(map(len, options)):
        return None
    texts = [index for index, option in enumerate(options) if option.lower() in written.lower()]
    return texts[0] if len(texts) == 1 else None
