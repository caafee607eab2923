"""Micro-batches: the gradients are those of the whole batch, and smaller ones take over where memory runs out."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import pytest
import torch

from support import experiments
from support.exact_training import METHODS, OBJECTIVES, after_five_steps, assert_same
from support.method_cases import covered
from support.sweeps import outcomes
from support.toys import ToyTask, ToyViT, registered
from zipeft import registry
from zipeft.commands.run import main
from zipeft.experiments.comparison import Contender, Run
from zipeft.training.batches import shuffled_batches
from zipeft.training.dataset import encode
from zipeft.training.execution import Execution
from zipeft.training.micro_batches import MicroBatches, is_out_of_memory

SIZES = (1, 3, 8)
OF_OBJECTIVES = [(toy, "zero_gated", objective) for objective, (toy, *_) in OBJECTIVES.items()]


@cache
def whole(case: tuple[str, str, str]) -> dict[str, torch.Tensor]:
    return after_five_steps(*case)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", OF_OBJECTIVES, ids="-".join)
def test_micro_batches_give_the_parameters_of_the_whole_batch_for_every_objective(case, size):
    assert_same(after_five_steps(*case, Execution(micro_batch=size)), whole(case))


@pytest.mark.parametrize("size", [3, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 8))])
@pytest.mark.parametrize(("toy", "method", "objective"), covered(METHODS))
def test_micro_batches_give_the_parameters_of_the_whole_batch_with_every_method(toy, method, objective, size):
    case = toy, method, objective
    assert_same(after_five_steps(*case, Execution(micro_batch=size)), whole(case))


def data():
    task = ToyTask()
    return encode(task.load("colours").train, task.windows(ToyViT()), ToyViT())


def test_a_loader_hands_out_each_batch_in_parts_that_are_collated_by_themselves():
    whole_batches = [batch for (batch,) in shuffled_batches(data(), 7, 0)]
    in_parts = shuffled_batches(data(), 7, 0, micro_batches=MicroBatches(3))
    for expected, parts in zip(whole_batches, in_parts, strict=True):
        assert [len(part.indices) for part in parts] == [
            len(chunk) for chunk in torch.tensor(expected.indices).split(3)
        ]
        assert torch.equal(torch.cat([part.content["inputs"] for part in parts]), expected.content["inputs"])


ON_CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: "
OUT_OF_MEMORY = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": RuntimeError(f"{ON_CPU}can't allocate memory: you tried to allocate 8 bytes"),
    "windows": RuntimeError(f"{ON_CPU}not enough memory: you tried to allocate 8 bytes."),
    "python": MemoryError(),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_where_memory_runs_out_smaller_parts_take_over_and_stay(error, caplog):
    tried, drawn, train, micro_batches = [], [], data(), MicroBatches(automatic=True)

    def action(parts):
        sizes = [len(part.indices) for part in parts]
        tried.append(sizes)
        drawn.append(torch.rand(1).item())
        if max(sizes) > 2:
            raise error
        return [index for part in parts for index in part.indices]

    for batch in list(shuffled_batches(train, 7, 0, micro_batches=micro_batches))[:2]:  # read ahead in whole batches
        expected = batch[0].indices
        assert micro_batches.compute(train.batch, batch, action) == expected
    assert tried == [[7], [4, 3], [2, 2, 2, 1], [2, 2, 2, 1]]
    assert len(set(drawn[:3])) == 1, "a second try draws the numbers of the first"
    assert drawn[3] != drawn[2]
    assert caplog.text.count("out of memory") == 2


def test_other_errors_and_a_lack_of_memory_for_one_example_are_raised():
    train, micro_batches = data(), MicroBatches(automatic=True)
    (batch,) = list(shuffled_batches(train, 48, 0))

    def fail(error):
        raise error

    with pytest.raises(RuntimeError, match="shape"):
        micro_batches.compute(train.batch, batch, lambda parts: fail(RuntimeError("a shape is wrong")))
    assert micro_batches.size is None
    with pytest.raises(MemoryError):
        micro_batches.compute(train.batch, batch, lambda parts: fail(MemoryError()))
    assert micro_batches.size == 1
    assert not is_out_of_memory(ValueError("out of memory."))


class Scarce(ToyTask):
    """Memory runs out in a loss, and in predictions, of more than so many images, once it has drawn and computed."""

    most: ClassVar[int] = 3

    def loss(self, outputs, targets):
        torch.rand(1)
        loss = super().loss(outputs, targets)
        if len(outputs) > self.most:
            loss.backward()  # gradients that must not count
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    def predict(self, outputs):
        if len(outputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().predict(outputs)


def test_a_run_whose_memory_runs_out_ends_with_the_numbers_of_one_in_small_parts(monkeypatch):
    monkeypatch.setattr("zipeft.experiments.experiment.count_flops", lambda *given: (0, 0))
    run = Run("colours", Contender("zero_gated", registry.methods.get("zero_gated")()), 0)
    records = []
    for task, size in ((Scarce(), "auto"), (ToyTask(), 2)):
        experiment = experiments.experiment(task=task, epochs=2, batch_size=8)
        experiment.execution = Execution(micro_batch=size)
        records.append(experiment.measure(run)[0])
    automatic, given = records
    assert automatic.history == given.history
    assert automatic.test == given.test
    assert automatic.environment.execution == {"micro_batch": 2}


def test_a_sweep_in_micro_batches_has_the_ids_of_one_without_and_says_so(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command = ["--backbone", "toy", "--task", "toy", "--method", "linear", "--seeds", "1", "--device", "cpu"]
    with registered():
        assert main([*command, "--results", "whole"]) == 0
        assert main([*command, "--results", "parts", "--micro-batch", "3"]) == 0
    assert outcomes(tmp_path / "whole").keys() == outcomes(tmp_path / "parts").keys()
    (record,) = (tmp_path / "parts").rglob("linear-*.json")
    assert '"execution": {"micro_batch": 3}' in record.read_text()
