"""Training with several processes: the numbers are those of one, to rounding, and all processes see the same."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import SequentialSampler

from support import TESTS
from support.forks import fork_together, statuses
from support.method_cases import methods_for
from support.parallel_training import leave, observe
from zipeft.training import parallel
from zipeft.training.parallel import Shard, ShardedBatches

SCRIPT = TESTS / "support/parallel_training.py"
FAST = ["linear", "zero_gated"]
METHODS = methods_for("image")


def launch(folder: Path, processes: int, names: list[str]) -> list[dict]:
    """Train in several processes that torchrun starts, and that talk by gloo over a free port; return what each saw."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    ended = subprocess.run([*torchrun, SCRIPT, folder, *names], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return left(folder, processes)


def left(folder: Path, processes: int) -> list[dict]:
    return [torch.load(folder / f"{process}.pt") for process in range(processes)]


@pytest.fixture(scope="module")
def alone():
    return observe(FAST)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    processes = fork_together(partial(leave, folder, FAST), 2, folder / "said")
    assert statuses(processes) == [0, 0], (folder / "said").read_text()
    return left(folder, 2)


def assert_same_training(trained: dict, expected: dict) -> None:
    assert trained["losses"] == pytest.approx(expected["losses"], abs=1e-6)
    for key in ("validation", "counts", "after"):
        assert trained[key] == expected[key]
    for name, parameter in trained["parameters"].items():
        torch.testing.assert_close(*map(without_key_bias, (name, name), (parameter, expected["parameters"][name])))


def without_key_bias(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """A key's bias adds the same to all scores of a query: its gradient is rounding noise, which Adam scales up."""
    return parameter.unflatten(0, (3, -1))[[0, 2]] if name.endswith("qkv.bias") else parameter


@pytest.mark.parametrize("name", FAST)
def test_two_processes_train_to_the_numbers_of_one(name, alone, together):
    for process in together:
        assert_same_training(process["trained"][name], alone["trained"][name])


def test_so_they_do_in_micro_batches(alone, together):
    for process in together:
        assert_same_training(process["in parts"], alone["in parts"])
        assert_same_training(process["in parts"], alone["trained"]["zero_gated"])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_every_method_trains_to_the_numbers_of_one_process(processes, tmp_path):
    expected = observe(METHODS)["trained"]
    for process in launch(tmp_path, processes, METHODS):
        for name in METHODS:
            assert_same_training(process["trained"][name], expected[name])


def test_processes_end_with_the_same_parameters_to_the_last_bit(together):
    one, other = (process["trained"] for process in together)
    for name in FAST:
        assert one[name]["losses"] == other[name]["losses"]
        for key, parameter in one[name]["parameters"].items():
            assert torch.equal(parameter, other[name]["parameters"][key])


def test_parameters_that_nothing_reads_are_left_alone_as_with_one_process(alone, together):
    for process in together:
        assert_same_training(process["unused"], alone["unused"])
        for name in ("model.pooler.weight", "model.pooler.bias"):
            assert torch.equal(process["unused"]["parameters"][name], alone["unused"]["parameters"][name])


def test_every_process_refuses_a_loss_that_is_not_finite_on_one(alone, together):
    expected = "the training loss is nan in epoch 1; lower the learning rate"
    assert [outcome["not finite"] for outcome in (alone, *together)] == [expected] * 3


def test_processes_draw_different_numbers_as_for_dropout_and_the_main_one_those_of_one_process(alone, together):
    drawn = [outcome["trained"]["linear"]["drawn"] for outcome in (alone, *together)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_processes_agree_with_the_main_one(alone, together):
    for outcome in (alone, *together):
        assert outcome["agreed"] == {"process": 0}


def test_what_the_processes_have_is_merged_in_order(alone, together):
    for outcome in (alone, *together):
        assert outcome["merged"] == [*"abcde"]


@given(size=st.integers(1, 40), processes=st.integers(1, 6))
def test_the_mean_of_the_weighted_means_of_shares_is_the_mean_of_all(size, processes):
    losses = torch.arange(size, dtype=torch.float64) ** 2
    shares = [Shard(process, processes) for process in range(processes)]
    means = [share.of(losses).mean() * share.weight(size) if share.weight(size) else 0 for share in shares]
    assert sum(means) / processes == pytest.approx(losses.mean().item())


@given(examples=st.integers(1, 40), batch=st.integers(1, 9), processes=st.integers(1, 4))
def test_each_example_is_trained_on_by_one_process_with_weight(examples, batch, processes):
    shares = [
        ShardedBatches(SequentialSampler(range(examples)), batch, Shard(process, processes))
        for process in range(processes)
    ]
    taken = []
    for share in shares:
        assert len(share) == len(share.weights()) == len(shares[0])
        assert all(list(share))
        taken += [
            index for part, weight in zip(share, share.weights(), strict=True) if weight for index in part.indices
        ]
    assert sorted(taken) == list(range(examples))


def test_processes_of_a_launcher_are_grouped_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(parallel, "Accelerator", lambda cpu, **settings: (cpu, settings))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert parallel.new_accelerator(mixed_precision="no") == (False, {"mixed_precision": "no"})
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert parallel.new_accelerator()[0]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert not parallel.new_accelerator()[0]
    assert parallel.new_accelerator(cpu=True)[0]
