"""Every method that goes with text, on sentences of any length: it learns, repeats, and padding changes nothing."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from support.toys import ToyEncoder, ToyTexts, methods_for
from zipeft import registry
from zipeft.api.learner import Learner
from zipeft.api.protocol import Protocol
from zipeft.experiments.experiment import Experiment, Run

METHODS = methods_for("text")
BACKBONE, TASK = ToyEncoder(), ToyTexts()


@pytest.fixture(scope="module")
def experiment():
    protocol = Protocol(epochs=8, batch_size=8)
    return Experiment(("toy", BACKBONE), ("toy", TASK), protocol, Accelerator(cpu=True), "pytest")


def moved(name, reads="features"):
    """A learner whose trainable parameters have all left their initial values: gates are open, LoRA has updates."""
    torch.manual_seed(0)
    model = BACKBONE.build().requires_grad_(False)
    registry.methods.get(name)().apply(BACKBONE, model)
    learner = Learner(BACKBONE, model, torch.nn.Linear(32, 2), reads)
    with torch.no_grad():
        for parameter in learner.trainable().values():
            parameter += 0.3 * torch.randn_like(parameter)
    return learner.eval()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("reads", ["features", "tokens"])
def test_a_padded_batch_gives_what_each_sentence_gives_alone(name, reads):
    learner = moved(name, reads)
    encode = TASK.encoder(BACKBONE)
    sentences = [encode(text) for text in ("it was good", "the film was so very very bad it was the end", "good")]
    together = learner(BACKBONE.collate(sentences))
    for row, sentence in zip(together, sentences, strict=True):
        (alone,) = learner(BACKBONE.collate([sentence]))
        torch.testing.assert_close(row[: len(alone)], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_and_repeats_with_its_seed(name, experiment):
    run = Run("praise", name, registry.methods.get(name)(), seed=0)
    result, _ = experiment.measure(run)
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert result.score > 0.9  # a half by chance
    again, _ = experiment.measure(run)
    assert (again.test, again.history, again.predictions) == (result.test, result.history, result.predictions)
