"""Trivial answers: each objective's own, chosen on training targets, scored on the test split, recorded."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import pytest

from support.experiments import experiment, run
from support.leaderboard_factory import build, make_results
from support.result_factory import make_result
from support.toys import ToyDecoder, ToyInstructions, ToyTask, ToyViT
from zipeft.api.data import Data, Split, Window
from zipeft.formatting import DASH
from zipeft.leaderboard.ranking import summary_rows
from zipeft.leaderboard.secondary_scores import other_table
from zipeft.leaderboard.tables import main_table, terminal_table
from zipeft.leaderboard.trivial import meaning, trivial_row
from zipeft.methods.linear import Linear
from zipeft.methods.untuned import Untuned
from zipeft.objectives.classification import Classification, TextClassification
from zipeft.objectives.extractive_qa import Answers, Origin, Spans
from zipeft.objectives.matching import BaseToNovel, Matching
from zipeft.objectives.regression import Regression
from zipeft.objectives.responses import Responses
from zipeft.objectives.sequence_labelling import SequenceLabelling
from zipeft.results import Trivial
from zipeft.training import stopwatch

CLASSES = ["a", "b", "c"]


def scored(objective, train, test, windows=()):
    answer = objective.trivial(train, CLASSES)
    return answer.words, answer.scores(windows, test)


@pytest.mark.parametrize(
    ("objective", "train", "test", "words", "scores"),
    [
        (Classification(), [2, 1, 1, 0], [1, 2, 2, 2], "majority class", {"accuracy": 1 / 4}),
        (Classification(), [2, 1, 1, 2], [1, 2, 2, 2], "majority class", {"accuracy": 1 / 4}),  # the first of two
        (TextClassification(), [1, 1, 0], [0, 0, 1], "majority class", {"accuracy": 1 / 3}),
        (TextClassification(("f1", "accuracy")), [0, 0, 1], [0, 1], "always class 1", {"f1": 2 / 3, "accuracy": 1 / 2}),
        (TextClassification(("f1",)), [1, 1, 0], [0, 1], "majority class", {"f1": 2 / 3}),
        (TextClassification(("matthews",)), [0, 0, 1], [0, 1], "majority class", {"matthews": 0}),
        (Regression(1, 5), [1.0, 2.0, 4.5], [1.0, 5.0], "mean", {"pearson": 0, "spearman": 0}),
        (Matching(), [0, 0, 1], [0, 0, 0, 0], "chance", {"accuracy": 1 / 3}),
        (
            BaseToNovel(classes=("a", "b", "c")),
            [0, 1],
            [0, 2],
            "chance",
            {"harmonic_mean": 2 / 3, "base_accuracy": 1 / 2, "novel_accuracy": 1},
        ),
        (SequenceLabelling(("B-x", "O")), [[0, 0]], [[1, 0], [1]], "always O", {"f1": 0, "precision": 0, "recall": 0}),
    ],
)
def test_a_trivial_answer_is_chosen_on_training_targets_and_scored_on_the_others(objective, train, test, words, scores):
    found = scored(objective, train, test)
    assert found[0] == words
    assert found[1] == pytest.approx(scores)


CONTEXT = "Ann Lee was born. Then she left."
ANSWERED, UNANSWERED = Answers(("Ann Lee",), (0,)), Answers((), ())


def test_the_trivial_answer_to_a_question_is_none_where_training_has_such_and_else_the_first_sentence():
    none = {"exact_match": 1 / 2, "f1": 1 / 2, "has_answer_f1": 0, "no_answer_accuracy": 1}
    test = [ANSWERED, UNANSWERED]
    assert scored(Spans(), [UNANSWERED, ANSWERED], test) == ("no answer", pytest.approx(none))
    words, scores = scored(Spans(), [ANSWERED], [ANSWERED], [[Window(None, None, Origin(CONTEXT, None))]])
    assert words == "first sentence"
    assert scores == pytest.approx({"exact_match": 0, "f1": 2 * (2 / 4) * 1 / (2 / 4 + 1)})  # "Ann Lee was born"


def test_no_response_is_trivial():
    assert Responses().trivial([("yes",)], []) is None


def part(split, indices):
    return Split(*([values[index] for index in indices] for values in (split.examples, split.targets, split.names)))


@dataclass(frozen=True)
class Skewed(ToyTask):
    """The toy's pictures; training holds more of class 1, the test split more of class 0."""

    def load(self, dataset):
        data = super().load(dataset)
        ones = [index for index, target in enumerate(data.train.targets) if target == 1 or index % 2]
        zeros = [index for index in range(self.examples) if index % self.classes == 0]
        train, shifted = part(data.train, ones), part(self._split(2), zeros)
        return Data(
            dataset,
            data.classes,
            train,
            data.validation,
            self._split(2),
            "drawn",
            "skewed",
            shifted={"red": shifted},
        )


def measured(backbone, task, method, dataset):
    return experiment(backbone, task, epochs=1, batch_size=8).measure(run(dataset, method))[0]


def test_a_run_records_what_the_trivial_answer_scores_on_each_test_split():
    result = measured(ToyViT(), Skewed(), Linear(), "colours")
    assert result.trivial.answer == "majority class"
    assert result.trivial.test == pytest.approx({"accuracy": 1 / 3, "red accuracy": 0})
    assert set(result.trivial.test) == set(result.test)


def test_a_run_without_a_trivial_answer_records_none():
    assert measured(ToyDecoder(), ToyInstructions(examples=8), Untuned(), "summaries").trivial is None


@dataclass(frozen=True)
class Odd(ToyTask):
    """A plug-in whose predictions are not those of the objective that it inherits from."""

    def score(self, predictions, targets):
        return super().score([prediction[0] for prediction in predictions], targets)

    def predict(self, outputs):
        return [[label] for label in super().predict(outputs)]

    def item_scores(self, predictions, targets):
        return []


def test_an_inherited_answer_that_does_not_suit_a_plug_in_costs_no_result(caplog):
    result = measured(ToyViT(), Odd(), Linear(), "colours")
    assert result.trivial is None
    assert result.score > 0
    assert "colours: no trivial answer is scored" in caplog.text


# --- on a page --------------------------------------------------------------------------------------------------------


def last_row(results):
    table = main_table(summary_rows(results))
    return dict(zip([column.header for column in table.columns], map(str, table.rows[-1]), strict=True))


def test_the_last_row_is_what_the_trivial_answer_scores_without_rank_or_cost():
    majority = {"icons": Trivial("majority class", {"accuracy": 0.9}), "typefaces": Trivial("mean", {"accuracy": 0.5})}
    results = [dataclasses.replace(result, trivial=majority[result.task.dataset]) for result in make_results()]
    with_it, without = (main_table(summary_rows(each)) for each in (results, [untold(each) for each in results]))
    assert last_row(results) == {
        "method": "trivial: majority class or mean",
        "icons": "90.0",
        "typefaces": "50.0",
        "mean": "70.0",
        **dict.fromkeys(("rank", "trainable\nparameters", "training\ntime", "peak\nmemory"), DASH),
    }
    assert list(with_it.rows[:-1]) == list(without.rows)  # it changes no rank, and is not set bold as the best
    text = terminal_table(results)
    assert text.index("zero_gated") < text.index("trivial: majority class or mean")
    assert "needs no learning (majority class or mean, by the training data)." in text


def untold(result, **changes):
    """A result as an older version wrote it, whose metric tells of no trivial answer."""
    return dataclasses.replace(result, trivial=None, targets=([1],) * len(result.targets), **changes)


@pytest.mark.parametrize(
    ("metric", "targets", "words", "score"),
    [
        ("accuracy", (2, 1, 1, 0, 1), "most frequent test class", 0.6),
        ("pearson", (1.5, 2.0, 1.5, 3.0, 1.0), "mean", 0.0),
        ("matthews", (1, 1, 0, 0, 0), "majority class", 0.0),
        ("harmonic_mean", (0, 1, 2, 3, 4), "chance", 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2)),  # 5 classes: 3 and 2
        ("f1", ([], [[0, 1]], [], [], []), None, None),
    ],
)
def test_a_result_of_an_older_version_tells_of_a_trivial_answer_where_its_metric_allows(metric, targets, words, score):
    changes = {"task.metric": metric, "task.classes": 5, "item_scores": (), "targets": targets, "trivial": None}
    result = make_result(items=5, test={metric: 0.7}, validation={metric: 0.7}, **changes)
    found = trivial_row(summary_rows([result]))
    assert (found and found.label) == (words and f"trivial: {words}")
    assert (found and found.score({"icons": 1.0})) == pytest.approx(score)
    said = " ".join(meaning(summary_rows([result])))
    assert ("the most frequent class of the test data themselves" in said) == (metric == "accuracy")


def test_an_answer_on_record_comes_before_one_that_is_told_from_test_targets():
    old, new = make_result(seed=0, trivial=None), make_result(seed=1)
    assert last_row([old, new])["icons"] == "5.0"


def test_a_data_set_without_a_trivial_answer_has_a_dash_and_so_has_the_mean():
    results = [each if each.task.dataset == "icons" else untold(each) for each in make_results()]
    row = last_row(results)
    assert (row["icons"], row["typefaces"], row["mean"]) == ("5.0", DASH, DASH)


def test_the_other_scores_of_the_trivial_answer_stand_with_those_of_the_rows(tmp_path):
    trivial = Trivial("majority class", {"accuracy": 0.25, "red accuracy": 0.125})
    results = [make_result(seed=seed, test={"accuracy": 0.5, "red accuracy": 0.4}, trivial=trivial) for seed in (0, 1)]
    table = other_table(summary_rows(results))
    assert [list(map(str, row)) for row in table.rows] == [["lora", "40.0 ± 0.0"], ["trivial: majority class", "12.5"]]
    files = build(tmp_path, results)
    assert "vit,fgvc,1,trivial: majority class,icons,red accuracy,0.125," in files["vit-fgvc.csv"]
    for end in ("md", "html", "tex"):
        assert files[f"vit-fgvc.{end}"].count("trivial: majority class") >= 2


# --- the time of the CPUs ---------------------------------------------------------------------------------------------


def test_a_stopwatch_tells_work_from_waiting():
    start = stopwatch.now()
    time.sleep(0.05)
    waited = stopwatch.now() - start
    assert waited.wall >= 0.05
    assert waited.cpu < 0.04
    start = stopwatch.now()
    while (worked := stopwatch.now() - start).cpu < 0.02:
        sum(range(1000))
    assert worked.wall > 0.01
    assert (waited + worked).cpu == pytest.approx(waited.cpu + worked.cpu)


def test_a_run_records_its_cpu_time_and_its_threads():
    cost = measured(ToyViT(), ToyTask(), Linear(), "colours").cost
    assert cost.threads >= 1
    assert 0 < cost.cpu_seconds < (cost.train_seconds + cost.frozen_prefix_seconds) * (cost.threads + 4) + 0.1
