"""How trainings are carried out: what decides memory and time, and no result beyond rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from zipeft.errors import UserError
from zipeft.training.micro_batches import MicroBatches


@dataclass(frozen=True)
class Execution:
    """How a training is carried out. It is no part of an id; records have it in their environment."""

    micro_batch: int | Literal["auto"] | None = None
    """How many windows go through the model at once, in each process; None for a whole batch. "auto" halves that
    whenever memory runs out."""

    def check(self, processes: int) -> None:
        """Raise ``UserError`` for what so many processes that train together cannot do."""
        if self.micro_batch == "auto" and processes > 1:
            raise UserError(
                "--micro-batch auto: memory runs out in one process while the others wait for it: give a number"
            )

    def micro_batches(self) -> MicroBatches:
        """Return the sizes in which one run's batches go through the model."""
        automatic = self.micro_batch == "auto"
        return MicroBatches(None if automatic else self.micro_batch, automatic)  # type: ignore[arg-type]  # no text here

    def as_record(self) -> dict[str, Any]:
        """Return what is not as it is by default, as a record's environment has it."""
        return {} if self.micro_batch is None else {"micro_batch": self.micro_batch}


BY_DEFAULT = Execution()
