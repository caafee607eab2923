"""Objectives of text: what they learn, how windows become predictions, and how those are scored."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.toys import ToyEncoder
from zipeft.api.data import NO_LABEL, Window
from zipeft.objectives.classification import Classification, TextClassification
from zipeft.objectives.regression import Regression
from zipeft.objectives.sequence_labelling import SequenceLabelling

# --- classes ----------------------------------------------------------------------------------------------------------

PREDICTIONS, TARGETS = [1, 1, 0, 0, 1], [1, 0, 0, 1, 1]
SCORES = {"accuracy": 3 / 5, "f1": 4 / 6, "matthews": (2 * 1 - 1 * 1) / 6}


@pytest.mark.parametrize("scores", [("accuracy",), ("accuracy", "f1"), ("matthews", "accuracy"), ("f1", "accuracy")])
def test_the_first_score_of_a_classification_ranks(scores):
    objective = TextClassification(scores)
    assert objective.metric == scores[0]
    got = objective.score(PREDICTIONS, TARGETS)
    assert list(got) == list(scores)
    assert got == pytest.approx({name: SCORES[name] for name in scores})
    items = objective.item_scores(PREDICTIONS, TARGETS)
    assert items == ([1, 0, 1, 0, 1] if scores[0] == "accuracy" else [])


def test_a_classification_by_accuracy_is_that_of_images():
    assert TextClassification().score(PREDICTIONS, TARGETS) == Classification().score(PREDICTIONS, TARGETS)
    assert TextClassification().metric == Classification().metric


@pytest.mark.parametrize("scores", [(), ("accuracy", "bleu")])
def test_unknown_scores_are_refused(scores):
    with pytest.raises(ValueError, match="scores must be some of accuracy, f1, "):
        TextClassification(scores)


# --- numbers ----------------------------------------------------------------------------------------------------------


def learn(objective, features, targets, steps):
    """Train a head as the suite does, with its default learning rate, and return its predictions."""
    torch.manual_seed(0)
    head = objective.head((), features.shape[1])
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        objective.loss(head(features), targets).backward()
        optimizer.step()
    return objective.predict(head(features).detach())


@pytest.mark.parametrize(("low", "high"), [(0, 5), (-4, 4), (1, 100), (0, 1)])
def test_a_linear_map_is_learnt_within_a_hundred_steps_on_any_scale(low, high):
    stream = torch.Generator().manual_seed(0)
    features = torch.randn(64, 16, generator=stream)
    places = (0.5 + 0.2 * features @ torch.randn(16, generator=stream) / 4).double()
    targets = low + (high - low) * places  # as a batch has it: PyTorch collates floats in double precision
    objective = Regression(low, high)
    before, after = (objective.score(learn(objective, features, targets, steps), targets) for steps in (0, 100))
    assert before["pearson"] < 0.7
    assert after["pearson"] > 0.999
    assert after["spearman"] > 0.99
    assert max(abs(torch.tensor(learn(objective, features, targets, 100)) - targets)) < 0.05 * (high - low)


def test_a_rating_s_loss_is_a_squared_error_in_units_of_its_scale():
    objective = Regression(-4, 4)
    outputs = torch.tensor([[0.5], [1.0]], dtype=torch.bfloat16)
    assert objective.loss(outputs, torch.tensor([0.0, 2.0])).item() == pytest.approx((0 + 0.25**2) / 2)
    assert objective.predict(outputs) == [0.0, 4.0]
    assert objective.item_scores([0.0, 4.0], [0.0, 2.0]) == []


def test_a_head_starts_in_the_middle_of_its_scale_and_may_leave_it():
    objective = Regression(1, 5)
    assert objective.predict(objective.head((), 8)(torch.zeros(2, 8)).detach()) == [3.0, 3.0]
    assert objective.predict(torch.tensor([[-1.0], [2.0]])) == [-3.0, 9.0]


def test_predictions_that_are_all_equal_score_0():
    assert Regression().score([0.5, 0.5], [0.0, 1.0]) == {"pearson": 0.0, "spearman": 0.0}


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (math.nan, 1)])
def test_a_scale_without_extent_is_refused(low, high):
    with pytest.raises(ValueError, match="low must be less than high"):
        Regression(low, high)


# --- a label a word ---------------------------------------------------------------------------------------------------

LABELS = ("O", "B-X", "I-X", "B-Y")
LABELLING = SequenceLabelling(LABELS)


def test_a_labelling_reads_tokens():
    backbone = ToyEncoder()
    model, inputs = (
        backbone.build(),
        {name: torch.ones(2, 5, dtype=torch.long) for name in ("input_ids", "attention_mask")},
    )
    assert torch.equal(LABELLING.read(backbone, model, inputs), backbone.tokens(model, inputs))
    outputs = LABELLING.head(LABELS, 8)(torch.zeros(2, 5, 8))
    assert outputs.shape == (2, 5, 4)
    assert LABELLING.item_scores([[0]], [[0]]) == []


def cross_entropy(logits, label):
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def test_the_loss_is_a_mean_over_labelled_tokens_then_over_sentences():
    first, second, third = [1.0, 0.0, 2.0, -1.0], [0.5, 0.5, 0.5, 0.5], [0.0, 3.0, 0.0, 0.0]
    outputs = torch.tensor([[first, second, third], [third, first, second]])
    targets = torch.tensor([[NO_LABEL, 3, 1], [2, NO_LABEL, NO_LABEL]])
    expected = ((cross_entropy(second, 3) + cross_entropy(third, 1)) / 2 + cross_entropy(third, 2)) / 2
    assert LABELLING.loss(outputs, targets).item() == pytest.approx(expected)


@pytest.mark.parametrize("padding", [1, 7])
def test_the_loss_does_not_depend_on_padding(padding):
    outputs, targets = torch.randn(3, 4, 4), torch.randint(4, (3, 4))
    longer = torch.cat([outputs, 100 * torch.randn(3, padding, 4)], 1)
    padded = torch.nn.functional.pad(targets, (0, padding), value=NO_LABEL)
    assert LABELLING.loss(longer, padded).item() == pytest.approx(LABELLING.loss(outputs, targets).item())


def test_the_loss_of_a_batch_is_the_mean_of_its_windows_losses():
    """So do processes that share a batch weigh their losses. A window without labels takes part, with no gradient."""
    outputs = torch.randn(3, 5, 4, requires_grad=True)
    targets = torch.tensor([[0, 1, 2, 3, 0], [1, NO_LABEL, NO_LABEL, NO_LABEL, 2], [NO_LABEL] * 5])
    loss = LABELLING.loss(outputs, targets)
    alone = [LABELLING.loss(outputs[[index]], targets[[index]]).item() for index in range(3)]
    assert loss.item() == pytest.approx(sum(alone) / 3)
    assert alone[2] == 0
    loss.backward()
    assert outputs.grad.isfinite().all()
    assert (outputs.grad[2] == 0).all()
    assert (outputs.grad[1].abs().sum(1) > 0).tolist() == [True, False, False, False, True]


def test_a_prediction_is_a_label_for_every_token():
    outputs = torch.nn.functional.one_hot(torch.tensor([[0, 3, 1], [2, 2, 0]]), 4).float()
    assert LABELLING.predict(outputs) == [[0, 3, 1], [2, 2, 0]]


@pytest.mark.parametrize(
    ("origins", "predictions", "expected"),
    [
        ([[-1, 0, 1, -1, 2, -1]], [[3, 1, 2, 3, 0, 3]], [1, 2, 0]),
        ([[-1, 0, 1, -1]], [[3, 1, 2, 3, 3, 3, 3]], [1, 2]),  # padding of the batch is not read
        ([[0, 1, 2, 3, 4], [2, 3, 4, 5, 6]], [[1] * 5, [2] * 5], [1, 1, 1, 1, 2, 2, 2]),
        ([[0, 1, 2, 3], [1, 2, 3, 4]], [[1] * 4, [2] * 4], [1, 1, 1, 2, 2]),
        ([[0, 1, 2], [1, 2, 3]], [[1] * 9, [2] * 3], [1, 1, 2, 2]),  # the first ends where its padding begins
        ([[0, 1], [0, 1]], [[1, 1], [2, 2]], [1, 1]),  # of equals the first
        ([[-1, 0, -1], [-1, 3, -1]], [[3, 1, 3], [3, 2, 3]], [1, 0, 0, 2]),  # words 1 and 2 are read nowhere
        ([[-1, -1]], [[3, 3]], []),
    ],
)
def test_a_word_has_its_label_from_the_window_in_whose_midst_it_is(origins, predictions, expected):
    windows = [Window(None, None, origin) for origin in origins]
    assert LABELLING.merge(windows, predictions) == expected


@given(st.integers(1, 40), st.integers(2, 12), st.data())
def test_overlapping_windows_show_every_word_far_from_their_ends(words, length, data):
    """Each window knows its inner words alone, and those at an end of the sentence."""
    stride = data.draw(st.integers(1, length))
    starts = range(0, max(1, words - length + stride), stride)
    windows, predictions = [], []
    margin = (length - stride) // 2
    for start in starts:
        inside = list(range(start, min(start + length, words)))
        known = {
            word
            for at, word in enumerate(inside)
            if (at >= margin or start == 0) and (len(inside) - 1 - at >= margin or inside[-1] == words - 1)
        }
        windows.append(Window(None, None, inside))
        predictions.append([1 + word % 3 if word in known else 0 for word in inside])
    assert LABELLING.merge(windows, predictions) == [1 + word % 3 for word in range(words)]


def test_windows_without_predictions_are_refused():
    with pytest.raises(ValueError, match="zip"):
        LABELLING.merge([Window(None, None, [0]), Window(None, None, [1])], [[0]])


@pytest.mark.parametrize(
    ("predictions", "precision", "recall"),
    [
        ([[1, 2, 0], [3]], 1, 1),
        ([[1, 0, 0], [3]], 1 / 2, 1 / 2),
        ([[1, 2], []], 1, 1 / 2),  # words that are read in no window are outside all spans
        ([[0, 0, 0], [0]], 0, 0),
    ],
)
def test_labellings_are_scored_by_the_spans_of_their_tags(predictions, precision, recall):
    f1 = 2 * precision * recall / (precision + recall) if precision else 0
    scores = LABELLING.score(predictions, [(1, 2, 0), (3,)])
    assert scores == pytest.approx({"f1": f1, "precision": precision, "recall": recall})
    assert LABELLING.metric in scores


def test_more_labels_than_words_are_refused():
    with pytest.raises(ValueError, match="2 tags for 1 words"):
        LABELLING.score([[0, 0]], [(0,)])


def test_labels_without_one_for_words_outside_are_refused():
    with pytest.raises(ValueError, match="labels must hold 'O'"):
        SequenceLabelling(("B-X", "I-X"))
