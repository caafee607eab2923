"""Where a sweep keeps what its runs learnt (--save-adapters)."""

from __future__ import annotations

from pathlib import Path

from zipeft.adapter import read_record, save_adapter
from zipeft.errors import UserError
from zipeft.experiment import Experiment, Run
from zipeft.files import safe_name
from zipeft.learner import Learner


class AdapterStore:
    """What the runs of a sweep learnt, an adapter's folder each below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, experiment: Experiment, run: Run) -> Path:
        parts = (f"{experiment.backbone_name}-{experiment.task_name}", run.dataset, f"{run.method_name}-seed{run.seed}")
        return self.root.joinpath(*map(safe_name, parts))

    def keep(self, experiment: Experiment, run: Run, learner: Learner) -> None:
        record = {**experiment.adapter_record(run), "run": experiment.id(run)}
        save_adapter(self.folder(experiment, run), learner, record)

    def has(self, experiment: Experiment, run: Run) -> bool:
        """Whether this very run's adapter is there, and not that of other settings."""
        try:
            return read_record(self.folder(experiment, run)).get("run") == experiment.id(run)
        except UserError:
            return False
