"""What batching by length saves on text: an epoch's time, as a ratio to that with every example padded to the longest.

Run with ``pytest -m slow tests/benchmarks``. Lengths are those of sentences (a log-normal distribution, of 25 tokens in
the middle and up to 128). The variants take turns, so that they see the same state of a busy machine; the ratio is that
of the fastest rounds. Nothing is asserted of time; what is asserted is that each variant pads as its name says, and
that padding changes no loss.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from zipeft import registry
from zipeft.api.data import Split, Window
from zipeft.api.learner import Learner
from zipeft.api.protocol import TrainingProtocol
from zipeft.backbones.transformers_models.padding import PADDING
from zipeft.objectives.classification import Classification
from zipeft.training.dataset import EncodedSplit, encode
from zipeft.training.loop import Trainer

pytestmark = pytest.mark.slow

EXAMPLES, BATCH, LONGEST, ROUNDS = 256, 16, 128, 3
ROBERTA = registry.backbones.get("roberta")


def unsorted(*parts) -> EncodedSplit:
    """Encode a split for batches as they come, each padded to its longest example."""
    return replace(encode(*parts), lengths=None)


class Padded(ROBERTA):
    """Batches by length, each padded to the longest example of all."""

    def collate(self, inputs):
        batch = super().collate(inputs)
        del batch[PADDING]  # what is padded here is not in it
        room = LONGEST - batch["input_ids"].shape[1]
        return {name: torch.nn.functional.pad(values, (0, room)) for name, values in batch.items()}


OF_ALL, OF_BATCH, BY_LENGTH = "padded to the longest of all", "padded to the longest of the batch", "batches by length"
VARIANTS = {
    OF_ALL: (encode, Padded(pretrained=False)),
    OF_BATCH: (unsorted, ROBERTA(pretrained=False)),
    BY_LENGTH: (encode, ROBERTA(pretrained=False)),
}


def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randn(EXAMPLES, generator=generator).mul(0.7).add(3.2).exp().long().clamp(3, LONGEST)
    ids = [torch.randint(1000, 20_000, (length,), generator=generator) for length in lengths.tolist()]
    return Split(ids, [index % 2 for index in range(EXAMPLES)], [str(index) for index in range(EXAMPLES)])


def window(ids: torch.Tensor, target: int) -> list[Window]:
    return [Window({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, target)]


def epoch(encoded: Callable[..., EncodedSplit], backbone) -> tuple[float, float, list[Tensor]]:
    """Return the seconds that an epoch of training takes, its mean loss, and the mask of each batch that it took."""
    torch.manual_seed(0)
    method = registry.methods.get("lora")()
    model = backbone.build().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # masks would be drawn for padding, too
    method.apply(backbone, model)
    masks: list[Tensor] = []

    def keep(module, _args, inputs) -> None:
        if module.training:
            masks.append(inputs["attention_mask"])

    model.register_forward_pre_hook(keep, with_kwargs=True)
    learner, examples = Learner(backbone, model, torch.nn.Linear(384, 2)), split()
    few = Split(examples.examples[:2], examples.targets[:2], examples.names[:2])
    train, validation = encoded(examples, window, backbone), encoded(few, window, backbone)
    log = Trainer(Classification(), TrainingProtocol(epochs=1, batch_size=BATCH), Accelerator(cpu=True)).fit(
        learner, method, train, validation, seed=0
    )
    return log.training.wall, log.history[0].train_loss, masks


def assert_padded_as_named(masks: dict[str, list[Tensor]]) -> None:
    assert all(mask.shape == (BATCH, LONGEST) for mask in masks[OF_ALL])
    for name in (OF_BATCH, BY_LENGTH):
        assert all(mask.shape[1] == mask.sum(1).max() for mask in masks[name])
    assert len({sum(int(mask.sum()) for mask in taken) for taken in masks.values()}) == 1
    of_all, of_batch, by_length = (sum(mask.numel() for mask in masks[name]) for name in VARIANTS)
    assert of_all > of_batch > 1.5 * by_length


def test_batches_by_length(capsys):
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    losses, masks = {}, {}
    for _round in range(ROUNDS):
        for name, variant in VARIANTS.items():
            seconds, losses[name], masks[name] = epoch(*variant)
            times[name].append(seconds)
    slowest, *others = (min(seconds) for seconds in times.values())
    with capsys.disabled():
        print(f"\n{EXAMPLES} examples, batches of {BATCH}, MiniLM's size, {os.cpu_count()} cores")
        for name, seconds in zip(list(VARIANTS)[1:], others, strict=True):
            print(f"{name}: {slowest / seconds:.2f} times as fast as {next(iter(VARIANTS))}")
    assert_padded_as_named(masks)
    assert losses[BY_LENGTH] == pytest.approx(losses[OF_ALL], abs=1e-5)
