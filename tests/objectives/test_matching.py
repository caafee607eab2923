"""Classes that are known by their names: what an image is matched with, and how base and novel classes are scored."""

from __future__ import annotations

from statistics import fmean, harmonic_mean

import numpy as np
import pytest
import torch

from support.pictures import refusal
from zipeft.objectives.classification import Classification
from zipeft.objectives.matching import BaseToNovel, Matching
from zipeft.objectives.matching import harmonic_mean as ours

NAMES = tuple("abcdefg")


def objective(classes: int) -> BaseToNovel:
    return BaseToNovel(classes=NAMES[:classes])


def test_templates_have_one_place_for_the_name():
    for template in ("a photo.", "{} and {}"):
        with pytest.raises(ValueError, match=r"write \{\} once"):
            Matching((template,))
    with pytest.raises(ValueError, match="templates are missing"):
        Matching(())


def test_matches_are_the_logits():
    head = Matching().head(["a", "b"], 5)
    matches = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    assert not list(head.parameters())
    assert torch.equal(head(matches), matches)
    assert Matching().predict(matches) == [1, 0]
    expected = -torch.tensor([[1.0, 3.0], [2.0, -1.0]]).log_softmax(-1)[[0, 1], [1, 1]].mean()
    assert Matching().loss(matches, torch.tensor([1, 1])) == pytest.approx(expected.item())


def test_a_linear_probe_has_a_head_of_its_own_and_no_novel_classes():
    assert type(Matching().probed()) is Classification
    assert "take fewshot" in refusal(objective(4).probed)


class Named:
    """A backbone and model that remember which classes they were last told."""

    def name_classes(self, model, classes, templates):
        self.classes, self.texts = tuple(classes), templates


@pytest.mark.parametrize(("classes", "base"), [(2, 1), (3, 2), (4, 2), (5, 3), (7, 4)])
def test_base_classes_are_the_first_half_and_the_middle_one(classes, base):
    both, backbone = objective(classes), Named()
    assert both.base == base
    both.prepare(backbone, None, NAMES[:classes])
    assert backbone.classes == NAMES[:base]


class Learner:
    """Gives matches of three images with whichever classes are named: the sum of two letters' places is best."""

    def __init__(self):
        self.backbone, self.model = Named(), None

    def __call__(self, inputs):
        names = self.backbone.classes
        return torch.stack([torch.tensor([float(row[NAMES.index(name)]) for name in names]) for row in inputs])


MATCHES = [[5, 1, 9, 2, 3], [0, 4, 1, 8, 7], [1, 2, 3, 4, 6]]


def test_images_are_matched_within_base_and_within_novel_classes():
    """Of five classes a to c are base: the columns 0 to 2; d and e are novel, with their own labels 3 and 4."""
    both, learner = objective(5), Learner()
    both.prepare(learner.backbone, learner.model, NAMES[:5])
    assert both.predict(learner(MATCHES)) == [(2, None), (1, None), (2, None)]
    with both.testing(learner.backbone, learner.model):
        assert learner.backbone.classes == NAMES[:5]
        assert learner.backbone.texts == both.templates
        assert both.predict(learner(MATCHES)) == [(2, 4), (1, 3), (2, 4)]
    assert learner.backbone.classes == NAMES[:3]


PREDICTIONS = [(0, 3), (1, 3), (2, 4), (1, 4), (0, 3)]


def test_scores_by_hand():
    """Base images 0, 1 and 2: right, wrong, right; novel ones: right, wrong."""
    targets = [0, 2, 2, 4, 4]
    scores = objective(5).score(PREDICTIONS, targets)
    assert scores["base_accuracy"] == pytest.approx(2 / 3)
    assert scores["novel_accuracy"] == pytest.approx(1 / 2)
    assert scores["harmonic_mean"] == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert objective(5).score([(0, None), (2, None), (1, None)], [0, 2, 2]) == {
        "harmonic_mean": pytest.approx(2 / 3),
        "base_accuracy": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize("targets", [[1, 0, 1, 4, 4], [0, 1, 2, 3, 4], [1, 0, 1, 3, 3]])
def test_no_accuracy_at_all_is_a_harmonic_mean_of_zero(targets):
    predictions = [(0, 3), (1, 3), (2, 4), (1, 4), (0, 4)]
    scores = objective(5).score(predictions, targets)
    zero = 0 in (scores["base_accuracy"], scores["novel_accuracy"])
    assert (scores["harmonic_mean"] == 0) == zero
    items = objective(5).item_scores(predictions, targets)
    assert fmean(items) == pytest.approx(scores["harmonic_mean"])
    assert np.isfinite(items).all()


def drawn(generator, base: int, novel: int, rates=(0.8, 0.55)):
    """Return predictions that are right at two rates, and targets, mixed."""
    targets = generator.permutation([*generator.integers(0, 3, base), *generator.integers(3, 5, novel)])
    predictions = []
    for target in targets:
        right = generator.random() < rates[int(target >= 3)]
        guess = int(target) if right else int((target + 1) % 3 if target < 3 else 7 - target)
        predictions.append((guess, 3) if target < 3 else (0, guess))
    return predictions, targets.tolist()


@pytest.mark.parametrize(("base", "novel"), [(3, 2), (40, 200), (113, 29)])
def test_the_mean_of_item_scores_is_the_harmonic_mean(base, novel):
    generator = np.random.default_rng(base)
    predictions, targets = drawn(generator, base, novel)
    scores = objective(5).score(predictions, targets)
    assert fmean(objective(5).item_scores(predictions, targets)) == pytest.approx(scores["harmonic_mean"], abs=1e-12)


def test_item_scores_vary_as_a_bootstrap_within_base_and_novel_images_does():
    generator = np.random.default_rng(0)
    predictions, targets = drawn(generator, 400, 250)
    items, novel = np.array(objective(5).item_scores(predictions, targets)), np.array(targets) >= 3
    kinds = [np.array([float(guess[kind] == target) for guess, target in zip(predictions, targets, strict=True)])[own]
             for kind, own in ((0, ~novel), (1, novel))]  # fmt: skip
    means = [kind[generator.integers(0, len(kind), (20_000, len(kind)))].mean(1) for kind in kinds]
    direct = np.std(2 * means[0] * means[1] / (means[0] + means[1]))
    assert items.std() / np.sqrt(len(items)) == pytest.approx(direct, rel=0.03)


def test_there_are_no_item_scores_without_both_kinds():
    assert objective(5).item_scores([(0, None)], [0]) == []


def test_records_are_lists():
    assert [objective(5).record(value) for value in ((0, 3), (1, None), 4)] == [[0, 3], [1, None], 4]


@pytest.mark.parametrize("values", [(0.5, 0.25), (0.9, 0.1, 0.4), (1.0,)])
def test_harmonic_means_are_those_of_the_standard_library(values):
    assert ours(*values) == pytest.approx(harmonic_mean(values))
    assert ours(*values, 0.0) == 0
