"""The time that a sweep still takes, by a clock that a test turns; and what the bar says."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import experiments
from support.result_factory import make_failure, make_result
from support.toys import ToyTask, registered
from zipeft.commands.run import main
from zipeft.errors import UserError
from zipeft.experiments.comparison import Contender
from zipeft.experiments.progress import ProgressBar
from zipeft.experiments.sweep import ResumePolicy, Study
from zipeft.experiments.time_left import TimeLeft
from zipeft.methods.linear import Linear
from zipeft.results import Store

# --- the estimate -----------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def train(estimate, clock, kind, seconds, steps=4, look=lambda: None):
    """Let a training run, and look at each of its steps."""
    estimate.begin("it", kind)
    for step in range(1, steps + 1):
        clock.time += seconds / steps
        estimate.step("it", step / steps)
        look()
    estimate.end("it")
    look()


SECONDS = st.floats(0.01, 1e4)
KINDS = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), st.tuples(SECONDS, st.integers(1, 4)), min_size=1
)


@given(KINDS, st.data())
def test_the_time_left_is_right_at_every_step_where_earlier_trainings_are_known(kinds, data):
    clock = Clock()
    estimate = TimeLeft(clock)
    work = [kind for kind, (_, number) in kinds.items() for _ in range(number)]
    for kind, (seconds, number) in kinds.items():
        estimate.plan(kind, number)
        estimate.remember(kind, [seconds * 0.5, seconds * 1.5])
    total = sum(kinds[kind][0] for kind in work)
    shares = [0.0]

    def look():
        assert estimate.left() == pytest.approx(total - clock.time, abs=1e-6 * total)
        shares.append(estimate.share())

    look()
    for kind in data.draw(st.permutations(work)):
        train(estimate, clock, kind, kinds[kind][0], look=look)
    assert shares == pytest.approx(sorted(shares))
    assert (estimate.left(), estimate.share(), estimate.done) == (0, 1, len(work))


@given(KINDS)
def test_what_trainings_took_here_comes_before_what_earlier_ones_took(kinds):
    clock = Clock()
    estimate = TimeLeft(clock)
    for kind, (seconds, number) in kinds.items():
        estimate.plan(kind, 1 + number)
        estimate.remember(kind, [10 * seconds + 1])
    for kind, (seconds, _) in kinds.items():
        train(estimate, clock, kind, seconds)
    left = sum(seconds * number for seconds, number in kinds.values())
    assert estimate.left() == pytest.approx(left)
    assert estimate.share() == pytest.approx(clock.time / (clock.time + left))


@given(KINDS, st.integers(0, 4), st.booleans())
def test_what_is_done_already_and_what_can_never_be_done_take_no_time(kinds, done, dropped):
    estimate = TimeLeft(Clock())
    for kind, (seconds, number) in kinds.items():
        estimate.plan(kind, number)
        estimate.remember(kind, [seconds])
    total = estimate.trainings
    for kind, (_, number) in kinds.items():
        estimate.drop(kind) if dropped else estimate.remain(kind, max(0, number - done))
    if dropped:
        assert (estimate.trainings, estimate.done, estimate.left(), estimate.share()) == (0, 0, 0, 0)
    else:
        left = sum(seconds * max(0, number - done) for seconds, number in kinds.values())
        assert estimate.left() == pytest.approx(left)
        assert estimate.trainings == total
        assert estimate.share() == pytest.approx(1 - left / sum(seconds * number for seconds, number in kinds.values()))


@given(KINDS, st.lists(st.tuples(st.sampled_from(["begin", "step", "end", "fail", "drop"]), st.floats(0, 100))))
def test_whatever_happens_time_and_share_stay_in_their_bounds(kinds, events):
    clock = Clock()
    estimate = TimeLeft(clock)
    for kind, (_, number) in kinds.items():
        estimate.plan(kind, number)
    waiting = [kind for kind, (_, number) in kinds.items() for _ in range(number)]
    running = []
    for count, (event, seconds) in enumerate(events):
        clock.time += seconds
        if event == "begin" and waiting:
            running.append(str(count))
            estimate.begin(str(count), waiting.pop())
        elif event == "step" and running:
            estimate.step(running[0], min(1, seconds / 100))
        elif event in ("end", "fail") and running:
            estimate.end(running.pop(0), whole=event == "end")
        elif event == "drop" and waiting and not running:
            estimate.drop(waiting[-1])
            waiting = [kind for kind in waiting if kind != waiting[-1]]
        left = estimate.left()
        assert left is None or left >= 0
        assert 0 <= estimate.share() <= 1
        assert 0 <= estimate.done <= estimate.trainings
        assert (estimate.share() == 1) <= (left == 0)


def test_the_first_training_tells_of_the_others_by_its_own_steps():
    clock = Clock()
    estimate = TimeLeft(clock)
    estimate.plan(("a",), 1)
    estimate.plan(("b",), 3)
    assert (estimate.left(), estimate.share()) == (None, 0)
    estimate.begin("it", ("a",))
    assert estimate.left() is None
    clock.time = 10
    estimate.step("it", 0.25)
    assert estimate.left() == 30 + 3 * 40
    clock.time = 50  # it was held up
    estimate.end("it")
    assert estimate.left() == 150
    assert estimate.share() == pytest.approx(0.25)


def test_fast_last_steps_do_not_hide_what_is_slow_and_still_to_come():
    """What a bar over steps alone says: seconds, where hours are to come."""
    clock = Clock()
    estimate = TimeLeft(clock)
    for kind, seconds in ((("full",), 3600), (("linear",), 5)):
        estimate.plan(kind, 2)
        estimate.remember(kind, [seconds])
    for _ in range(2):
        train(estimate, clock, ("linear",), 5)
    assert estimate.left() == 7200
    assert estimate.share() == pytest.approx(10 / 7210)


def test_trainings_that_run_at_once_share_the_time():
    clock = Clock()
    estimate = TimeLeft(clock)
    estimate.plan(("a",), 6)
    estimate.remember(("a",), [60])
    for name in "xy":
        estimate.begin(name, ("a",))
    assert estimate.left() == 180
    clock.time = 60
    for name in "xy":
        estimate.end(name)
    assert estimate.left() == 120
    estimate.remain(("a",), 1)
    estimate.begin("z", ("a",))
    assert estimate.left() == 60  # one cannot be shared out


def test_a_failure_says_nothing_of_what_others_take():
    estimate = TimeLeft(Clock())
    estimate.plan(("a",), 2)
    estimate.begin("it", ("a",))
    estimate.end("it", whole=False)
    assert (estimate.left(), estimate.done) == (None, 1)


# --- the bar ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def experiment():
    contenders = tuple(Contender(name, Linear()) for name in ("linear", "other"))
    return experiments.experiment(contenders=contenders, seeds=(0, 1), epochs=1, batch_size=8)


@pytest.fixture
def shown(capsys):
    text = []

    def parts():
        text.append(capsys.readouterr().err)
        return [part.strip() for part in re.split(r"[\r\n]|\x1b\[A", "".join(text)) if part.strip()]

    return parts


def took(seconds):
    return {"cost.train_seconds": seconds, "cost.frozen_prefix_seconds": 0.0, "cost.evaluation_seconds": 0.0}


def test_the_bar_takes_what_is_on_record_as_done_and_as_a_measure(experiment, shown, tmp_path):
    store = Store(tmp_path)
    studies = [Study(experiment, "colours", contender) for contender in experiment.comparison.contenders]
    for study, seconds in zip(studies, (100.0, 900.0), strict=True):
        same = experiment.describer.identity(study.runs()[0])
        longer = {**same, "protocol": {**same["protocol"], "epochs": 9}}  # which is no measure
        for deciding, each in ((same, seconds), (longer, 7.0)):
            items = {"targets": (0,) * 48, "predictions": (0,) * 48, "item_scores": ()}
            store.save(dataclasses.replace(make_result(**took(each), **items), **deciding))
        study.look(store, ResumePolicy())
    clock = Clock()
    bar = ProgressBar([experiment], store, clock)
    assert "0/4 trainings" in shown()[-1]
    assert shown()[-1].endswith("<?]")
    for study in studies:
        bar.entered(study)
    assert shown()[-1].startswith("50%|")
    assert "2/4 trainings" in shown()[-1]
    assert shown()[-1].endswith("<16:40]")  # 100 and 900 seconds
    (run,) = studies[1].open.values()
    bar.starting(studies[1], run)
    clock.time += 450
    bar.step(2)
    assert shown()[-1].endswith("<09:10]")
    assert "colours other seed 1" in shown()[-1]
    failed = make_failure(make_result(), **experiment.describer.identity(run))
    bar.finished(studies[1], run, failed)
    bar.close()


def test_data_that_cannot_be_loaded_are_not_shown_as_done(shown, monkeypatch, tmp_path):
    def load(self, dataset):
        raise UserError("no pictures in it")

    monkeypatch.setattr(ToyTask, "load", load)
    monkeypatch.chdir(tmp_path)
    with registered():
        assert main(["--backbone", "toy", "--task", "toy", "--device", "cpu", "--method", "linear"]) == 2
    assert "no pictures in it" in shown()[-1]
    assert not [part for part in shown() if "100%" in part]


def test_a_sweep_that_is_done_says_so(shown, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with registered():
        command = ["--backbone", "toy", "--task", "toy", "--device", "cpu", "--method", "linear", "--epochs", "1"]
        for _ in range(2):
            assert main(command) == 0
            bars = [part for part in shown() if "trainings" in part]
            assert bars[-1].startswith("done 100%")
            assert "2/2 trainings" in bars[-1]
            assert bars[-1].endswith("<00:00]")
