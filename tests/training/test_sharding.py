"""Sharding: two processes that hold a half each train to the numbers of one, leave what it leaves, and hold a half."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed.fsdp  # here, that the processes need not import it
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from support.exact_training import METHODS, after_five_steps, assert_same, prepared
from support.forks import fork_together, statuses
from support.method_cases import methods_for
from support.sweeps import outcomes
from support.toys import TOYS, ToyTask, ToyViT, registered
from zipeft.adapters.saved import load_adapter
from zipeft.api.learner import Learner
from zipeft.commands.run import main
from zipeft.errors import UserError
from zipeft.results import Store
from zipeft.training import checkpoints
from zipeft.training.batches import ordered_batches, shuffled_batches
from zipeft.training.dataset import encode
from zipeft.training.execution import Execution
from zipeft.training.frozen_model import storages
from zipeft.training.loop import Trainer
from zipeft.training.micro_batches import MicroBatches
from zipeft.training.parallel import Shard
from zipeft.training.sharding import local, shard

FEW = [("toy", "zero_gated", "classification"), ("toy_image_text", "full", "matching")]  # the second has a scalar
EXECUTIONS = {
    "whole": Execution(sharding=True),
    "parts": Execution(3, checkpoint_activations=True, sharding=True),
}


def leave_parameters(folder: Path, cases: list) -> None:
    torch.set_num_threads(1)
    for case in cases:
        for name, execution in EXECUTIONS.items():
            if parameters := after_five_steps(*case, execution):
                torch.save(parameters, folder / f"{'-'.join(case)}-{name}.pt")


def leave_bytes(folder: Path) -> None:
    """Leave how many bytes the parameters of a model, its gradients and its optimiser's state have in this process."""
    learner, _, _ = prepared("toy", "full", "classification")
    accelerator = Accelerator(cpu=True)
    whole = sum(storages(learner).values())
    shard(learner, accelerator)
    held = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in map(local, learner.parameters())}
    learner(torch.randn(2, 3, 16, 16).double()).square().mean().backward()
    gradients = [local(p.grad) for p in learner.parameters() if p.grad is not None]
    assert len(gradients) == len(learner.trainable())
    sizes = {"whole": whole, "held": sum(held.values()), "gradients": sum(each.nbytes for each in gradients)}
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(sizes))


def together(action, folder: Path) -> None:
    """Let two processes act together, and end well."""
    said = folder.with_name(f"{folder.name}.said")
    assert statuses(fork_together(action, 2, said), 600) == [0, 0], said.read_text()


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What two processes left of a few methods, and of the bytes that each held."""
    folder = tmp_path_factory.mktemp("two")

    def act():
        leave_parameters(folder, FEW)
        leave_bytes(folder)
        return run("toy", ["zero_gated"], folder / "shards", "--epochs", "1", "--sharding")

    with registered():
        together(act, folder)
    return folder


def assert_trained_alike(folder: Path, cases: list) -> None:
    for case in cases:
        expected = after_five_steps(*case)
        for name in EXECUTIONS:
            assert_same(torch.load(folder / f"{'-'.join(case)}-{name}.pt"), expected)


def test_five_steps_of_two_halves_give_the_parameters_of_one_process(left):
    assert_trained_alike(left, FEW)


@pytest.mark.slow
def test_so_they_do_with_every_method(tmp_path):
    together(partial(leave_parameters, tmp_path, METHODS), tmp_path)
    assert_trained_alike(tmp_path, METHODS)


def test_each_process_holds_half_of_the_parameters_and_of_the_gradients(left):
    for process in range(2):
        sizes = json.loads((left / f"{process}.json").read_text())
        assert sizes["held"] < 0.55 * sizes["whole"]
        assert sizes["gradients"] < 0.55 * sizes["whole"]


# Runs: records, adapters and checkpoints.


def run(toy: str, methods: list[str], folder: Path, *arguments: str) -> int:
    torch.set_num_threads(1)
    which = ["--backbone", toy, "--task", toy, "--device", "cpu", "--method", *methods, "--seeds", "1", "--trials", "0"]
    where = ["--results", str(folder / "results"), "--save-adapters", str(folder / "adapters")]
    return main([*which, *where, *arguments])


def assert_alike(found, expected) -> None:
    """Compare what is in JSON, numbers to rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_alike(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4)
    else:
        assert found == expected


def without_key_bias(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """A key's bias adds the same to all scores of a query: its gradient is rounding noise, which Adam scales up."""
    if name.endswith(("key.bias", "k_proj.bias", "key.shift", "k_proj.shift")):
        return parameter[:0]
    fused = name.endswith(("qkv.bias", "qkv.shift", "in_proj_bias", "in_proj.bias"))
    return parameter.unflatten(0, (3, -1))[[0, 2]] if fused else parameter


def assert_left_alike(found: Path, expected: Path) -> None:
    assert_alike(outcomes(found / "results"), outcomes(expected / "results"))
    names = [path.relative_to(expected) for path in sorted(expected.rglob("adapter.*"))]
    assert names
    for name in names:
        if name.suffix == ".json":
            assert json.loads((found / name).read_text()) == json.loads((expected / name).read_text())
            continue
        tensors = load_file(found / name)
        for key, tensor in load_file(expected / name).items():
            found_one, expected_one = (without_key_bias(key, each) for each in (tensors[key], tensor))
            torch.testing.assert_close(found_one, expected_one, rtol=1e-3, atol=1e-4, msg=f"{name}: {key}")


def test_a_sharded_run_leaves_the_record_and_the_whole_adapter_of_one_process(left, tmp_path):
    with registered():
        assert run("toy", ["zero_gated"], tmp_path, "--epochs", "1") == 0
        assert_left_alike(left / "shards", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("toy", "methods"), [(toy, methods_for(made.modality)) for toy, (made, _) in TOYS.items()])
def test_so_does_one_of_every_method(toy, methods, tmp_path, monkeypatch):
    monkeypatch.setattr(Learner, "train", lambda learner, mode=True: learner)  # processes draw masks of their own
    shards, one = tmp_path / "shards", tmp_path / "one"
    with registered():
        together(partial(run, toy, methods, shards, "--sharding"), shards)
        assert run(toy, methods, one) == 0
        assert_left_alike(shards, one)
        (record, *_) = shards.rglob("results/**/*.json")
        assert json.loads(record.read_text())["environment"]["execution"] == {"sharding": True}
        for adapter in sorted(shards.rglob("adapter.json")):
            load_adapter(adapter.parent)


class Killed(BaseException):
    pass


def kill(*_) -> None:
    raise Killed


def go(folder: Path, killed: bool) -> int:
    """Train, sharded, with a checkpoint at every step; be killed before the end of the first epoch, if so asked."""
    for name in ("AT_EPOCHS", "WITHIN_EPOCHS"):
        setattr(checkpoints, name, 0.0)
    checkpoints.SHARE, checkpoints.ASKED_EVERY = float("inf"), 1
    if not killed:
        return run("toy", ["lora"], folder, "--sharding", "--epochs", "2")
    Trainer._validate = kill  # of this process alone
    with pytest.raises(Killed):
        run("toy", ["lora"], folder, "--sharding", "--epochs", "2")
    return 0


@pytest.mark.slow
def test_a_sharded_run_that_was_killed_goes_on_to_the_numbers_of_an_undisturbed_one(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    with registered():
        together(partial(go, whole, False), whole)
        together(partial(go, folder, True), folder)
        (kept,) = folder.rglob("*.shards")
        assert sorted(path.name for path in kept.iterdir()) == ["0", "1"]
        assert [len(list(path.iterdir())) for path in kept.iterdir()] == [1, 1]
        together(partial(go, folder, False), folder)
    assert outcomes(folder / "results") == outcomes(whole / "results")
    (record,) = folder.rglob("results/**/*.json")
    assert json.loads(record.read_text())["environment"]["execution"] == {"sharding": True, "resumed": 1}
    assert not list(folder.rglob("*.shards")) + list(folder.rglob("*.checkpoint"))


def test_the_shards_of_what_is_on_record_are_deleted(tmp_path):
    store = Store(tmp_path)
    folder = store.checkpoint("done").with_suffix(".shards") / "0"
    folder.mkdir(parents=True)
    (folder / "stamp").write_bytes(b"")
    store.forget_checkpoints({"done"})
    assert not folder.parent.exists()


# What every process has to take part in, and what cannot be sharded.


@given(windows=st.integers(1, 20), batch=st.integers(1, 7), micro=st.integers(1, 4), processes=st.integers(1, 4))
def test_every_process_takes_as_many_forward_passes(windows, batch, micro, processes):
    data, micro_batches = ToyTask(examples=windows), MicroBatches(micro)
    encoded = encode(data.load("colours").train, data.windows(ToyViT()), ToyViT())
    for batches in (partial(ordered_batches, encoded, batch), partial(shuffled_batches, encoded, batch, 0)):
        shares = [list(batches(Shard(each, processes), micro_batches)) for each in range(processes)]
        passes = [[len(parts) for parts in share] for share in shares]
        assert passes == [passes[0]] * processes
        assert all(part.content["inputs"].numel() for share in shares for parts in share for part in parts)


class Replacing(nn.Linear):
    """Has new parameters whenever it is looked at."""

    def named_modules(self, *args, **options):
        self.weight = nn.Parameter(self.weight.detach())
        return super().named_modules(*args, **options)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm1d(32), r"model\.norm keeps statistics of batches"),
        (Replacing(32, 32), r"model\.norm\.weight replaces its own weights"),
    ],
    ids=["statistics", "replaced"],
)
def test_layers_that_cannot_be_sharded_are_named(layer, reason):
    model = ToyViT().build()
    model.norm = layer
    with pytest.raises(UserError, match=reason):
        shard(Learner(ToyViT(), model, nn.Linear(32, 3)), Accelerator(cpu=True))


@pytest.mark.parametrize(
    ("processes", "precision", "backbone", "reason"),
    [
        (1, "no", ToyViT(), "--sharding divides a model over processes: torchrun"),
        (2, "fp16", ToyViT(), "take --precision bf16"),
        (2, "no", ToyViT(dtype="nf4"), "--sharding does not go with nf4 weights: take dtype=bf16"),
    ],
)
def test_a_run_that_cannot_be_sharded_is_refused_in_a_line(processes, precision, backbone, reason):
    with pytest.raises(UserError, match=reason):
        Execution(sharding=True).check(processes, precision, [backbone])


def test_one_process_is_told_how_to_shard(capsys, tmp_path):
    with registered():
        assert run("toy", ["linear"], tmp_path, "--sharding") == 2
    assert "torchrun" in capsys.readouterr().err
