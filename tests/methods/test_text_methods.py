"""Every method that goes with text, on sentences of any length: it learns, repeats, and padding changes nothing."""

from __future__ import annotations

import pytest
import torch

from support import experiments
from support.method_cases import asked_for, learning_on, methods_for, slow
from support.toys import ToyEncoder, ToyTexts
from zipeft import registry
from zipeft.api.learner import Learner
from zipeft.objectives.classification import Classification
from zipeft.objectives.extractive_qa import Spans

METHODS = methods_for("text") + slow(asked_for("text"))
BACKBONE, TASK = ToyEncoder(), ToyTexts()


@pytest.fixture(scope="module")
def experiment():
    return experiments.experiment(BACKBONE, TASK, epochs=8, batch_size=8)


def moved(name, read):
    """A learner whose trainable parameters have all left their initial values: gates are open, LoRA has updates."""
    torch.manual_seed(0)
    model = BACKBONE.build().requires_grad_(False)
    registry.methods.get(name)().apply(BACKBONE, model)
    learner = Learner(BACKBONE, model, torch.nn.Linear(32, 2), read)
    with torch.no_grad():
        for parameter in learner.trainable().values():
            parameter += 0.3 * torch.randn_like(parameter)
    return learner.eval()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("read", [Classification().read, Spans().read], ids=["features", "tokens"])
def test_a_padded_batch_gives_what_each_sentence_gives_alone(name, read):
    learner = moved(name, read)
    encode = TASK.encoder(BACKBONE)
    sentences = [encode(text) for text in ("it was good", "the film was so very very bad it was the end", "good")]
    together = learner(BACKBONE.collate(sentences))
    for row, sentence in zip(together, sentences, strict=True):
        (alone,) = learner(BACKBONE.collate([sentence]))
        torch.testing.assert_close(row[: len(alone)], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", learning_on("text"))
def test_a_method_learns_and_repeats_with_its_seed(name, experiment):
    run = experiments.run("praise", name)
    result, _ = experiment.measure(run)
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert result.score > 0.9  # a half by chance
    again, _ = experiment.measure(run)
    assert (again.test, again.history, again.predictions) == (result.test, result.history, result.predictions)
