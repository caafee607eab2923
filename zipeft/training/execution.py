"""How trainings are carried out: what decides memory and time, and no result beyond rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from zipeft.api.backbone import Backbone
from zipeft.errors import UserError
from zipeft.training.micro_batches import MicroBatches
from zipeft.training.readers import Readers


@dataclass(frozen=True)
class Execution:
    """How a training is carried out. It is no part of an id; records have it in their environment."""

    micro_batch: int | Literal["auto"] | None = None
    """How many windows go through the model at once, in each process; None for a whole batch. "auto" halves that
    whenever memory runs out."""

    workers: int | None = None
    """How many processes read the data that do not fit in memory; see ``Readers``."""
    checkpoint_activations: bool = False
    """Whether the blocks above the frozen trunk compute their activations again on the way back, and keep none."""

    sharding: bool = False
    """Whether weights, gradients and the optimiser's state are divided over the processes; see
    ``zipeft.training.sharding``."""

    def check(self, processes: int, precision: str = "no", backbones: Sequence[Backbone] = ()) -> None:
        """Raise ``UserError`` for what so many processes that train backbones together, in a precision that accelerate
        names, cannot do."""
        if self.sharding and processes == 1:
            raise UserError("--sharding divides a model over processes: torchrun --nproc-per-node 2 -m zipeft.run ...")
        if self.sharding and precision == "fp16":
            raise UserError("--sharding: fp16 scales a loss by what all gradients are: take --precision bf16")
        for backbone in backbones if self.sharding else ():
            if backbone.is_quantised:
                raise UserError(f"--sharding does not go with {backbone.dtype} weights: take dtype=bf16")
        if self.micro_batch == "auto" and processes > 1:
            raise UserError(
                "--micro-batch auto: memory runs out in one process while the others wait for it: give a number"
            )

    def micro_batches(self) -> MicroBatches:
        """Return the sizes in which one run's batches go through the model."""
        automatic = self.micro_batch == "auto"
        return MicroBatches(None if automatic else self.micro_batch, automatic)  # type: ignore[arg-type]  # no text here

    def readers(self, device: torch.device) -> Readers:
        """Return who reads data for trainings on a device."""
        return Readers(self.workers, pinned=device.type == "cuda")

    def as_record(self) -> dict[str, Any]:
        """Return what is not as it is by default, as a record's environment has it."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}


BY_DEFAULT = Execution()
