"""Three sets of questions on emoji: which of four, is there one in this picture, and of what category.

The record is Unicode's, and the wording of the questions is ours. In the first set, test questions are on pictures that
training saw, among other options: nothing but training tells a name. In the others they are on pictures that it never
saw, so that they ask for kinds, not for names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from zipeft.api.data import Data
from zipeft.objectives.options import Answer
from zipeft.sources.splits import cut_thrice
from zipeft.tasks.vqa.emoji_record import CONTENT, DRAWINGS, RECORD, SOURCE, Emoji, read_emoji
from zipeft.tasks.vqa.existence import absent, pair
from zipeft.vqa.assembly import Asked, by_answer, vqa_data
from zipeft.vqa.question import VisualQuestion

if TYPE_CHECKING:
    import numpy as np

NAMED = ("Animals & Nature", "Food & Drink")
"""Categories of things with plain names."""

ROUNDS, TEST_ROUNDS, VALIDATION_ROUNDS = 11, 2, 1
"""How often each picture is among the four of a question, and the parts of that."""

THINGS = {
    "animal": "an animal",
    "clothing": "clothing",
    "drink": "a drink",
    "food": "food",
    "heart": "a heart",
    "musical-instrument": "a musical instrument",
    "place-building": "a building",
    "plant-flower": "a flower",
    "tool": "a tool",
}
"""What is asked for, by Unicode's subgroup or the word that it begins with. Where one may hold things of another, as
food does seafood, it is left out."""

LEFT_OUT = ("food-marine",)

CATEGORIES = (
    "Activities", "Animals & Nature", "Food & Drink", "Objects", "Smileys & Emotion", "Travel & Places"
)  # fmt: skip
"""The categories that tell what a drawing shows. Flags are alike, symbols are signs, and people do what others are."""

REPEATS = 4
"""How often training asks about a picture in the two sets that test others, of which there are few: each time in
another order of options, or with another absent thing."""

TEST = 0.3
"""The part of the pictures that training never sees in these two sets."""


def load(name: str, limits: Mapping[str, int], seed: int) -> Data:
    """Return "emoji-which", "emoji-is" or "emoji-kinds"."""
    make, note = {
        "emoji-which": (which, "which of four names from one subgroup; test on seen pictures among other options"),
        "emoji-is": (is_there, "is there such a thing, yes and no for each picture; test on pictures never seen"),
        "emoji-kinds": (kinds, "which category; test on pictures never seen"),
    }[name]
    return vqa_data(
        name,
        make(read_emoji(), seed),
        limits=limits,
        seed=seed,
        source=SOURCE,
        content=CONTENT,
        strata=by_answer,
        notes=[note, f"{DRAWINGS.licence}, record {RECORD.licence}, questions of our own wording"],
    )


# --- which of four ----------------------------------------------------------------------------------------------------


def which(emoji: Sequence[Emoji], seed: int) -> dict[str, list[Asked]]:
    """Return questions for one name of four from one subgroup, as MMBench has them (arXiv 2307.06281).

    Each four are asked about for each of their pictures, and are in one split alone: words alone tell nothing.
    """
    import numpy as np

    stream = np.random.RandomState(0)
    groups = [list(group) for _, group in groupby(sorted(_named(emoji), key=_kind), key=_kind)]
    seen: set[frozenset[str]] = set()
    rounds = [
        [asked for group in groups for four in _fours(group, seen, stream) for asked in _which(four, number, stream)]
        for number in range(ROUNDS)
    ]
    order = [TEST_ROUNDS + at for at in np.random.RandomState(seed).permutation(ROUNDS - TEST_ROUNDS).tolist()]
    numbers = {
        "train": sorted(order[VALIDATION_ROUNDS:]),
        "validation": order[:VALIDATION_ROUNDS],
        "test": range(TEST_ROUNDS),
    }
    return {split: [asked for number in some for asked in rounds[number]] for split, some in numbers.items()}


def _named(emoji: Sequence[Emoji]) -> list[Emoji]:
    return [each for each in emoji if each.category in NAMED]


def _kind(emoji: Emoji) -> str:
    return emoji.kind


def _fours(group: Sequence[Emoji], seen: set[frozenset[str]], stream: np.random.RandomState) -> Iterator[list[Emoji]]:
    """Yield the emoji of a subgroup by four, drawn anew, of which no two names share a word ("cat", "black cat")."""
    open_fours: list[list[Emoji]] = []
    for index in stream.permutation(len(group)).tolist():
        emoji = group[index]
        four = next((four for four in open_fours if len(four) < 4 and not _clash(emoji, four)), None)
        if four is None:
            open_fours.append(four := [])
        four.append(emoji)
    for four in open_fours:
        if len(four) == 4 and (names := frozenset(each.code for each in four)) not in seen:
            seen.add(names)
            yield four


def _clash(emoji: Emoji, others: Sequence[Emoji]) -> bool:
    return any(set(emoji.name.split()) & set(other.name.split()) for other in others)


def _which(four: Sequence[Emoji], number: int, stream: np.random.RandomState) -> Iterator[Asked]:
    for right in four:
        options = [four[index].name for index in stream.permutation(4).tolist()]
        yield _choice(right, f"{right.code}/{number}", options, right.name)


def _choice(emoji: Emoji, name: str, options: Sequence[str], right: str) -> Asked:
    """Return a question that names its options, in their order."""
    text = f"Which is it: {', '.join(options[:-1])} or {options[-1]}?"
    question = VisualQuestion(text, tuple(options), emoji.picture, name=name)
    return question, Answer(options.index(right), tuple(options), asked="Which is it?")


# --- pictures that training never saw ---------------------------------------------------------------------------------


def is_there(emoji: Sequence[Emoji], seed: int) -> dict[str, list[Asked]]:
    """Return questions for a thing of a kind, in pairs for each picture."""
    shown = [(each, thing) for each in emoji if (thing := _thing(each))]
    splits = {}
    for split, indices in cut_thrice([thing for _, thing in shown], seed, test=TEST).items():
        some = [shown[index] for index in indices]
        splits[split] = [
            asked
            for repeat in range(REPEATS if split == "train" else 1)
            for (each, thing), other in zip(some, absent([thing for _, thing in some], repeat), strict=True)
            for asked in pair(each.picture, f"{each.code}/{repeat}", thing, other, "Is there {} in this picture?")
        ]
    return splits


def _thing(emoji: Emoji) -> str:
    """Return what an emoji shows, for a question; "" where it is none of ``THINGS``."""
    if emoji.kind in LEFT_OUT:
        return ""
    return THINGS.get(emoji.kind) or THINGS.get(emoji.kind.partition("-")[0], "")


def kinds(emoji: Sequence[Emoji], seed: int) -> dict[str, list[Asked]]:
    """Return questions for the category of a picture."""
    import numpy as np

    shown = [each for each in emoji if each.category in CATEGORIES]
    stream, splits = np.random.RandomState(0), {}
    for split, indices in cut_thrice([each.category for each in shown], seed, test=TEST).items():
        splits[split] = [
            _category(shown[index], repeat, stream)
            for repeat in range(REPEATS if split == "train" else 1)
            for index in indices
        ]
    return splits


def _category(emoji: Emoji, repeat: int, stream: np.random.RandomState) -> Asked:
    options = [CATEGORIES[index].lower() for index in stream.permutation(len(CATEGORIES)).tolist()]
    return _choice(emoji, f"{emoji.code}/{repeat}", options, emoji.category.lower())
