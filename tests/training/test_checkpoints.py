"""A training that is ended at any moment goes on from its last checkpoint, to the numbers of an undisturbed one."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from support.exact_training import METHODS
from support.fitting import fit_of
from support.forks import fork, fork_together, statuses
from support.malicious import Malicious
from support.sweeps import TOY, outcomes
from support.toys import registered
from zipeft.api.protocol import TrainingProtocol
from zipeft.commands.run import main
from zipeft.results import Store
from zipeft.training import checkpoints
from zipeft.training.checkpoints import Checkpoints, Saved
from zipeft.training.execution import Execution
from zipeft.training.loop import Trainer

PROTOCOL = TrainingProtocol(epochs=3, batch_size=8)


class Killed(BaseException):
    pass


@pytest.fixture
def always(monkeypatch):
    """Let every step, and every epoch, leave a checkpoint."""
    for name in ("AT_EPOCHS", "WITHIN_EPOCHS"):
        monkeypatch.setattr(checkpoints, name, 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    monkeypatch.setattr(checkpoints, "ASKED_EVERY", 1)


def train(case, path=None, kill_after=None, protocol=PROTOCOL, head=None, execution=None):
    """Train a toy; return what there is to compare. It is killed after so many steps of this process, if so asked."""
    fit = fit_of(*case[:2])
    set_seed(0)
    for module in fit.learner.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1  # random numbers that must be drawn as they would have been
    trainer = Trainer(fit.objective, protocol, Accelerator(cpu=True), execution or Execution())
    kept = Checkpoints(trainer.accelerator, path, head or {"run": "a"}, lambda: 5) if path else None
    steps = []

    def on_step(total):
        steps.append(total)
        if len(steps) == kill_after:
            raise Killed

    log = trainer.fit(fit.learner, fit.method, fit.train, fit.validation, 0, on_step, kept)
    trainer.accelerator.free_memory()
    untimed = dataclasses.asdict(log) | dict.fromkeys(("training", "evaluation", "execution", "earlier_peak_bytes"))
    return untimed, {name: p.detach().clone() for name, p in fit.learner.trainable().items()}, torch.rand(3), log


def assert_equal(found, expected):
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(parameter, expected[1][name]) for name, parameter in found[1].items())
    assert torch.equal(found[2], expected[2])


EVERY = [
    pytest.param(case, id="-".join(case[:2]), marks=() if i % 9 == 0 else pytest.mark.slow)
    for i, case in enumerate(METHODS)
]


@pytest.mark.parametrize("case", EVERY)
def test_a_training_killed_again_and_again_ends_as_an_undisturbed_one_bit_for_bit(case, always, tmp_path):
    expected, path = train(case), tmp_path / "a.checkpoint"
    for kill_after in (2, 4, 8):  # in the first epoch, and, with the steps before, in the second and third
        with pytest.raises(Killed):
            train(case, path, kill_after)
    found = train(case, path)
    assert_equal(found, expected)
    assert found[-1].execution == {"resumed": 3}
    assert found[-1].earlier_peak_bytes == 5


@pytest.mark.parametrize(
    "protocol",
    [
        TrainingProtocol(epochs=3, batch_size=8, optimizer="SGD", schedule="linear"),
        TrainingProtocol(epochs=3, batch_size=8, max_steps=7),
        TrainingProtocol(epochs=3, batch_size=5),
    ],
    ids=["SGD", "steps", "odd"],
)
def test_so_it_does_under_other_protocols_after_any_step(protocol, always, tmp_path):
    case = ("toy_text", "zero_gated")
    expected = train(case, protocol=protocol)
    for step in range(1, expected[0]["steps"], 2):
        path = tmp_path / f"{step}.checkpoint"
        with pytest.raises(Killed):
            train(case, path, step, protocol)
        assert_equal(train(case, path, protocol=protocol), expected)


def test_the_size_of_micro_batches_that_memory_allowed_is_gone_on_with(always, tmp_path):
    path = tmp_path / "a.checkpoint"
    with pytest.raises(Killed):
        train(("toy", "linear"), path, 2, execution=Execution(micro_batch=3))
    assert train(("toy", "linear"), path, execution=Execution(micro_batch="auto"))[-1].execution["micro_batch"] == 3


def truncate(content):
    return content[: len(content) // 2]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(content):
    return b""


def execute(content):
    buffer = io.BytesIO()
    torch.save({"head": Malicious(Path("executed"))}, buffer)
    return buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest()


@pytest.mark.parametrize("spoil", [truncate, flip, empty, execute])
def test_a_damaged_checkpoint_is_left_out_of_account_with_a_warning(spoil, always, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case, path = ("toy", "linear"), tmp_path / "a.checkpoint"
    with pytest.raises(Killed):
        train(case, path, 4)
    path.write_bytes(spoil(path.read_bytes()))
    before = set(tmp_path.iterdir())
    found = train(case, path)
    assert_equal(found, train(case))
    assert found[-1].execution == {}
    assert f"{path} is left out of account" in caplog.text
    assert set(tmp_path.iterdir()) == before, "nothing in it was executed"


def test_what_a_killed_writer_left_is_cleared(always, tmp_path, monkeypatch):
    case, path = ("toy", "linear"), tmp_path / "a.checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", kill)
        patch.setattr("zipeft.files.Path.unlink", lambda *_, **__: None)  # killed, a process cleans nothing up
        with pytest.raises(Killed):
            train(case, path)
    assert any(tmp_path.iterdir())
    assert_equal(train(case, path), train(case))
    assert [each for each in tmp_path.iterdir() if each != path] == []


def test_a_checkpoint_of_another_version_is_left_out_of_account_with_a_warning(always, tmp_path, caplog):
    case, path = ("toy", "linear"), tmp_path / "a.checkpoint"
    with pytest.raises(Killed):
        train(case, path, 4, head={"versions": {"torch": "1"}})
    assert train(case, path, head={"versions": {"torch": "2"}})[-1].execution == {}
    assert "of another version" in caplog.text


def test_a_short_training_leaves_no_checkpoint_and_one_that_cannot_be_written_stops_nothing(
    tmp_path, monkeypatch, caplog
):
    case, path = ("toy", "linear"), tmp_path / "a.checkpoint"
    train(case, path)
    assert not path.exists()
    monkeypatch.setattr(checkpoints, "AT_EPOCHS", 0.0)
    path.mkdir()
    assert_equal(train(case, path), train(case))
    assert "no checkpoint is kept" in caplog.text


def test_checkpoints_take_a_small_part_of_the_time(monkeypatch, tmp_path):
    clock = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    kept = Checkpoints(Accelerator(cpu=True), tmp_path / "a", {}, lambda: 0)
    monkeypatch.setattr(checkpoints, "_write", lambda whole, file: clock.__setitem__(0, clock[0] + 100))
    dates = []
    while clock[0] < 10_000:
        clock[0] += 1
        if kept.due(epoch_ended=False, step=1):
            dates.append(clock[0])
            kept.write(Saved({}, {}))
    assert dates[0] == checkpoints.WITHIN_EPOCHS
    assert 100 * len(dates) < 1.2 * checkpoints.SHARE * 10_000


RUN = [*TOY, "--method", "lora", "--seeds", "1", "--trials", "0"]


def test_a_sweep_that_was_killed_goes_on_within_its_run_and_leaves_no_checkpoint(always, tmp_path, monkeypatch):
    command = [*RUN, "--epochs", "3"]
    with registered():
        assert main([*command, "--results", str(tmp_path / "whole")]) == 0
        folder = tmp_path / "killed"
        with monkeypatch.context() as patch:
            patch.setattr("zipeft.training.loop.Trainer._validate", kill)
            with pytest.raises(Killed):
                main([*command, "--results", str(folder)])
        (kept,) = folder.rglob("*.checkpoint")
        assert main([*command, "--results", str(folder)]) == 0
    assert outcomes(folder) == outcomes(tmp_path / "whole")
    assert not kept.exists()
    (record,) = folder.rglob("lora-*.json")
    assert '"execution": {"resumed": 1}' in record.read_text()


def kill(*_):
    raise Killed


def test_redo_begins_anew(always, tmp_path, monkeypatch):
    with registered():
        with monkeypatch.context() as patch:
            patch.setattr("zipeft.training.loop.Trainer._validate", kill)
            with pytest.raises(Killed):
                main([*RUN, "--results", str(tmp_path)])
        assert main([*RUN, "--results", str(tmp_path), "--redo"]) == 0
    (record,) = tmp_path.rglob("lora-*.json")
    assert '"execution": {}' in record.read_text()


def test_the_checkpoint_of_what_is_on_record_is_deleted_and_that_of_other_runs_is_not(tmp_path):
    store = Store(tmp_path)
    for name in ("done", "open"):
        store.checkpoint(name).parent.mkdir(exist_ok=True)
        store.checkpoint(name).write_bytes(b"")
    store.forget_checkpoints({"done"})
    assert [path.stem for path in tmp_path.rglob("*.checkpoint")] == ["open"]


def command(folder, *arguments):
    torch.set_num_threads(1)
    return main([*RUN, "--results", str(folder), *arguments])


def wait_for_checkpoint(folder, processes, seconds=60):
    """Wait until a new checkpoint is there; return whether there is one."""
    seen = {path: path.stat().st_mtime_ns for path in folder.rglob("*.checkpoint")}
    until = time.monotonic() + seconds
    while time.monotonic() < until and all(process.is_alive() for process in processes):
        for path in folder.rglob("*.checkpoint"):
            try:
                if path.stat().st_mtime_ns != seen.get(path):
                    return True
            except FileNotFoundError:
                continue
        time.sleep(0.001)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 20), (2, 5)])
def test_a_run_that_is_killed_twenty_times_has_the_record_of_an_undisturbed_one(processes, kills, always, tmp_path):
    stream, epochs = random.Random(0), ("--epochs", "60")
    whole, folder = tmp_path / "whole", tmp_path / "killed"

    def start(where):
        action = partial(command, where, *epochs)
        if processes == 1:
            return [fork(action, tmp_path / "said")]
        return fork_together(action, processes, tmp_path / "said")

    with registered():
        assert statuses(start(whole)) == [0] * processes, (tmp_path / "said").read_text()
        for _ in range(kills):
            running = start(folder)
            assert wait_for_checkpoint(folder, running), (tmp_path / "said").read_text()
            time.sleep(stream.uniform(0, 0.05))  # some of them while a checkpoint is written
            assert all(process.is_alive() for process in running)
            for process in running:
                process.kill()
            statuses(running)
            assert not list(folder.rglob("*.json"))
        assert statuses(start(folder)) == [0] * processes, (tmp_path / "said").read_text()
    assert outcomes(folder) == outcomes(whole)
    assert not [path for path in (folder / ".claims").iterdir() if path.suffix != ".lock"]
    (record,) = folder.rglob("lora-*.json")
    assert f'"execution": {{"resumed": {kills}}}' in record.read_text()
