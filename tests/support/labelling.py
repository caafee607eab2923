"""Files in CoNLL's formats."""

from __future__ import annotations

import re

from support.toys import split_of
from zipeft.tasks.labelling.task import Labelling

ENTITIES = """\
-DOCSTART- -X- -X- O

U.N. NNP I-NP I-ORG
official NN I-NP O
Ekeus NNP I-NP I-PER

Rome NNP I-NP I-LOC
Paris NNP I-NP B-LOC
"""


PROPS = """\
The DT - (A0* (A0*
spacecraft NN - *) *)
faces VB face (V*) *
a DT - (A1* *
journey NN - * *
to TO - * *
explore VB explore * (V*)
moons NN - *) (A1*)

Yes UH -
"""


FIRST_WORDS = ("U.N.", "Rome", "The", "Yes", "They", "Go", "w0", "w1", "w2")


def other(text, mark="~"):
    """Return a file of other sentences: the first word of each has the mark behind it."""
    for word in FIRST_WORDS:
        text = re.sub(rf"(^|[ \ufeff]){re.escape(word)}(?=[ \t])", rf"\1{word}{mark}", text, flags=re.MULTILINE)
    return text


def write(folder, **files):
    """Write files into a folder; "__" in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def write_splits(folder, text, names=("train.txt", "dev.txt", "test.txt")):
    """Write a file, and others of the same form with other sentences."""
    for index, name in enumerate(names):
        write(folder, **{name: other(text, "~" * index)})
    return folder


def sentences(*tagged):
    """Return the text of a file from sentences such as "Rome/B-LOC is/O"."""
    return "\n".join("".join(word.replace("/", " ") + "\n" for word in each.split()) for each in tagged)


def many(count, first=0):
    """Return sentences, each of its own word."""
    return sentences(*(f"w{index}/B-X is/O" for index in range(first, first + count)))


def load(folder, **settings):
    task = Labelling(data_dir=folder, **settings)
    (name,) = task.datasets()
    return task.load(name)


def tagged(data, split="train"):
    """Return (words, tags) of every example of a split, with the predicate in between where there is one."""
    part = split_of(data, split)
    return [
        (*(" ".join(words).replace("~", "") for words in example if words), " ".join(data.classes[at] for at in target))
        for example, target in zip(part.examples, part.targets, strict=True)
    ]
