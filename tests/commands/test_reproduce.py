"""``zipeft reproduce``: the same training gives the same, and whatever does not is found and named."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch

from support.sweeps import records
from support.toys import registered
from zipeft import registry
from zipeft.commands import main as zipeft
from zipeft.commands.run import main as run
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.reproduction import Reproduction, Verdict, row_of
from zipeft.results import Result, Store, Trial, read_records
from zipeft.results.packing import pack

TOY = ["--backbone", "toy", "--task", "toy", "--device", "cpu", "--method", "lora", "--epochs", "2"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A store of one method on toys: two trials and three seeds."""
    folder = tmp_path_factory.mktemp("sweep")
    torch.set_num_threads(1)
    with registered():
        assert run([*TOY, "--trials", "2", "--seeds", "3", "--results", str(folder)]) == 0
    return folder


@pytest.fixture
def store(sweep, tmp_path, monkeypatch):
    """A copy of it under "results", in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    store = Store(Path("results"))
    for record in read_records([sweep])[0].values():
        store.save(record)
    with registered():
        yield store


def reproduce(capsys, *arguments):
    status = zipeft(["reproduce", *arguments, "--results", "results"])
    return status, *capsys.readouterr()


def one(kind):
    return records()[kind][0]


@pytest.fixture
def measured(store, monkeypatch):
    """Let a training give at once what it gave before: that it does is tested apart."""
    before = {record.id: record for record in read_records([store.root])[0].values()}
    monkeypatch.setattr(Experiment, "measure", lambda self, run: (before[self.id(run)], None))


def altered(store, record, **changes):
    """Put another record in the place of one, its hashes made anew, as if it had been made so."""
    changed = dataclasses.replace(record, **changes)
    store.path(record).unlink()
    store.save(changed)
    return changed


@pytest.mark.parametrize(("kind", "packed"), [(Result, False), (Trial, True)])
def test_the_same_training_gives_the_same_to_the_last_digit(store, capsys, kind, packed):
    if packed:
        list(pack(store))
    record = one(kind)
    status, out, err = reproduce(capsys, record.id[:8], "--keep", "again")
    assert (status, err) == (0, "")
    assert f"record {record.id}, results" in out
    assert f"rebuilt, {record.id}" in out
    assert "the surroundings are the same" in out
    assert out.endswith("equal to the last digit\n")
    (again,) = records("again")[kind]
    assert again.id == record.id
    assert Reproduction(record, again).outcome == {}


def test_a_record_is_named_by_its_file_or_its_line(store, capsys):
    record = one(Result)
    assert reproduce(capsys, str(store.path(record)), "--dry-run")[0] == 0
    ((archive, _),) = pack(store)
    lines = archive.read_text().splitlines()
    (number,) = [index for index, line in enumerate(lines, 1) if json.loads(line)["id"] == record.id]
    status, out, _ = reproduce(capsys, f"{archive}:{number}", "--dry-run")
    assert status == 0
    assert record.id in out


def flipped(record):
    """Return the changes of a record in which one answer, right or wrong before, is the other."""
    scores = (1 - record.item_scores[0], *record.item_scores[1:])
    return {"item_scores": scores, "test": {**record.test, "accuracy": sum(scores) / len(scores)}}


TAMPERED = {
    "test": flipped,
    "predictions": lambda r: {"predictions": ((r.predictions[0] + 1) % 3, *r.predictions[1:])},
    "targets": lambda r: {"targets": ((r.targets[0] + 1) % 3, *r.targets[1:])},
    "validation": lambda r: {"validation": {"accuracy": 0.123}},
    "selected_epoch": lambda r: {"selected_epoch": 3 - r.selected_epoch},
    "steps": lambda r: {"cost": dataclasses.replace(r.cost, steps=99)},
    "trainable_parameters": lambda r: {"cost": dataclasses.replace(r.cost, trainable_parameters=99)},
    "trivial": lambda r: {"trivial": dataclasses.replace(r.trivial, test={"accuracy": 0.9})},
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_not_measured_is_found(store, measured, capsys, name):
    record = altered(store, one(Result), **TAMPERED[name](one(Result)))
    status, out, _ = reproduce(capsys, record.id)
    assert status == 1
    listed = out.partition("came out otherwise (then / now):\n")[2]
    assert listed.lstrip().startswith(("item_scores", name)) or f"    {name}" in listed
    assert out.endswith("not reproduced: software and machine are the same\n")


def elsewhere(record, **changes):
    versions = {**record.environment.versions, "torch": "1.0"}
    return {"environment": dataclasses.replace(record.environment, versions=versions), **changes}


def test_elsewhere_a_score_may_differ_by_what_two_runs_do(store, measured, capsys):
    record = one(Result)
    record = altered(store, record, **elsewhere(record, **flipped(record)))
    status, out, _ = reproduce(capsys, record.id)
    assert status == 0
    assert f"versions.torch 1.0 / {torch.__version__.partition('+')[0]}" in out
    assert "by 3 seeds of its row" in out
    assert out.endswith("within the interval, elsewhere\n")


def test_elsewhere_too_a_score_may_not_differ_by_more(store):
    record, size = one(Result), 48

    def scoring(right):
        scores = (1.0,) * right + (0.0,) * (size - right)
        return dataclasses.replace(record, item_scores=scores, test={"accuracy": right / size})

    then = dataclasses.replace(scoring(size), **elsewhere(record))
    mates = [dataclasses.replace(then, seed=seed) for seed in (1, 2)]
    small, far = scoring(size - 1), scoring(size // 2)
    assert Reproduction(then, small, row_of(then, mates)).verdict is Verdict.WITHIN
    assert Reproduction(then, far, row_of(then, mates)).verdict is Verdict.DIFFERS
    assert Reproduction(then, far).verdict is Verdict.DIFFERS


def test_zipefts_own_commit_explains_nothing(store, measured, capsys):
    record = one(Result)
    changed = dataclasses.replace(record.environment, commit="ab" * 20, cores=64)
    record = altered(store, record, environment=changed, **flipped(record))
    status, out, _ = reproduce(capsys, record.id)
    assert status == 1
    assert "zipeft's own code is not" in out


def test_another_identity_is_no_reproduction(store, capsys):
    record = one(Result)
    record = altered(store, record, task=dataclasses.replace(record.task, checksum="other data"))
    for arguments in ((), ("--dry-run",)):
        status, out, _ = reproduce(capsys, record.id, *arguments)
        assert status == 1
        assert "    task.checksum other data / 48 3\n" in out
    assert "test accuracy" not in out


def test_a_dry_run_trains_nothing(store, capsys, monkeypatch):
    monkeypatch.setattr("zipeft.experiments.experiment.Experiment.measure", lambda *_: pytest.fail("it trained"))
    record = one(Result)
    before = sorted(os.walk("."))
    status, out, _ = reproduce(capsys, record.id, "--dry-run")
    assert status == 0
    assert "learning_rate" in out
    assert "epochs 2" in out
    assert f"rebuilt, {record.id}" in out
    assert sorted(os.walk(".")) == before


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ("ffff", "no record in results has an id that begins with ffff"),
        ("xyz", "xyz is neither a file"),
        ("ab", "neither a file"),
        ("none.json", "none.json: cannot be read"),
        ("none.jsonl:3", "none.jsonl, line 3: cannot be read"),
        ("none.jsonl", "holds many records"),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(store, capsys, named, error):
    status, out, err = reproduce(capsys, named)
    assert (status, out) == (2, "")
    assert error in err
    assert err.count("\n") == 1


def test_an_id_has_to_be_of_one_record(store, capsys):
    first, second, *_ = sorted(Path("results").rglob("*-seed*.json"))
    for path, id in ((first, "abcd0"), (second, "abcd1")):
        path.rename(path.with_name(f"x-seed0-{id}.json"))
    status, _, err = reproduce(capsys, "abcd")
    assert status == 2
    assert "2 records have an id that begins with abcd: give more of it, or name one" in err


def test_a_plug_in_that_is_missing_is_named(store, capsys):
    record = one(Result)
    task = registry.tasks.get("toy")
    registry.tasks.unregister("toy")
    try:
        status, _, err = reproduce(capsys, record.id)
    finally:
        registry.tasks.register("toy", task)
    assert status == 2
    assert "unknown task 'toy'" in err
    assert err.count("\n") == 1


def test_other_settings_than_names_of_weights_are_refused(store, capsys):
    record = one(Result)
    for assignment in ("protocol.epochs=3", "lora.rank=2", "backbone.depth=3"):
        status, _, err = reproduce(capsys, record.id, "--set", assignment)
        assert status == 2
        assert err.count("\n") == 1
