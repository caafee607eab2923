"""A record says all that decides its training: rebuilt from it alone, the training has its id."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from support import ROOT
from support.toys import ToyTask, registered
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.search import Choice, Range, as_record
from zipeft.commands.run import main as run
from zipeft.errors import UserError
from zipeft.experiments.description import Describer
from zipeft.experiments.rebuilding import Places, _dimension, changes, rebuild
from zipeft.results import Failure, Trial, read_records

COMMITTED = sorted((ROOT / "leaderboards" / "results").glob("*/*.jsonl"))
OLD = sorted((ROOT / "tests" / "data").glob("schema-*"))

SCORED_ANEW = {"task.settings.scoring", "task.settings.skip_broken"}
"""What decides a result of instructions since it was published: the committed ones are of an older scoring."""


@pytest.fixture
def toys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with registered():
        yield


def rebuilt(record, **data):
    """Return what ``rebuild`` gives and a describer of it, which takes the checksum of the data from the record."""
    comparison, again = rebuild(record, Places())
    describer = Describer(comparison, torch.device("cpu"), "", lambda name: None, lambda: 0)
    describer._tasks[record.task.dataset] = dataclasses.replace(record.task, settings=describer._task_settings, **data)
    return describer, again


def sample(place):
    """Return the first record of every kind and method."""
    records, faults = read_records([place])
    assert not faults
    return list({(record.kind, record.method.name): record for record in records.values()}.values())


@pytest.mark.parametrize("place", [*COMMITTED, *OLD], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_is_published_can_be_rebuilt(place):
    for record in sample(place):
        describer, again = rebuilt(record)
        found = changes(record, describer, again)
        assert found.keys() == (SCORED_ANEW if record.task.name == "instruct" else set())
        assert (describer.id(again) == record.id) == (not found)


def toy_records(*arguments):
    toy = ["--backbone", "toy", "--task", "toy", "--device", "cpu", "--epochs", "1", "--seeds", "1", *arguments]
    assert run(toy) == 0
    return list(read_records(["results"])[0].values())


def test_trials_and_runs_have_their_ids_again(toys):
    records = toy_records("--trials", "2", "--method", "linear", "lora", "--set", "task.examples=36")
    assert sum(isinstance(record, Trial) for record in records) == 4
    for record in records:
        describer, again = rebuilt(record)
        assert describer.id(again) == record.id
        assert again.kind is type(record)


CHANGED = {
    "seed": lambda r: {"seed": 7},
    "version": lambda r: {"version": 9},
    "backbone.checksum": lambda r: {"backbone": dataclasses.replace(r.backbone, checksum="ab" * 32)},
    "protocol.sampler": lambda r: {"protocol": {**r.protocol, "sampler": "dice"}},
    "protocol.selection": lambda r: {"protocol": {**r.protocol, "selection": "last epoch"}},
    "protocol.news": lambda r: {"protocol": {**r.protocol, "news": 1}},
    "task.checksum": lambda r: {"task": dataclasses.replace(r.task, checksum="other data")},
}
FOLLOWS = {"seed"}
"""What is rebuilt from the record, so that it is never another."""


@pytest.mark.parametrize("name", CHANGED)
def test_what_cannot_be_had_here_is_named(toys, name):
    (record,) = toy_records("--method", "linear")
    other = dataclasses.replace(record, **CHANGED[name](record))
    describer, again = rebuilt(other, checksum=record.task.checksum)
    assert changes(other, describer, again).keys() == ({name} - FOLLOWS)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"backbone": {"name": "none"}}, "unknown backbone 'none'"),
        ({"task": {"name": "none"}}, "unknown task 'none'"),
        ({"method": {"name": "none"}}, "unknown method 'none'"),
        ({"backbone": {"settings": {"depth": 3}}}, "settings of toy that it does not take here (no setting 'depth')"),
        ({"task": {"settings": {"examples": "x"}}}, "settings of toy that it does not take here (examples: 'x'"),
        ({"method": {"settings": {"rank": 8}}}, "settings of linear that it does not take here (no setting 'rank')"),
        ({"method": {"space": {"learning_rate": {"any": 1}}}}, "method.space.learning_rate is no dimension"),
        ({"protocol": {"epochs": -1}}, "settings of protocol that it does not take here (epochs must be"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused(toys, change, error):
    (record,) = toy_records("--method", "linear")
    changed = {
        part: {**getattr(record, part), **values}
        if part == "protocol"
        else dataclasses.replace(getattr(record, part), **values)
        for part, values in change.items()
    }
    with pytest.raises(UserError) as caught:
        rebuild(dataclasses.replace(record, **changed), Places())
    assert error in str(caught.value)


def test_a_failure_has_nothing_to_reproduce(toys):
    (record,) = toy_records("--method", "linear")
    shared = {
        field.name: getattr(record, field.name) for field in dataclasses.fields(Failure) if field.name in vars(record)
    }
    with pytest.raises(UserError, match="record of a failure"):
        rebuild(Failure(**shared, of="run", reason="x", details=""), Places())


def test_weights_are_found_by_their_name_or_where_they_are_said_to_be(toys):
    (record,) = toy_records("--method", "linear", "--checkpoint", "another")
    assert rebuild(record, Places())[0].backbone.plugin.checkpoint == "another"
    assert rebuild(record, Places({"checkpoint": "another"}))[0].backbone.plugin.checkpoint == "another"
    with pytest.raises(UserError, match=r"the weights another \(random\) of toy are not at hand \(found third\)"):
        rebuild(record, Places({"checkpoint": "third"}))
    with pytest.raises(UserError, match=r"toy\.examples names no weights"):
        rebuild(record, Places({"examples": "third"}))


def test_every_setting_of_a_protocol_comes_back(toys):
    given = {
        "epochs": 2,
        "optimizer": "SGD",
        "momentum": 0.5,
        "warmup_epochs": 1.0,
        "schedule": "linear",
        "max_steps": 3,
    }
    assignments = [f"protocol.{name}={value}" for name, value in given.items() if name not in ("epochs", "max_steps")]
    flags = [part for each in assignments for part in ("--set", each)]
    (record,) = toy_records("--method", "linear", "--epochs", "2", "--steps", "3", *flags)
    protocol = rebuild(record, Places())[0].protocol
    assert protocol.of_run() == record.protocol
    assert {name: getattr(protocol, name) for name in given} == given
    assert isinstance(protocol, TrainingProtocol)
    assert ToyTask().examples == 48


@pytest.mark.parametrize("dimension", [Range(0.1, 1.0), Range(0.0, 0.5, log=False), Choice((1, "a", None))])
def test_every_dimension_of_a_search_comes_back(dimension):
    recorded = json.loads(json.dumps(as_record({"x": dimension})))
    assert _dimension("x", recorded["x"]) == dimension
