"""What is compared: methods on a backbone and a task, and the runs that measure them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from zipeft.api.backbone import Backbone
from zipeft.api.method import Method
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.search import Space, draw
from zipeft.api.task import Task
from zipeft.errors import UserError
from zipeft.registry import Named
from zipeft.results import Result, Trained, Trial, Tried


@dataclass(frozen=True)
class Contender:
    """A method as it enters a comparison: with its settings, and the space in which some of them are searched.

    ``variant`` is what the user calls it where a method enters with several settings; records say the settings.
    """

    name: str
    method: Method
    space: Space = field(default_factory=dict)
    variant: str = ""

    @property
    def label(self) -> str:
        """What it is called in its comparison, and no other one is."""
        return self.variant or self.name

    def candidates(self, protocol: TrainingProtocol) -> list[Contender]:
        """Return what its trials try: itself, with settings drawn from its space."""
        drawn = draw(self.space, protocol.trials, protocol.search_seed)
        return [replace(self, method=replace(self.method, **settings)) for settings in drawn]

    def searched(self) -> dict[str, Any]:
        """Return the settings that a search draws."""
        return {name: getattr(self.method, name) for name in sorted(self.space)}


@dataclass(frozen=True)
class Run:
    """What is measured at once: a contender on a data set, from a seed.

    With a ``trial`` (its index) it is one of the contender's search, scored on validation data alone; without,
    ``tried`` says how the trials went whose best this is.
    """

    dataset: str
    contender: Contender
    seed: int
    trial: int | None = None
    tried: tuple[Tried, ...] = ()

    @property
    def kind(self) -> type[Trained]:
        return Result if self.trial is None else Trial

    @property
    def which(self) -> str:
        """What its record says of it in the name of the file: see ``Record.which``."""
        return f"seed{self.seed}" if self.trial is None else f"trial{self.trial}"

    def __str__(self) -> str:
        what = f"seed {self.seed}" if self.trial is None else f"trial {self.trial + 1}"
        return f"{self.dataset} {self.contender.label} {what}"


@dataclass(frozen=True)
class Comparison:
    """Methods against each other on one backbone and one task, all names resolved and all settings checked."""

    backbone: Named[Backbone]
    task: Named[Task]
    contenders: tuple[Contender, ...]
    protocol: TrainingProtocol
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        self._check_contenders()
        name, dtype = self.backbone.name, self.backbone.plugin.dtype
        if dtype != "fp32" and self.protocol.precision == "fp32":
            raise UserError(f"{name}.dtype is {dtype}, and precision is fp32: set --precision bf16 or fp16")

    def _check_contenders(self) -> None:
        """Raise ``UserError`` for two contenders that differ in name alone: they would be measured once."""
        known: dict[str, str] = {}
        for each in self.contenders:
            key = repr((each.name, each.method, each.space))
            if known.setdefault(key, each.label) != each.label:
                raise UserError(f"{each.label} is the same as {known[key]}: give it other settings, or leave it out")

    @property
    def trainings(self) -> int:
        """How often a method trains on a data set: its trials, and its runs."""
        return self.protocol.trials + len(self.seeds)

    def datasets(self) -> Sequence[str]:
        """Return the names of its data sets. Raises ``UserError`` if the task's settings are wrong."""
        return self.task.plugin.datasets()

    def kind(self, dataset: str, contender: Contender) -> tuple[str, str, str, str]:
        """Return what the trainings of a contender on a data set share: backbone, task, data set and its label."""
        return self.backbone.name, self.task.name, dataset, contender.label

    def kinds(self, *datasets: str) -> list[tuple[str, str, str, str]]:
        """Return the kinds of the trainings on data sets, or on all of them."""
        return [self.kind(*pair) for pair in product(datasets or self.datasets(), self.contenders)]
