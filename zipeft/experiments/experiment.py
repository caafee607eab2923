"""One comparison: a backbone and a task, on which methods are measured, one run at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed

from zipeft.api.learner import Learner, build_learner
from zipeft.api.method import Method
from zipeft.api.objective import Objective
from zipeft.api.sealed import TestKey, training
from zipeft.errors import UserError
from zipeft.experiments.comparison import Comparison, Run
from zipeft.experiments.description import Describer, TrainingOutcome, cost_of
from zipeft.experiments.loading import LoadedSet, Loader
from zipeft.modules import weights_dtype
from zipeft.modules.held_tensors import take_shapes
from zipeft.results import Failure, Result, Trained, Trial, Trivial
from zipeft.training import stopwatch
from zipeft.training.checkpoints import Checkpoints
from zipeft.training.costs import PeakMemory, count_flops
from zipeft.training.dataset import EncodedSplit
from zipeft.training.evaluation import Evaluator
from zipeft.training.execution import BY_DEFAULT, Execution
from zipeft.training.frozen_model import FrozenModel
from zipeft.training.frozen_trunk import FrozenTrunk
from zipeft.training.half_precision import products_in_float32
from zipeft.training.initialisation import initialise
from zipeft.training.loop import Trainer
from zipeft.training.readers import told_of_dead_workers
from zipeft.training.sharding import gather, shard
from zipeft.training.stopwatch import NOTHING, Spent

log = logging.getLogger(__name__)


class Initialised(NamedTuple):
    """What it cost to let a method see training data before the first step."""

    spent: Spent = NOTHING
    peak_bytes: int = 0


OnStep = Callable[[int], None]
"""Is called after each optimiser step with the number of all."""


class Experiment:
    """A comparison's runs, one at a time. Weights and data are loaded when they are first needed.

    ``loader`` keeps them; the experiments of one process should share it, since one model in memory is enough.
    """

    def __init__(
        self,
        comparison: Comparison,
        accelerator: Accelerator,
        command: str,
        loader: Loader | None = None,
        execution: Execution = BY_DEFAULT,
        checkpoint_of: Callable[[str], Path] | None = None,
    ) -> None:
        """``checkpoint_of`` returns the file in which a run, by its id, keeps what it needs to go on; None for none."""
        self.comparison, self.accelerator, self.execution = comparison, accelerator, execution
        self.checkpoint_of = checkpoint_of
        self.loader = loader or Loader(execution.readers(accelerator.device))
        self._flops: dict[tuple[object, ...], tuple[int, int]] = {}
        self.trunk = FrozenTrunk(accelerator, comparison.protocol.batch_size)
        self.describer = Describer(
            comparison, accelerator.device, command, lambda name: self.loaded(name).data, self.parameters, execution
        )

    @property
    def frozen(self) -> FrozenModel:
        """The frozen model that every run starts from; that of sharded runs is in the host's memory."""
        device = torch.device("cpu") if self.execution.sharding else self.accelerator.device
        return self.loader.model(self.comparison.backbone.plugin, device)

    def parameters(self) -> int:
        """Return how many parameters the frozen model has."""
        return weights_dtype.parameter_count(self.frozen.model)

    def loaded(self, dataset: str) -> LoadedSet:
        """Return a data set of the task for the backbone."""
        comparison = self.comparison
        return self.loader.dataset(
            comparison.task.plugin, dataset, comparison.backbone.plugin, comparison.protocol.augmentation
        )

    def prepare(self, dataset: str) -> None:
        """Load weights and data, encoded. Raises ``UserError`` for whatever is missing or broken in them."""
        _ = self.frozen, self.loaded(dataset).encoded

    def id(self, run: Run) -> str:
        """Return the id of the run's record, before it has run."""
        return self.describer.id(run)

    def failure(self, run: Run, reason: str, details: str = "") -> Failure:
        """Return the record of a run that failed."""
        return self.describer.failure(run, reason, details)

    def measure(self, run: Run, on_step: OnStep = lambda steps: None) -> tuple[Trained, Learner]:
        """Train, and test once unless it is a trial; return the record and what has learnt: of a sharded run that is
        tested, the main process's is whole, in the host's memory.

        Raises: ``UserError`` if the method does not go with the backbone, or writes into frozen weights, or the loss is
        not finite.
        """
        self.prepare(run.dataset)
        loaded, key = self.loaded(run.dataset), TestKey(str(run))
        with self._own_memory(run), self._fast_products():
            with training(str(run)), told_of_dead_workers(self.accelerator):
                objective = self._objective(run)
                outcome = self._train(run, loaded, objective, on_step)
            if run.trial is not None:
                return self.describer.trained(Trial, run, outcome, index=run.trial), outcome.learner
            key.chosen(f"epoch {outcome.log.selected_epoch}")
            record = self._test(run, loaded, objective, outcome, key)
            with training(str(run)):
                return record, self._whole(run, loaded, objective, outcome.learner)

    @contextmanager
    def _own_memory(self, run: Run) -> Iterator[None]:
        """Let a run leave nothing behind. Raises ``UserError`` if it has written into what all runs share."""
        frozen = self.frozen
        try:
            yield
        finally:
            self.accelerator.free_memory()  # it holds what it has prepared, which the next run's peak would count
            if name := frozen.changed():
                self.loader.forget_model()  # other runs get it as it was
                self.trunk.forget()
                raise UserError(
                    f"{run.contender.name} changed the frozen weight {name}, which all runs share: a method sets "
                    "requires_grad of what it trains, or puts another parameter in its place"
                )

    def _fast_products(self) -> AbstractContextManager[Any]:
        """Let products be fast where the machine has no arithmetic for what they are made in."""
        full = self.accelerator.mixed_precision == "no" and self.comparison.backbone.plugin.dtype == "fp32"
        return nullcontext() if full else products_in_float32(self.accelerator.device)

    def _objective(self, run: Run) -> Objective:
        """Return what is learnt on the run's data set, as its method has it."""
        of_dataset = self.comparison.task.plugin.objective(run.dataset, self.loaded(run.dataset).data.classes)
        return run.contender.method.objective(of_dataset)

    def _train(self, run: Run, loaded: LoadedSet, objective: Objective, on_step: OnStep) -> TrainingOutcome:
        train, validation = loaded.draw(run.seed)
        set_seed(run.seed)
        method, protocol, device = run.contender.method, self.comparison.protocol, self.accelerator.device
        learner = self._learner(run, loaded, objective)
        if not self.execution.sharding:
            self.frozen.part(learner.to(device))
        initialised = self._initialise(run, loaded, learner, objective)
        if self.execution.sharding:
            shard(learner, self.accelerator)
        learner.find_trunk(send_to_device(train.sample_inputs(2), device))
        micro_batches = self.execution.micro_batches()
        train, of_train = self.trunk.extend(learner, train, micro_batches)
        validation, of_validation = self.trunk.extend(learner, validation, micro_batches)
        flops = self._count_flops(run, loaded, learner, objective, train)
        trainer = Trainer(objective, protocol, self.accelerator, self.execution)
        with PeakMemory(device) as memory:
            checkpoints = self._checkpoints(run, memory)
            trained = trainer.fit(learner, method, train, validation, run.seed, on_step, checkpoints)
        trained.earlier_peak_bytes = max(trained.earlier_peak_bytes, initialised.peak_bytes)
        before = of_train + of_validation + initialised.spent
        return TrainingOutcome(learner, trained, cost_of(learner, train, trained, memory, before, flops))

    def _initialise(self, run: Run, loaded: LoadedSet, learner: Learner, objective: Objective) -> Initialised:
        """Let the run's method see the training examples that it asks for; return what that cost."""
        method = run.contender.method
        if not method.sample_size():
            return Initialised()
        start, micro_batches = stopwatch.now(), self.execution.micro_batches()
        self.frozen.part(learner)  # a sharded one shares what trains until it is sharded
        with PeakMemory(self.accelerator.device) as memory:
            train, batch_size = loaded.plain(run.seed), self.comparison.protocol.batch_size
            initialise(learner, method, objective, train, run.seed, self.accelerator, batch_size, micro_batches)
        return Initialised(stopwatch.now() - start, memory.bytes)

    def _learner(self, run: Run, loaded: LoadedSet, objective: Objective) -> Learner:
        """Return what is to learn, on the frozen model's own storage."""
        backbone, model = self.comparison.backbone.plugin, self.frozen.copy()
        return build_learner(run.contender.method.adapt, backbone, model, objective, loaded.data.classes)

    def _whole(self, run: Run, loaded: LoadedSet, objective: Objective, learner: Learner) -> Learner:
        """Return what has learnt as a whole, on the main process; all have to call it."""
        if not self.execution.sharding:
            return learner
        learnt = gather(learner, self.accelerator)
        if not self.accelerator.is_main_process:
            return learner
        whole = self._learner(run, loaded, objective)
        take_shapes(whole, {name: tensor.shape for name, tensor in learnt.items()})
        self.frozen.part(whole)
        with torch.no_grad():
            for name, tensor in whole.learnt().items():
                tensor.copy_(learnt[name])
        whole.chosen = learner.chosen
        return whole.eval()

    def _checkpoints(self, run: Run, memory: PeakMemory) -> Checkpoints | None:
        if self.checkpoint_of is None:
            return None
        path, head = self.checkpoint_of(self.id(run)), self.describer.checkpoint_head(run)
        return Checkpoints(self.accelerator, path, head, memory.so_far)

    def _count_flops(
        self, run: Run, loaded: LoadedSet, learner: Learner, objective: Objective, train: EncodedSplit
    ) -> tuple[int, int]:
        """Return ``count_flops``, which trials and runs share that differ in seed and rates alone, unless each seed
        draws its data. The settings that every method has say how fast it learns, not what it computes."""
        drawn = run.seed if loaded.data.draw else None
        method = run.contender.method
        own = {name: getattr(method, name) for name in sorted(vars(method).keys() - Method.__dataclass_fields__.keys())}
        key = (run.dataset, drawn, run.contender.name, type(method), repr(own), train.trunk_output is None)
        if key not in self._flops:
            device, batch_size = self.accelerator.device, self.comparison.protocol.batch_size
            self._flops[key] = count_flops(learner, objective, train, device, batch_size)
        return self._flops[key]

    def _test(
        self, run: Run, loaded: LoadedSet, objective: Objective, outcome: TrainingOutcome, key: TestKey
    ) -> Result:
        """Test what has learnt, once, and return the run's record."""
        test = loaded.encoded.test.open(key)
        shifted = {name: split.open(key) for name, split in loaded.encoded.shifted.items()}
        batch_size, micro_batches = self.comparison.protocol.batch_size, self.execution.micro_batches()
        evaluator = Evaluator(objective, self.accelerator, batch_size, micro_batches)
        start = stopwatch.now()
        # The method's code runs here too, and could look the answers up.
        with training(str(run)), told_of_dead_workers(self.accelerator):
            scores, predictions = evaluator.test(outcome.learner, test)
            for name, split in shifted.items():
                there, _ = evaluator.test(outcome.learner, split)
                scores |= {f"{name} {score}": value for score, value in there.items()}
        seconds = outcome.cost.evaluation_seconds + (stopwatch.now() - start).wall
        targets = test.split.targets
        return self.describer.trained(
            Result,
            run,
            replace(outcome, cost=replace(outcome.cost, evaluation_seconds=seconds)),
            test=scores,
            predictions=tuple(map(objective.record, predictions)),
            targets=tuple(map(objective.record, targets)),
            item_scores=tuple(objective.item_scores(predictions, targets)),
            search=run.tried,
            trivial=self._trivial(run, loaded, {"": test, **shifted}),
        )

    def _trivial(self, run: Run, loaded: LoadedSet, splits: Mapping[str, EncodedSplit]) -> Trivial | None:
        """Return what the trivial answer, which the training targets decide, scores on opened test splits by name."""
        train, classes = loaded.targets(run.seed), loaded.data.classes
        scores: dict[str, float] = {}
        try:
            answer = self.comparison.task.plugin.objective(run.dataset, classes).trivial(train, classes)
            if answer is None:
                return None
            for name, split in splits.items():
                windows = (own for own, _ in split.by_example([None] * len(split)))
                there = answer.scores(windows, split.split.targets)
                scores |= {f"{name} {score}".strip(): value for score, value in there.items()}
        except Exception as error:  # a plug-in's objective may inherit an answer that does not suit it
            log.warning("%s: no trivial answer is scored: %s", run.dataset, error)
            return None
        return Trivial(answer.words, scores)
