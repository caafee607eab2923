"""Questions on images from carriers, each with a few options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from zipeft.api.data import Data
from zipeft.api.published_sets import PublishedSetsTask
from zipeft.api.search import Range, Space
from zipeft.api.task import Preset
from zipeft.errors import require
from zipeft.sources.named_sets import NamedSets
from zipeft.vqa.task import VQATask

EMOJI, CIFAR10 = ("emoji-which", "emoji-is", "emoji-kinds"), "cifar10-existence"

# On validation data of easy-vqa (100 steps, one seed) zero_gated had 0.53 to 0.55 with the projection's rate at 3e-3 or
# above or its own at 3e-2, and 0.69 to 0.73 at 1e-2 with the projection's from 3e-4 to 1e-3: rates are searched around.
_PROJECTION = {"head_learning_rate": Range(1e-4, 2.5e-3)}

SPACES: Mapping[str, Space] = {
    "full": {"learning_rate": Range(1e-5, 3e-4), **_PROJECTION},
    "lora": {"learning_rate": Range(2e-4, 6e-3), **_PROJECTION},
    "prompt": {"learning_rate": Range(3e-3, 9e-2), **_PROJECTION},
    "prefix": {"learning_rate": Range(1e-3, 3e-2), **_PROJECTION},
    "zero_gated": {"learning_rate": Range(1e-3, 3e-2), **_PROJECTION},
    "zero_gated_random": {"learning_rate": Range(1e-3, 3e-2), **_PROJECTION},
    "zero_gated_early": {"learning_rate": Range(1e-3, 3e-2), **_PROJECTION},
    "zero_gated_v2": {"learning_rate": Range(4e-4, 1e-2), **_PROJECTION},
}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "full": {"learning_rate": 5e-5, "head_learning_rate": 5e-4},
    "lora": {"learning_rate": 1e-3, "head_learning_rate": 5e-4},
    "prompt": {"learning_rate": 1e-2, "head_learning_rate": 5e-4},
    "prefix": {"learning_rate": 5e-3, "head_learning_rate": 5e-4},
    "zero_gated": {"learning_rate": 1e-2, "head_learning_rate": 5e-4},
    "zero_gated_random": {"learning_rate": 1e-2, "head_learning_rate": 5e-4},
    "zero_gated_early": {"learning_rate": 1e-2, "head_learning_rate": 5e-4},
    "zero_gated_v2": {"learning_rate": 2e-3, "head_learning_rate": 5e-4},
}

METHODS = (
    "untuned",
    "zero_gated",
    "zero_gated_blind",
    "zero_gated_unasked",
    "zero_gated_random",
    "lora",
    "prompt",
    "prefix",
    "full",
)


CREDITS: Mapping[str, str] = {
    "easy-vqa": "easy-vqa 1.0 by Victor Zhou, MIT licence",
    **dict.fromkeys(EMOJI, "Twemoji by Twitter, Inc and other contributors, CC BY 4.0, set on white"),
}
"""Whose images may be shown, and by which licence."""


@dataclass(frozen=True)
class VQA(PublishedSetsTask, VQATask):
    """Questions on images, with options: easy-vqa, three sets on emoji, and whether a photograph shows a thing.

    All sets are embedded. easy-vqa is a published one, with its own test split; validation data are cut from it by
    image, and its open questions (shape, colour) are scored apart from those for yes or no. The questions on emoji and
    on CIFAR-10's test images are made from labels, in the forms of MMBench, MME and POPE, under names of their own.
    Words alone answer none of them; those for yes or no are not answered by the image alone either.
    """

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={
                "sets": ("easy-vqa",),
                "train_examples": 1600,
                "validation_examples": 120,
                "test_examples": 240,
                "max_length": 96,
                "max_new_tokens": 4,
            },
            protocol={"epochs": 1, "batch_size": 16},
            methods=("untuned", "lora", "prompt", "zero_gated", "zero_gated_blind"),
            settings=SETTINGS,
            spaces=SPACES,
            seeds=1,
        ),
        "standard": Preset(
            task={
                "sets": ("easy-vqa",),
                "train_examples": 3200,
                "validation_examples": 200,
                "test_examples": 600,
                "max_length": 96,
                "max_new_tokens": 4,
            },
            protocol={"epochs": 1, "batch_size": 16, "precision": "bf16", "trials": 2},
            methods=METHODS,
            settings=SETTINGS,
            spaces=SPACES,
        ),
        "paper": Preset(
            task={"max_length": 128},
            protocol={"epochs": 1, "batch_size": 64, "precision": "bf16", "trials": 8},
            settings=SETTINGS,
            spaces=SPACES,
            seeds=5,
        ),
    }

    named: ClassVar[NamedSets] = NamedSets("vqa", {})
    embedded: ClassVar[Sequence[str]] = ("easy-vqa", *EMOJI, CIFAR10)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.data_dir is None, "all sets of task vqa are embedded: drop --data-dir")

    def load(self, dataset: str) -> Data:
        from zipeft.tasks.vqa import cifar10, easy_vqa, emoji

        name, sizes = self.known(dataset), (self.limits(), self.split_seed)
        if name in EMOJI:
            return emoji.load(name, *sizes)
        return cifar10.load(*sizes) if name == CIFAR10 else easy_vqa.load(*sizes)

    def closed_options(self, dataset: str) -> Sequence[Sequence[str]]:
        from zipeft.tasks.vqa import easy_vqa, emoji

        of_sets = {"easy-vqa": tuple(easy_vqa.KINDS.values()), "emoji-which": (), "emoji-kinds": (emoji.CATEGORIES,)}
        return of_sets.get(self.known(dataset), (("yes", "no"),))

    def credit(self, dataset: str) -> str:
        return CREDITS.get(self.known(dataset), "")
