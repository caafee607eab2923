"""What a learner scores on validation data, on which choices are made, and on test data, on which none are."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from zipeft.api.language_backbone import LanguageBackbone
from zipeft.api.learner import Learner
from zipeft.api.objective import Objective
from zipeft.training import parallel
from zipeft.training.batches import WHOLE, ordered_batches
from zipeft.training.dataset import EncodedSplit
from zipeft.training.micro_batches import MicroBatch, MicroBatches
from zipeft.training.sharding import is_sharded

BATCH_SIZE = 32


class Evaluator:
    """Evaluates learners for one objective.

    With several processes, each calls every method with the same arguments and gets the same scores.
    """

    def __init__(
        self,
        objective: Objective,
        accelerator: Accelerator,
        batch_size: int = BATCH_SIZE,
        micro_batches: MicroBatches = WHOLE,
    ) -> None:
        self.objective, self.accelerator, self.batch_size = objective, accelerator, batch_size
        self.micro_batches = micro_batches
        self.shard = parallel.Shard.of_process(accelerator)

    def validate(self, learner: Learner, data: EncodedSplit) -> dict[str, float]:
        """Return the scores of validation data.

        What an objective leaves open (a threshold) is chosen on them: it is among the scores, and the learner keeps it
        for its test.
        """
        predictions = self._predict(learner, data)
        learner.chosen = self.objective.choose(predictions, data.split.targets)
        final = self.objective.decide(predictions, learner.chosen)
        return {**self.objective.score(list(final), data.split.targets), **learner.chosen}

    def test(self, learner: Learner, data: EncodedSplit) -> tuple[dict[str, float], list[Any]]:
        """Return the scores of test data, and the final predictions in the order of the examples."""
        learner.eval()
        with self.objective.testing(learner.backbone, learner.model):
            predictions = self._predict(learner, data, self.objective.max_new_tokens)
        final = list(self.objective.decide(predictions, learner.chosen))
        return self.objective.score(final, data.split.targets), final

    @torch.no_grad()
    def _predict(self, learner: Learner, data: EncodedSplit, max_new_tokens: int = 0) -> list[Any]:
        """Return one prediction an example, in their order."""
        learner.eval()
        predictions: list[Any] = []
        loader = ordered_batches(data, self.batch_size, self.shard, self.micro_batches)
        for batch in parallel.read(self.accelerator, loader):
            predictions += self.micro_batches.compute(data.batch, batch, partial(self._answer, learner, max_new_tokens))
        predictions = parallel.merge(self.accelerator, predictions[: len(self.shard.of(data.order()))])
        in_order: list[Any] = [None] * len(predictions)
        for index, prediction in zip(data.order(), predictions, strict=True):
            in_order[index] = prediction
        return [self.objective.merge(*parts) for parts in data.by_example(in_order)]

    def _answer(self, learner: Learner, max_new_tokens: int, batch: list[MicroBatch]) -> list[Any]:
        """Return one prediction a window of a batch."""
        backbone = learner.backbone
        # As many steps in every process: a sharded model is gathered by all of them.
        options = {"synced_gpus": True} if is_sharded(learner) else {}
        predictions: list[Any] = []
        for part in batch:
            content = send_to_device(part.content, self.accelerator.device)
            del content["targets"]
            own = self.objective.predict(learner(**content))
            if max_new_tokens:
                assert isinstance(backbone, LanguageBackbone)  # objectives read nothing else to generate from
                prompts = backbone.prompt_ids(content["inputs"])
                with self.accelerator.autocast():  # as in training; the learner's own forward pass has it already
                    generated = learner.generate(prompts, max_new_tokens, **options)
                own = self.objective.with_generated(own, generated, backbone)
            predictions += own
        return predictions
