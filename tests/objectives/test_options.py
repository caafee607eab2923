"""Questions with options: their likelihoods, loss and scores, on answers that were made by hand."""

from __future__ import annotations

import pytest
import torch

from support.toys import registered
from support.vision_language import item, toy_vlm
from zipeft.objectives.options import Answer, Choice, Options, named_letter, named_option

YES_NO = ("yes", "no")
ANSWERS = [
    Answer(0, YES_NO, ("NAT", "IMG"), "a", "is it red?"),
    Answer(1, YES_NO, ("NAT",), "a", "is it blue?"),
    Answer(0, YES_NO, ("SOC",), "b", "is it red?"),
    Answer(1, YES_NO, ("SOC", "IMG"), "b", "is it blue?"),
]


def choices(*indices, written=None):
    texts = written or [None] * len(indices)
    return [Choice(index, (-1.0, -2.0), text) for index, text in zip(indices, texts, strict=True)]


def test_scores_are_those_computed_by_hand():
    scores = Options().score(choices(0, 1, 0, 0), ANSWERS)
    of_yes = {"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "yes_share": 0.75}
    assert scores == pytest.approx({"accuracy": 0.75, "NAT": 1, "IMG": 0.5, "SOC": 0.5, "accuracy_plus": 0.5} | of_yes)


def test_without_groups_and_pairs_there_is_the_accuracy_alone():
    assert Options().score(choices(0, 0), [Answer(0, ("up", "down")), Answer(1, ("up", "down"))]) == {"accuracy": 0.5}


def test_a_question_without_a_pair_is_in_no_pair():
    answers = [*ANSWERS[:2], Answer(0, YES_NO), Answer(0, YES_NO)]
    assert Options().score(choices(0, 1, 1, 1), answers)["accuracy_plus"] == 1.0


def test_item_scores_average_to_the_metric():
    objective, predictions = Options(), choices(0, 1, 0, 0)
    items = objective.item_scores(predictions, ANSWERS)
    assert items == [1, 1, 1, 0]
    assert sum(items) / 4 == objective.score(predictions, ANSWERS)[objective.metric]


def test_what_is_written_is_scored_apart_and_changes_no_other_score():
    written = choices(0, 1, 0, 0, written=["Yes.", "yes", "no", "No, it is not"])
    scores = Options().score(written, ANSWERS)
    assert scores.pop("written_accuracy") == 0.5
    assert scores == Options().score(choices(0, 1, 0, 0), ANSWERS)


@pytest.mark.parametrize(
    ("written", "options", "expected"),
    [
        ("yes", YES_NO, 0),
        ("No.", YES_NO, 1),
        ("no, it is a yes", YES_NO, 1),
        ("nothing", YES_NO, None),
        ("", YES_NO, None),
        ("it is yes", YES_NO, None),
        ("The red circle", ("circle", "red circle", "red"), 1),  # the longest, and articles do not count
        ("red", ("red", "red"), 0),  # the first of two that are the same
        ("10 dogs", ("1", "10"), 1),
        ("!", ("?", "!"), None),  # what has no words names nothing
    ],
)
def test_an_option_is_named_by_its_words(written, options, expected):
    assert named_option(written, options) == expected
    assert Options().named(written, options) == expected


@pytest.mark.parametrize(
    ("written", "count", "expected"),
    [
        ("B", 2, 1),
        ("(B)", 4, 1),
        ("The answer is C.", 4, 2),
        ("A. a dog", 2, 0),
        ("D", 3, None),
        ("I think B", 4, 1),
        ("Because", 2, None),
        ("b", 2, None),
        ("", 2, None),
    ],
)
def test_an_option_is_named_by_its_letter(written, count, expected):
    assert named_letter(written, count) == expected
    assert Options(letters=True).named(written, ("x",) * count) == expected


def test_the_trivial_answer_is_the_commonest_to_the_same_words():
    train = [
        Answer(0, ("red", "blue"), asked="which?"),
        Answer(1, ("blue", "red"), asked="which?"),
        Answer(0, ("blue", "red"), asked="which?"),
        Answer(1, ("red", "blue"), asked="what?"),
    ]
    trivial = Options().trivial(train, ())
    test = [
        Answer(1, ("blue", "red"), asked="which?"),  # red, wherever it stands
        Answer(1, ("red", "blue"), asked="what?"),
        Answer(0, ("red", "blue"), asked="never seen?"),  # both twice: the first of ties
        Answer(1, ("green", "grey"), asked="which?"),  # neither: the first, which is wrong
    ]
    assert trivial.scores([[]] * 4, test) == {"accuracy": 0.75}


@pytest.fixture
def read():
    """Options read by a toy, with the inputs that gave them."""
    with registered():
        backbone = toy_vlm()
        model = backbone.build()
        inputs = backbone.collate([item(5, (1, 3)), item(3, (2, 1, 2))])
        yield Options().read(backbone, model, inputs), inputs, backbone, model


def test_a_prediction_is_the_likeliest_of_the_options_that_a_question_has(read):
    outputs, *_ = read
    first, second = Options().predict(outputs)
    assert (len(first.log_probs), len(second.log_probs)) == (2, 3)
    assert [choice.index for choice in (first, second)] == [outputs[0, :2].argmax(), outputs[1].argmax()]
    assert all(value < 0 for choice in (first, second) for value in choice.log_probs)


def test_a_likelihood_is_the_product_of_those_of_the_tokens(read):
    outputs, inputs, _, model = read
    ids = inputs["input_ids"][0, [0, 1, 2, 3, 4, 6, 7, 8]]  # the second option of the first question
    logits = model.language(ids[None]).logits[0].detach().log_softmax(-1)
    expected = sum(logits[at - 1, ids[at]] for at in (5, 6, 7))
    assert outputs[0, 1].item() == pytest.approx(float(expected), abs=1e-5)


def test_the_loss_is_that_of_a_language_model_on_the_right_answers(read):
    outputs, *_ = read
    loss = Options().loss(outputs, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-(outputs[0, 1] + outputs[1, 0]).item() / 2)


def test_written_tokens_become_answers(read):
    _, _, backbone, _ = read
    answered = Options().with_generated(choices(0, 1), [[4, 6], []], backbone)
    assert [choice.written for choice in answered] == ["good so", ""]


def test_a_record_says_which_option_alone():
    assert Options().record(Choice(1, (-0.5, -0.25), "a secret")) == 1
    assert Options().record(Answer(0, ("a secret",), asked="a secret")) == 0


def test_a_negative_number_of_tokens_is_refused():
    assert Options(max_new_tokens=0).max_new_tokens == 0
    with pytest.raises(ValueError, match="max_new_tokens is -1"):
        Options(max_new_tokens=-1)
