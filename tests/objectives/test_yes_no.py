"""POPE's scores of answers by yes and no, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from zipeft.objectives.options import Answer, Choice, Options
from zipeft.objectives.yes_no import yes_no_scores

OPTIONS = ("yes", "no")
YES, NO = 0, 1


def test_scores_by_hand():
    """Of four to be answered by yes three are, of six by no two are not: 3 right of 5 that say yes."""
    right = [YES] * 4 + [NO] * 6
    chosen = [YES] * 3 + [NO] + [YES] * 2 + [NO] * 4
    scores = yes_no_scores(chosen, right, [OPTIONS] * 10)
    assert scores == pytest.approx({"precision": 3 / 5, "recall": 3 / 4, "f1": 2 / 3, "yes_share": 1 / 2})
    choices = [Choice(index, (0.0, 0.0)) for index in chosen]
    found = Options().score(choices, [Answer(index, OPTIONS) for index in right])
    assert found == pytest.approx({"accuracy": 0.7, **scores})


@pytest.mark.parametrize(
    ("said", "scores"),
    [
        (YES, {"precision": 0.5, "recall": 1, "f1": 2 / 3, "yes_share": 1}),
        (NO, {"precision": 0, "recall": 0, "f1": 0, "yes_share": 0}),
    ],
)
def test_the_same_answer_to_all(said, scores):
    assert yes_no_scores([said] * 4, [YES, NO, NO, YES], [OPTIONS] * 4) == pytest.approx(scores)


def test_the_order_and_the_case_of_the_options_do_not_matter():
    said = yes_no_scores([1, 1], [1, 0], [("No", "Yes")] * 2)
    assert said == yes_no_scores([YES, YES], [YES, NO], [OPTIONS] * 2)


def test_other_options_have_no_such_scores():
    assert yes_no_scores([0, 0], [0, 0], [OPTIONS, ("red", "blue")]) == {}
    assert yes_no_scores([0], [0], [(*OPTIONS, "perhaps")]) == {}
    assert yes_no_scores([], [], []) == {}
