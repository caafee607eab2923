"""How every method of a comparison is trained. Torch-free, so that the command line can read it cheaply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from zipeft.api.search import SAMPLER
from zipeft.errors import require

Augmentation = Literal["none", "flip", "crop_flip"]

SEEDS = 2**32
"""Seeds are below this: NumPy takes no others."""

MOST_TRIALS = 10_000

MOST = 1_000_000
"""Epochs, and examples of a batch."""

MOST_STEPS = 1_000_000_000


@dataclass(frozen=True)
class TrainingProtocol:
    """The training protocol, the same for every method of a comparison; only learning rates are a method's own."""

    preset: str = "quick"
    epochs: int = 10
    batch_size: int = 32
    max_steps: int = 0
    """Stop after so many optimiser steps; 0 for no limit."""
    warmup: float = 0.1
    """The part of all steps in which the learning rate rises from zero; then it follows the schedule."""
    clip: float = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    trials: int = 0
    """How many settings of its search space each method tries on validation data; 0 takes the default settings."""
    search_seed: int = 1000
    """Seeds what is tried, and the training of the trials: no seed that the runs themselves are likely to have."""
    optimizer: Literal["AdamW", "SGD"] = "AdamW"
    """SGD has momentum, as VPT (arXiv 2203.12119) and CoOp (arXiv 2109.01134) take it."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes on after the warm-up: down to zero along half a cosine or a line, or as it is."""
    momentum: float = 0.9
    """Of SGD; AdamW has none of it."""
    warmup_epochs: float = 0.0
    """The warm-up in epochs, which then takes the place of ``warmup``; 0 for that."""
    augmentation: Augmentation = "none"
    """What is done to training images, anew in each epoch: mirrored at random, or cropped at random too. It depends on
    the seed, the epoch and the example alone."""

    selection: ClassVar[str] = "best epoch on validation, the later of ties"

    def __post_init__(self) -> None:
        require(1 <= self.epochs <= MOST, f"epochs must be from 1 to {MOST:,}")
        require(1 <= self.batch_size <= MOST, f"batch_size must be from 1 to {MOST:,}")
        require(0 <= self.max_steps <= MOST_STEPS, f"max_steps must be from 0 (no limit) to {MOST_STEPS:,}")
        require(0 <= self.warmup < 1, "warmup must be at least 0 and below 1")
        require(0 <= self.warmup_epochs <= self.epochs, "warmup_epochs must be from 0 (warmup holds) to epochs")
        require(self.clip > 0, "clip must be above 0")
        require(0 <= self.momentum < 1, "momentum must be at least 0 and below 1")
        require(0 <= self.trials <= MOST_TRIALS, f"trials must be from 0 (no search) to {MOST_TRIALS:,}")
        require(0 <= self.search_seed < SEEDS, f"search_seed must be from 0 to {SEEDS - 1}")

    def of_run(self) -> dict[str, object]:
        """Return what goes into the record of a run and into its identity. Without a search, no word of its seed."""
        search = {"sampler": SAMPLER} if self.trials else {}
        left_out = () if self.trials else ("search_seed",)
        return {**self._settings(*left_out), **search}

    def of_trial(self) -> dict[str, object]:
        """Return what goes into the record of a trial: whatever their number, a trial gives the same."""
        return self._settings("trials")

    def _settings(self, *left_out: str) -> dict[str, object]:
        # A setting that another one puts out of force decides nothing: the record is the same whatever it says.
        unused = [*left_out]
        if self.optimizer != "SGD":
            unused.append("momentum")
        if not self.warmup_epochs:
            unused.append("warmup_epochs")
        if self.augmentation == "none":  # as in all records from before there was any
            unused.append("augmentation")
        settings = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in unused}
        if self.warmup_epochs:
            settings["warmup"] = 0.0
        return {**settings, "selection": self.selection}
