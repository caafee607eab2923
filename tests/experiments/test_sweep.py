"""Sweeps: equal budgets, resuming, several processes, failures; and that nothing is lost or done twice."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from support import TESTS
from support.forks import fork, fork_together, statuses
from support.method_cases import methods_for
from support.sweeps import TOY, outcomes, records
from support.toys import ToyDecoder, ToyTask, registered, toy_decoder_tokenizer
from zipeft import registry
from zipeft.api.method import Method
from zipeft.api.search import Range, Space
from zipeft.commands.run import main
from zipeft.errors import UserError
from zipeft.experiments import sweep
from zipeft.results import Failure, Result, Store, Trial
from zipeft.results.packing import pack

SCRIPT = TESTS / "support/toy_run.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with registered():
        yield


@pytest.fixture
def method(request):
    """Make a method known as "odd" for one test."""
    registry.methods.register("odd", request.param)
    yield request.param
    registry.methods.unregister("odd")


def run(*arguments) -> int:
    return main([*TOY, *arguments])


def test_every_trial_is_on_record_and_the_best_on_validation_is_what_runs():
    assert run("--method", "linear", "zero_gated") == 0
    found = records()
    for name in ("linear", "zero_gated"):
        trials = sorted((t for t in found[Trial] if t.method.name == name), key=lambda trial: trial.index)
        results = [r for r in found[Result] if r.method.name == name]
        assert [trial.index for trial in trials] == [0, 1]
        assert {trial.seed for trial in trials} == {1000}
        assert {result.seed for result in results} == {0, 1}
        scores = [trial.validation["accuracy"] for trial in trials]
        chosen = trials[scores.index(max(scores))]
        for result in results:
            assert result.method == chosen.method
            assert [tried.id for tried in result.search] == [trial.id for trial in trials]
            assert [tried.validation for tried in result.search] == scores
            assert result.search[0].settings.keys() == result.method.space.keys()


def test_a_setting_that_the_user_fixes_is_not_searched():
    assert run("--method", "zero_gated", "--set", "zero_gated.learning_rate=0.05") == 0
    for result in records()[Result]:
        assert result.method.settings["learning_rate"] == 0.05
        assert result.method.space.keys() == {"head_learning_rate"}


def test_more_trials_use_those_that_there_are():
    run("--method", "linear", "--trials", "1")
    before = {trial.id for trial in records()[Trial]}
    run("--method", "linear", "--trials", "3")
    after = {trial.id for trial in records()[Trial]}
    assert len(before) == 1
    assert len(after) == 3
    assert before < after
    assert len(records()[Result]) == 4  # of another budget, so not comparable with the first


def test_without_a_search_the_defaults_run_and_nothing_is_tried():
    run("--method", "linear", "--trials", "0")
    found = records()
    assert not found[Trial]
    for result in found[Result]:
        assert result.method.space == {}
        assert result.search == ()
        assert "search_seed" not in result.protocol


def test_the_same_id_gives_the_same_metrics_to_the_last_digit():
    arguments = ("--method", "lora", "zero_gated", "--seeds", "1")
    run(*arguments)
    run(*arguments, "--results", "again")
    assert outcomes(Path("results")) == outcomes(Path("again"))


def test_packed_results_are_not_measured_again():
    assert run("--method", "linear", "--seeds", "1") == 0
    before = outcomes(Path("results"))
    assert len(list(pack(Store(Path("results"))))) == 1
    assert run("--method", "linear", "--seeds", "1") == 0
    assert list(Path("results").rglob("*.json")) == []
    assert run("--method", "linear", "--seeds", "2") == 0
    (new,) = Path("results").rglob("*.json")
    assert "seed1" in new.name
    assert outcomes(Path("results")).items() > before.items()


def test_a_model_folder_that_is_edited_trains_anew_and_the_old_records_stay(tmp_path):
    folder = tmp_path / "model"
    ToyDecoder().build().save_pretrained(folder)
    toy_decoder_tokenizer().save_pretrained(folder)
    template, config = folder / "chat_template.jinja", folder / "config.json"
    template.write_text("{{ messages[0].content }}")
    command = ["--backbone", "llama", "--checkpoint", "model", "--task", "toy_instruct", "--method", "zero_gated"]
    command += ["--device", "cpu", "--epochs", "1", "--seeds", "1", "--trials", "0", "--set", "toy_instruct.examples=4"]
    edits = [
        lambda: template.write_text("{{ messages }}"),
        lambda: config.write_text(json.dumps({**json.loads(config.read_text()), "rms_norm_eps": 0.5})),
    ]
    assert main(command) == 0
    for edited, edit in enumerate(edits, start=1):
        before = {record: record.read_bytes() for record in Path("results").rglob("*.json")}
        assert len(before) == edited
        assert main(command) == 0
        assert {record: record.read_bytes() for record in Path("results").rglob("*.json")} == before
        edit()
        assert main(command) == 0
        assert all(record.read_bytes() == content for record, content in before.items())
    found = records()[Result]
    assert len(found) == len({result.id for result in found}) == 3


@dataclass(frozen=True)
class Diverging(Method):
    """Diverges in the lower half of its space."""

    space: ClassVar[Space] = {"learning_rate": Range(1e-4, 1e-2)}

    def apply(self, backbone, model):
        if self.learning_rate < 1e-3:
            model.register_forward_hook(lambda *outputs: outputs[-1] * math.nan)


@pytest.mark.parametrize("method", [Diverging], indirect=True)
def test_a_trial_that_diverges_is_recorded_and_the_other_one_runs(method, capsys):
    assert run("--method", "odd") == 0
    found = records()
    (failure,) = found[Failure]
    assert (failure.of, failure.reason) == ("trial", "the training loss is nan in epoch 1; lower the learning rate")
    assert len(found[Trial]) == 1
    assert len(found[Result]) == 2
    failed = [tried for tried in found[Result][0].search if tried.validation is None]
    assert [tried.error for tried in failed] == [failure.reason]


@dataclass(frozen=True)
class Broken(Method):
    """Fails in every way."""

    error: ClassVar[type[Exception]] = MemoryError
    tries: ClassVar[int] = 0
    space: ClassVar[Space] = {}

    def apply(self, backbone, model):
        type(self).tries += 1
        if self.error is not None:
            raise self.error("cannot allocate\nso much")


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, ZeroDivisionError, KeyError])
@pytest.mark.parametrize("method", [Broken], indirect=True)
def test_a_run_that_fails_is_recorded_and_tried_again_only_when_asked(method, error, monkeypatch, capsys):
    monkeypatch.setattr(Broken, "error", error)
    monkeypatch.setattr(Broken, "tries", 0)
    arguments = ("--method", "odd", "linear", "--trials", "0")
    for tries in (2, 2):  # the second time the failures are known
        assert run(*arguments) == 1
        assert Broken.tries == tries
        err = capsys.readouterr().err
        assert "colours, odd, run of seed 0: " + error.__name__ in err
        assert "--retry-failed" in err
        assert "Traceback" not in err
    failures = records()[Failure]
    assert {failure.seed for failure in failures} == {0, 1}
    assert all("cannot allocate" in failure.details and "Traceback" in failure.details for failure in failures)
    assert len(records()[Result]) == 2  # of linear
    monkeypatch.setattr(Broken, "error", None)
    assert run(*arguments, "--retry-failed") == 0
    assert not records()[Failure]
    assert len(records()[Result]) == 4


def test_a_broken_result_file_is_measured_again(caplog):
    run("--method", "linear")
    before = outcomes(Path("results"))
    damaged = sorted(Path("results").rglob("linear-seed*.json"))[0]
    damaged.write_bytes(damaged.read_bytes()[:200])
    run("--method", "linear")
    assert str(damaged) in caplog.text
    assert outcomes(Path("results")) == before


def test_a_run_that_another_process_has_claimed_is_left_to_it(monkeypatch):
    run("--method", "linear")
    before = outcomes(Path("results"))
    (victim,) = [result for result in records()[Result] if result.seed == 1]
    Store(Path("results")).path(victim).unlink()
    script = f"""
import sys, time
from pathlib import Path
from zipeft.results import Store
with Store(Path("results")).claim({victim.id!r}) as mine:
    assert mine
    print("claimed", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "claimed\n"
    looks = Path("looks")

    def sleep(seconds):
        with looks.open("a") as file:
            file.write(".")
        time.sleep(seconds)

    monkeypatch.setattr(sweep, "POLL", 0.05)
    monkeypatch.setattr(sweep, "time", SimpleNamespace(sleep=sleep))
    waiting = start("results", "--method", "linear")
    wait_until(lambda: looks.exists() and looks.stat().st_size > 3)
    assert waiting.is_alive()
    assert not Store(Path("results")).path(victim).exists()
    holder.kill()  # its claim goes with it, and the waiting process takes over
    assert statuses([waiting]) == [0]
    assert outcomes(Path("results")) == before


def wait_until(holds, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def start(results, *arguments) -> BaseProcess:
    """Start a sweep of the toys in a process of its own; what it says goes to a file beside results."""
    return fork(partial(main, [*TOY, "--results", str(results), *arguments]), f"{results}.err")


def start_script(results, *arguments, launcher=(sys.executable,)) -> subprocess.Popen:
    """Do the same in a new interpreter, or in those that a launcher starts."""
    command = [*launcher, SCRIPT, *TOY, "--results", str(results), *arguments]
    with open(f"{results}.err", "ab") as said:
        return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=said)


def test_two_processes_on_one_sweep_share_it_and_do_nothing_twice(tmp_path):
    arguments = ["--method", "linear", "zero_gated"]
    kept = ["--save-adapters", str(tmp_path / "adapters")]
    assert statuses([start("results", *arguments, *kept) for _ in range(2)]) == [0, 0]
    run(*arguments, "--results", "alone")
    assert outcomes(Path("results")) == outcomes(Path("alone"))


def train_together(results, *arguments) -> list[int | None]:
    sweep_of_toys = partial(main, [*TOY, "--results", str(results), *arguments])
    return statuses(fork_together(sweep_of_toys, 2, f"{results}.err"), 300)


def train_by_torchrun(results, *arguments) -> list[int | None]:
    return [start_script(results, *arguments, launcher=TORCHRUN).wait(300)]


LOSSES = ("train_loss", "losses")


@pytest.mark.slow
@pytest.mark.parametrize("train", [train_together, train_by_torchrun])
def test_two_processes_that_train_together_give_the_results_of_one(train):
    arguments = ["--method", "linear", "zero_gated", "--epochs", "2"]
    assert set(train("together", *arguments)) == {0}, Path("together.err").read_text()[-3000:]
    assert run(*arguments, "--results", "alone") == 0
    together, alone = outcomes(Path("together")), outcomes(Path("alone"))
    assert together.keys() == alone.keys()
    for name, content in alone.items():
        histories = together[name]["history"], content["history"]
        means, parts = ([[epoch.pop(key) for epoch in history] for history in histories] for key in LOSSES)
        assert means[0] == pytest.approx(means[1], abs=1e-4)
        for ours, theirs in zip(*parts, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)
        assert together[name] == content


@pytest.mark.slow
def test_a_sweep_killed_at_twenty_random_moments_ends_as_an_undisturbed_one():
    arguments, moments = ["--method", "all", "--epochs", "6", "--seeds", "3"], random.Random(0)
    for _ in range(20):
        process = start_script("results", *arguments)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(moments.uniform(3.0, 8.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start_script("results", *arguments).wait(300) == 0
    assert start_script("alone", *arguments).wait(300) == 0
    assert outcomes(Path("results")) == outcomes(Path("alone"))
    kinds = records()
    assert (len(kinds[Trial]), len(kinds[Result])) == (
        2 * len(methods_for("image")),
        3 * len(methods_for("image")),
    )


def test_a_sweep_killed_at_work_goes_on():
    arguments, moments = ["--method", "linear", "zero_gated"], random.Random(0)
    for done in (1, 2, 4):
        process = start("results", *arguments)
        wait_until(lambda: len(list(Path("results").rglob("*.json"))) >= done)  # noqa: B023
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        assert statuses([process]) == [-signal.SIGKILL]
    assert statuses([start("results", *arguments)]) == [0]
    run("--method", "linear", "zero_gated", "--results", "alone")
    assert outcomes(Path("results")) == outcomes(Path("alone"))


class TwoSets(ToyTask):
    """A task of which one data set cannot be loaded."""

    error: ClassVar[Exception] = UserError()

    def datasets(self):
        return ("missing", "colours")

    def load(self, dataset):
        if dataset == "missing":
            raise self.error
        return super().load(dataset)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("missing.tar is damaged: download it again"), "missing.tar is damaged: download it again"),
        (
            ZeroDivisionError("a defect\nof the task"),
            "ZeroDivisionError: a defect of the task (experiments/test_sweep.py, line ",
        ),
    ],
)
def test_a_data_set_that_cannot_be_loaded_stops_no_other(error, message, monkeypatch, capsys):
    monkeypatch.setattr(TwoSets, "error", error)
    registry.tasks.register("two", TwoSets)
    try:
        status = main(["--backbone", "toy", "--task", "two", *TOY[4:], "--method", "linear"])
    finally:
        registry.tasks.unregister("two")
    assert status == 1
    err = capsys.readouterr().err
    assert f"zipeft: failed: missing: {message}" in err
    assert "Traceback" not in err
    assert len(records()[Result]) == 2


@pytest.mark.slow
def test_a_sweep_of_which_nobody_reads_the_progress_ends_and_goes_on_as_if_undisturbed(tmp_path):
    """The pipe breaks in the middle of a trial, which is no failure of that trial."""
    command = [sys.executable, SCRIPT, *TOY, "--method", "zero_gated"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    seen = b""
    while b"trial 1" not in seen:
        seen += os.read(process.stderr.fileno(), 20)
    process.stderr.close()
    assert process.wait(60) == 141
    assert not records()[Failure]
    assert run("--method", "zero_gated") == 0
    assert run("--method", "zero_gated", "--results", "alone") == 0
    assert outcomes(Path("results")) == outcomes(Path("alone"))


def test_a_sweep_goes_on_without_a_place_for_its_progress(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Full())
        assert run("--method", "linear") == 0
    assert len(records()[Result]) == 2


def test_a_full_disk_is_no_failure_of_a_training(monkeypatch, capsys):
    refused = []

    def fsync(_file):
        if not refused:  # the record does not fit; a failure, which is smaller, would
            refused.append(True)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    assert run("--method", "linear") == 2
    assert "No space left on device; choose a folder that can be written" in capsys.readouterr().err
    assert not any(records().values())
    assert run("--method", "linear") == 0


def test_results_that_are_deleted_while_a_sweep_goes_on_are_missed(monkeypatch, capsys):
    save, saved = Store.save, []

    def save_and_delete_the_first(store, record):
        saved.append(save(store, record))
        if len(saved) == 2:
            saved[0].unlink()
        return saved[-1]

    monkeypatch.setattr(Store, "save", save_and_delete_the_first)
    assert run("--method", "linear", "--trials", "0") == 1
    said = capsys.readouterr()
    assert "\n1 result in results/; a page and plots:" in said.out
    assert "zipeft: failed: 1 result of these no longer in results/: the same command makes them again\n" in said.err


def test_an_adapter_that_cannot_be_kept_costs_no_result(tmp_path, capsys, caplog):
    target = tmp_path / "kept/toy-toy/colours/linear-seed0/adapter.json"
    target.mkdir(parents=True)
    arguments = ("--method", "linear", "--save-adapters", str(tmp_path / "kept"))
    assert run(*arguments) == 1
    assert "what it learnt is not kept; give the command again" in capsys.readouterr().err
    assert "cannot write" in caplog.text
    assert len(records()[Result]) == 2
    assert not records()[Failure]
    target.rmdir()
    assert run(*arguments) == 0
    assert target.is_file()
