"""Metrics: they agree with scikit-learn, scipy and hand-computed values, and leave nothing behind."""

from __future__ import annotations

import math
import random
import tempfile

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from zipeft import metrics
from zipeft.errors import UserError
from zipeft.metrics import answers
from zipeft.metrics.answers import best_exact_match, best_f1, normalised
from zipeft.metrics.tags import Span, spans

pytestmark = pytest.mark.filterwarnings("error")

BINARY = st.integers(0, 1)
CLASS = st.integers(0, 3)
NUMBER = st.floats(-100, 100, width=32)
RATING = st.sampled_from([0.0, 1.0, 2.5, 4.0])  # many ties

ANY = {
    "accuracy": ([0, 1, 1], [0, 1, 0]),
    "f1": ([0, 1, 1], [0, 1, 0]),
    "matthews": ([0, 1, 1], [0, 1, 0]),
    "pearson": ([0.0, 1.0, 1.5], [0.0, 1.0, 0.5]),
    "spearman": ([0.0, 1.0, 1.5], [0.0, 1.0, 0.5]),
    "squad": (["b d", "", "c"], [["b"], [], ["d", "c"]]),
    "rouge_l": (["b d", "", "c"], [["b"], [""], ["d", "c"]]),
    "exact_match": (["b d", "", "c"], [["b"], [""], ["d", "c"]]),
    "span_f1": ([["B-X", "O"], ["B-X"]], [["B-X", "I-X"], ["B-X"]]),
}
"""Predictions and references of every metric."""


OF_ANSWERS = ("squad", "rouge_l", "exact_match")
"""Those whose reference is a list of answers, of which one is enough."""


def pairs(item):
    return st.lists(st.tuples(item, item), min_size=1, max_size=40)


def score(name, predictions, references, key=None):
    return metrics.compute([name], predictions, references)[key or name]


# --- classes and numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "item", "function"),
    [
        ("accuracy", CLASS, sklearn.metrics.accuracy_score),
        ("f1", BINARY, lambda right, predicted: sklearn.metrics.f1_score(right, predicted, zero_division=0)),
        ("matthews", CLASS, sklearn.metrics.matthews_corrcoef),
        ("pearson", NUMBER, lambda right, predicted: np.corrcoef(right, predicted)[0, 1]),
        ("pearson", RATING, lambda right, predicted: scipy.stats.pearsonr(right, predicted).statistic),
        ("spearman", NUMBER, lambda right, predicted: scipy.stats.spearmanr(right, predicted).statistic),
        ("spearman", RATING, lambda right, predicted: scipy.stats.spearmanr(right, predicted).statistic),
    ],
)
def test_metrics_agree_with_scikit_learn_and_scipy(name, item, function):
    @given(pairs(item))
    def agree(drawn):
        predictions, references = zip(*drawn, strict=True)
        if name in ("matthews", "pearson", "spearman"):
            assume(len(set(predictions)) > 1 < len(set(references)))
        if name == "pearson":  # numbers that are equal but for rounding have a correlation of rounding errors
            assume(min(np.ptp(predictions), np.ptp(references)) > 1e-3)
        assert score(name, predictions, references) == pytest.approx(function(references, predictions), abs=1e-6)

    agree()


@pytest.mark.parametrize(
    ("name", "expected"), [("accuracy", 0.7), ("f1", 2 * 2 / (2 * 2 + 1 + 2)), ("matthews", 8 / math.sqrt(504))]
)
def test_scores_of_classes_are_those_computed_by_hand(name, expected):
    """Two true positives, five true negatives, one false positive, two false negatives."""
    predictions, references = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert score(name, predictions, references) == pytest.approx(expected)


def test_correlations_tell_a_line_from_an_order():
    numbers = [1.0, 2.0, 3.0, 4.0]
    assert score("pearson", [2 * number - 7 for number in numbers], numbers) == pytest.approx(1)
    assert score("spearman", [number**5 for number in numbers], numbers) == pytest.approx(1)
    assert score("pearson", [number**5 for number in numbers], numbers) < 0.95
    assert score("spearman", numbers[::-1], numbers) == pytest.approx(-1)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
@pytest.mark.parametrize(
    ("predictions", "references"),
    [([1, 1, 1], [0, 1, 2]), ([0, 1, 2], [1, 1, 1]), ([1, 1], [1, 1]), ([1, 1], [2, 2]), ([1], [1])],
)
def test_undefined_correlations_are_0_without_a_warning(name, predictions, references):
    assert score(name, predictions, references) == 0.0


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_the_correlation_of_numbers_that_are_not_finite_is_0(name, broken):
    assert score(name, [0.0, broken, 1.0], [0.0, 1.0, 2.0]) == 0.0


def test_almost_constant_numbers_give_no_warning():
    assert -1 <= score("pearson", [1e6, 1e6, math.nextafter(1e6, 2e6)], [0.0, 1.0, 2.0]) <= 1


def test_f1_is_0_without_positives_and_refuses_more_than_two_classes():
    assert score("f1", [0, 0], [0, 0]) == 0.0
    with pytest.raises(ValueError, match="two classes"):
        score("f1", [0, 1, 2], [0, 1, 2])
    with pytest.raises(ValueError, match="two classes"):
        score("f1", [2, 2], [1, 2])


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Beatles!", "beatles"),
        ("Anna, the (other) Andean and an aunt", "anna other andean and aunt"),
        ("U.S.", "us"),
        ("well-known", "wellknown"),
        ("the-end", "theend"),  # punctuation goes before articles
        ("$1,000.50", "100050"),
        ("  two\n\twords ", "two words"),
        ("two\u00a0\u3000words", "two words"),
        ("A An THE", ""),
        ("?!", ""),
        ("", ""),
        ("ÉCOLE", "école"),
        ("cafe\u0301", "cafe\u0301"),  # no Unicode normalisation
        ("“The end”—«fin»…", "“ end”—«fin»…"),  # only ASCII punctuation goes
        ("\uff21\uff0c\uff22\uff01", "\uff41\uff0c\uff42\uff01"),  # full-width A, comma, B, exclamation mark
        ("東京、日本。", "東京、日本。"),
        ("Straße", "straße"),
        ("l\u2019an 2000", "l\u2019 2000"),  # the apostrophe is no ASCII one: "an" is a word
        ("l'an 2000", "lan 2000"),
    ],
)
def test_answers_are_normalised_as_the_scripts_of_squad_do(answer, expected):
    assert normalised(answer) == expected


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "expected"),
    [
        ("the cat sat", ["Cat sat down."], 0, 0.8),
        ("new york new york", ["New York"], 0, 2 / 3),  # a word counts as often as it occurs on both sides
        ("york new", ["New York"], 0, 1),
        ("NEW-YORK", ["newyork"], 1, 1),
        ("an apple", ["the Apple"], 1, 1),
        ("paris", ["london", "the city of Paris", "in Paris"], 0, 2 / 3),
        ("paris", ["london", "Paris.", "in Paris"], 1, 1),
        ("Malmo", ["Malmö"], 0, 0),
        ("", ["", "x"], 1, 1),
        ("", ["x"], 0, 0),
        ("x", [""], 0, 0),
        ("the", ["an"], 1, 1),  # nothing is left of both
        ("the", ["x"], 0, 0),
        ("", [], 1, 1),
        ("...", [], 1, 1),
        ("x", [], 0, 0),
    ],
)
def test_one_answer_is_scored_against_the_gold_answer_that_suits_it_best(prediction, golds, exact, expected):
    assert best_exact_match(prediction, golds) == exact
    assert best_f1(prediction, golds) == pytest.approx(expected)
    assert best_f1(prediction, tuple(golds[::-1])) == pytest.approx(expected)


@given(st.text(alphabet="aAbn theé.,“ \u3000", max_size=12), st.text(alphabet="aAbn theé.,“ \u3000", max_size=12))
def test_f1_of_answers_is_symmetric_and_1_for_matches(one, other):
    assert answers.f1(one, other) == answers.f1(other, one)
    assert answers.exact_match(one, other) <= answers.f1(one, other) <= 1
    assert answers.f1(one, one) == answers.exact_match(one, f"The {one.upper().lower()}!") == 1


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("", ["A"], 0),
        ("the", ["A"], 0),
        ("An", ["A"], 0),
        ("A", ["A"], 1),
        ("a.", ["A"], 1),
        ("(A)", ["B", "a"], 1),
        ("The.", ["the"], 1),
        ("", ["the", "a"], 0),
        ("the a", ["A"], 0),
        ("a the", ["A  the!"], 1),
        ("the answer", ["Answer."], 1),  # an article beside others is still one
        ("a lamp", ["A"], 0),
        ("+", ["-"], 0),
        ("+", [" + "], 1),
        ("", ["?"], 0),
        ("...", ["!"], 0),
        ("", [""], 1),
        ("", [], 1),
        ("the", [], 0),
    ],
)
def test_an_answer_that_is_an_article_or_a_sign_alone_is_matched_as_it_is(answer, references, expected):
    assert metrics.compute(["exact_match"], [answer], [references]) == {"exact_match": expected}


def test_the_metric_of_answers_is_the_mean_over_questions():
    predictions = ["the cat sat", "", "x", "Paris"]
    references = [["Cat sat down."], [], [], ["london", "Paris."]]
    assert metrics.compute(["squad"], predictions, references) == {
        "exact_match": pytest.approx((0 + 1 + 0 + 1) / 4),
        "f1": pytest.approx((0.8 + 1 + 0 + 1) / 4),
    }


# --- spans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-X I-X O", [(0, 2, "X")]),
        ("O B-X", [(1, 2, "X")]),
        ("I-X I-X O I-X", [(0, 2, "X"), (3, 4, "X")]),  # IOB1
        ("I-X I-X B-X I-X", [(0, 2, "X"), (2, 4, "X")]),  # IOB1: B where a span of the same kind goes before
        ("B-X B-X I-X", [(0, 1, "X"), (1, 3, "X")]),
        ("B-X I-Y I-Y", [(0, 1, "X"), (1, 3, "Y")]),  # I without its B
        ("O I-Y", [(1, 2, "Y")]),
        ("B-X I-Y I-X", [(0, 1, "X"), (1, 2, "Y"), (2, 3, "X")]),
        ("S-X B-X I-X E-X S-Y", [(0, 1, "X"), (1, 4, "X"), (4, 5, "Y")]),
        ("B-X E-X I-X", [(0, 2, "X"), (2, 3, "X")]),  # nothing goes on after an end
        ("S-X E-X", [(0, 1, "X"), (1, 2, "X")]),
        ("E-X E-X", [(0, 1, "X"), (1, 2, "X")]),
        ("B-X O I-X", [(0, 1, "X"), (2, 3, "X")]),
        ("B-C-A1 I-C-A1 I-A1", [(0, 2, "C-A1"), (2, 3, "A1")]),
        ("B I O B", [(0, 2, ""), (3, 4, "")]),  # without kinds
    ],
)
def test_spans_are_read_as_by_the_scorer_of_conll(tags, expected):
    assert spans(tags.split()) == [Span(*span) for span in expected]


def written(found, length, scheme):
    """Write spans that do not overlap as tags."""
    tags = ["O"] * length
    for index, (start, end, kind) in enumerate(found):
        tags[start:end] = [f"I-{kind}"] * (end - start)
        adjacent = index > 0 and found[index - 1][1:] == (start, kind)
        if scheme != "IOB1" or adjacent:
            tags[start] = f"B-{kind}"
        if scheme == "IOBES":
            tags[end - 1] = f"E-{kind}" if end - start > 1 else f"S-{kind}"
    return tags


@st.composite
def sentences(draw):
    """Draw spans that do not overlap, and the length of the sentence that has them."""
    found, at = [], 0
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from("XY")), max_size=5)
    ):
        found.append(Span(at + gap, at + gap + length, kind))
        at += gap + length
    return found, at + draw(st.integers(0, 2))


@pytest.mark.parametrize("scheme", ["BIO", "IOB1", "IOBES"])
@given(sentence=sentences())
def test_what_is_written_in_a_scheme_is_read_back(scheme, sentence):
    assert spans(written(*sentence, scheme)) == sentence[0]


@pytest.mark.parametrize("tag", ["PER", "X-PER", "b-PER", "BPER", "O-PER", "", "-PER"])
def test_other_tags_are_refused(tag):
    with pytest.raises(UserError, match="is no tag of a span"):
        spans(["O", tag])


@pytest.mark.parametrize(
    ("predictions", "references", "precision", "recall"),
    [
        ("B-X I-X O B-Y", "B-X I-X O B-Y", 1, 1),
        ("I-X I-X O I-Y", "B-X E-X O S-Y", 1, 1),  # whatever the scheme
        ("B-X I-X O B-X", "B-X I-X O B-Y", 1 / 2, 1 / 2),  # another kind
        ("B-X O O O", "B-X I-X O B-Y", 0, 0),  # other boundaries
        ("B-X B-X", "B-X I-X", 0, 0),
        ("B-X O B-X", "B-X O O", 1 / 2, 1),
        ("B-X O O", "B-X O B-X", 1, 1 / 2),
        ("O O", "B-X O", 0, 0),
        ("O O", "O O", 0, 0),
        ("B-X O | O B-X", "O B-X | B-X O", 0, 0),  # the same places in other sentences
        ("B-X | B-X B-X | O", "B-X | O O | B-X", 1 / 3, 1 / 2),  # micro: 1 of 3 and 1 of 2
    ],
)
def test_span_f1_counts_exact_spans_of_all_sentences_together(predictions, references, precision, recall):
    split = [[sentence.split() for sentence in tags.split("|")] for tags in (predictions, references)]
    f1 = 2 * precision * recall / (precision + recall) if precision else 0
    expected = {"f1": f1, "precision": precision, "recall": recall}
    assert metrics.compute(["span_f1"], *split) == pytest.approx(expected)


def test_a_sequence_of_another_length_is_refused():
    with pytest.raises(ValueError, match="sequence 1 has 1 tags for 2 words"):
        metrics.compute(["span_f1"], [["O"], ["O"]], [["O"], ["O", "O"]])


# --- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_metric_leaves_nothing_behind(name, tmp_path, monkeypatch, capfd):
    """No file, no output, no warning, no other random numbers, and nothing from one split in the scores of the next."""
    import evaluate

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", "/dev/null/none")  # a place where nothing can be written
    monkeypatch.chdir(temporary)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first = metrics.compute([name], *ANY[name])
    assert metrics.compute([name], *ANY[name]) == first
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert list(temporary.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert all(type(value) is float and 0 < value < 1 for value in first.values())


@pytest.mark.parametrize("name", metrics.METRICS)
def test_the_right_predictions_score_1(name):
    _, references = ANY[name]
    predictions = [golds[-1] if golds else "" for golds in references] if name in OF_ANSWERS else references
    assert all(value == pytest.approx(1) for value in metrics.compute([name], predictions, references).values())


@pytest.mark.parametrize("name", metrics.METRICS)
def test_predictions_that_are_too_few_are_refused(name):
    predictions, references = ANY[name]
    with pytest.raises(ValueError, match="Mismatch in the number"):
        metrics.compute([name], predictions[1:], references)


def test_scores_of_several_metrics_come_in_the_order_of_their_names():
    assert list(metrics.compute(["matthews", "accuracy"], *ANY["f1"])) == ["matthews", "accuracy"]
    with pytest.raises(KeyError, match="bleu"):
        metrics.compute(["bleu"], *ANY["f1"])
