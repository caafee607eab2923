"""Is there such a thing in this photograph? CIFAR-10's test images, each asked about twice, as POPE has it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from zipeft.api.data import Data, Picture
from zipeft.images.reading import decoded
from zipeft.sources.splits import cut_thrice
from zipeft.tasks import bigbench_archive
from zipeft.tasks.vqa.existence import absent, pair
from zipeft.vqa.assembly import by_answer, vqa_data

if TYPE_CHECKING:
    from PIL.Image import Image


def load(limits: Mapping[str, int], seed: int) -> Data:
    """Return the data set. Both questions on a photograph are in the same split: its own class, and another one."""
    texts, labels = bigbench_archive.cifar10()
    splits = {}
    for split, indices in cut_thrice(labels, seed).items():
        things = [with_article(labels[index]) for index in indices]
        splits[split] = [
            asked
            for index, thing, other in zip(indices, things, absent(things, 0), strict=True)
            for asked in pair(_picture(texts, index), f"photo {index}", thing, other, "Is there {} in this photo?")
        ]
    return vqa_data(
        "cifar10-existence",
        splits,
        limits=limits,
        seed=seed,
        source=bigbench_archive.ARCHIVE.label,
        content=bigbench_archive.CIFAR_SHA256,
        strata=by_answer,
        notes=[
            f"the test images of CIFAR-10, split 70/10/20 by class, validation with seed {seed}",
            "a canary in the file asks to keep it out of pretraining corpora, so no image of it is in the results",
        ],
    )


def with_article(label: str) -> str:
    """Return a class as a question has it: "a dog", "an airplane"."""
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"


def _picture(texts: list[str], index: int) -> Picture:
    name = f"cifar10 {index}"
    return Picture(name, partial(_decoded, texts, index, name))


def _decoded(texts: list[str], index: int, name: str) -> Image:
    return decoded(base64.b64decode(texts[index]), f"{name} of {bigbench_archive.ARCHIVE.label}")
