"""Where a sweep keeps what its runs learnt (--save-adapters)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from zipeft.adapters.saved import RECORD, TENSORS, read_record, save_adapter
from zipeft.api.learner import Learner
from zipeft.errors import UserError
from zipeft.experiments.comparison import Run
from zipeft.experiments.experiment import Experiment
from zipeft.files import clear_leftovers, safe_name, write_atomically

log = logging.getLogger(__name__)


class AdapterStore:
    """What the runs of a sweep learnt, an adapter's folder each below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, experiment: Experiment, run: Run) -> Path:
        backbone, task = experiment.comparison.backbone.name, experiment.comparison.task.name
        parts = (f"{backbone}-{task}", run.dataset, f"{run.contender.label}-seed{run.seed}")
        return self.root.joinpath(*map(safe_name, parts))

    def keep(self, experiment: Experiment, run: Run, learner: Learner) -> None:
        record = replace(experiment.describer.adapter(run), run=experiment.id(run))
        self._make_room(experiment, run)
        save_adapter(self.folder(experiment, run), learner, record)

    def put(self, experiment: Experiment, run: Run, files: Mapping[str, bytes]) -> None:
        """Keep the files, by their paths below ``root``, that another store kept."""
        self._make_room(experiment, run)
        for name in sorted(files, key=lambda name: name.endswith(RECORD)):  # what says that all is there comes last
            write_atomically(self.root / name, files[name])

    def _make_room(self, experiment: Experiment, run: Run) -> None:
        """Take another run's adapter out of the folder and say so; clear what a kill left there."""
        folder, own = self.folder(experiment, run), experiment.id(run)
        with suppress(UserError, OSError):  # there is none, or none that can be replaced
            if (other := read_record(folder).run) != own:
                log.warning(
                    "%s held what run %s learnt, and now gets that of run %s: another --save-adapters would keep both",
                    *(folder, other, own),
                )
                (folder / RECORD).unlink(missing_ok=True)  # first: it must not stand beside the other tensors
        for name in (TENSORS, RECORD):
            clear_leftovers(folder / name)

    def has(self, experiment: Experiment, run: Run) -> bool:
        """Whether this very run's adapter is there, and not that of other settings."""
        try:
            return read_record(self.folder(experiment, run)).run == experiment.id(run)
        except UserError:
            return False
