"""Is there such a thing in this picture? Each picture is asked about twice: what is there, and what is not.

This is the form of MME's existence questions (arXiv 2306.13394) and of POPE (arXiv 2305.10355).
"""

from __future__ import annotations

from collections.abc import Sequence

from zipeft.api.data import Picture
from zipeft.objectives.options import Answer
from zipeft.vqa.assembly import Asked
from zipeft.vqa.question import VisualQuestion

OPTIONS = ("yes", "no")


def pair(picture: Picture, name: str, present: str, absent: str, question: str) -> list[Asked]:
    """Return two questions, to be answered by yes and by no, that are right together or not at all.

    ``question`` has the field {} for the thing that is asked for, ``name`` is the pair's own.
    """
    return [_asked(picture, name, thing, question, index) for index, thing in enumerate((present, absent))]


def _asked(picture: Picture, name: str, thing: str, question: str, index: int) -> Asked:
    text = question.format(thing)
    asked = VisualQuestion(text, OPTIONS, picture, name=f"{name} {OPTIONS[index]}")
    return asked, Answer(index, OPTIONS, pair=name, asked=text)


def absent(things: Sequence[str], seed: int) -> list[str]:
    """Return for each picture a thing that is not in it, of those that are in the others (``things``, one a picture).

    Each thing is as often absent as it is present, so that what is asked for tells nothing of the answer. Raises
    ``ValueError`` where this cannot be, as one thing is in more than half of the pictures.
    """
    import numpy as np

    count = len(things)
    if any(2 * things.count(thing) > count for thing in set(things)):
        raise ValueError("a thing is in more than half of the pictures")
    stream = np.random.RandomState(seed)
    found = [things[index] for index in stream.permutation(count).tolist()]
    for index in range(count):
        while found[index] == things[index]:
            other = int(stream.randint(count))
            if found[other] != things[index] and things[other] != found[index]:
                found[index], found[other] = found[other], found[index]
    return found
