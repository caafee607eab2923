"""What a method does beside the steps of a training: seen by it alone, gone on with, and the same on all processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from accelerate import Accelerator

from support.exact_training import after_five_steps, assert_same
from support.fitting import fit_of
from support.forks import fork_together, statuses
from zipeft import TrainingCallback
from zipeft.api.protocol import TrainingProtocol
from zipeft.errors import UserError
from zipeft.methods.adalora import RankAllocation
from zipeft.methods.lora import LoRA
from zipeft.training import checkpoints, loop, parallel
from zipeft.training.checkpoints import Checkpoints
from zipeft.training.execution import Execution
from zipeft.training.loop import Trainer


class Counting(TrainingCallback):
    """Pulls all that trains towards 1, and remembers what it saw."""

    def __init__(self, model, steps):
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.total, self.steps, self.penalties, self.gradients = steps, [], 0, []

    def penalty(self):
        self.penalties += 1
        return sum((p - 1).square().sum() for p in self.parameters)

    def step_taken(self, step):
        self.steps.append(step)
        self.gradients.append(max(p.grad.abs().max().item() for p in self.parameters))

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


@dataclass(frozen=True)
class ThirdParty(LoRA):
    """LoRA that is pulled."""

    def callback(self, model, steps):
        made.append(Counting(model, steps))
        return made[-1]


made: list[Counting] = []


def trained(method, kill_after=None, path=None, micro_batch=0):
    made.clear()
    fit = fit_of("toy_text", method) if isinstance(method, str) else fit_of("toy_text", "lora")
    plugin = fit.method if isinstance(method, str) else method
    trainer = Trainer(
        fit.objective, TrainingProtocol(epochs=2, batch_size=8), Accelerator(cpu=True), Execution(micro_batch)
    )
    kept = Checkpoints(trainer.accelerator, path, {"run": "a"}, lambda: 0) if path else None
    taken = []

    def on_step(total):
        taken.append(total)
        if len(taken) == kill_after:
            raise KeyboardInterrupt

    trainer.fit(fit.learner, plugin, fit.train, fit.validation, 0, on_step, kept)
    trainer.accelerator.free_memory()
    return {name: p.detach().clone() for name, p in fit.learner.trainable().items()}


@pytest.fixture
def always(monkeypatch):
    for name in ("AT_EPOCHS", "WITHIN_EPOCHS"):
        monkeypatch.setattr(checkpoints, name, 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))


def test_a_third_party_s_callback_sees_each_step_once_with_gradients_of_the_whole_batch():
    whole = trained(ThirdParty())
    (seen,) = made
    assert seen.steps == list(range(1, seen.total + 1)) == list(range(1, 7))
    assert seen.penalties == 6
    assert min(seen.gradients) > 0
    in_parts = trained(ThirdParty(), micro_batch=3)
    assert made[0].penalties == 6  # once a batch, however it is divided
    for name, parameter in in_parts.items():
        torch.testing.assert_close(parameter, whole[name], rtol=0, atol=1e-4)
    plain = trained(LoRA())
    assert any((whole[name] - parameter).abs().max() > 1e-3 for name, parameter in plain.items())


def test_its_state_is_gone_on_with_after_a_kill(always, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(ThirdParty(), kill_after=4, path=tmp_path / "a.checkpoint")
    trained(ThirdParty(), path=tmp_path / "a.checkpoint")
    assert made[-1].steps == list(range(1, 7))


@pytest.mark.slow
@pytest.mark.parametrize("kill_after", [1, 3, 4, 5])
def test_adalora_killed_once_ends_as_an_undisturbed_one_bit_for_bit(kill_after, always, tmp_path, monkeypatch):
    averages = []

    def step_taken(self, step, own=RankAllocation.step_taken):
        own(self, step)
        if step == 4:  # the last of which it keeps averages
            averages.append({name: each.clone() for name, each in self.state_dict()["sensitivity"].items()})

    monkeypatch.setattr(RankAllocation, "step_taken", step_taken)
    expected = trained("adalora")
    with pytest.raises(KeyboardInterrupt):
        trained("adalora", kill_after, tmp_path / "a.checkpoint")
    found = trained("adalora", path=tmp_path / "a.checkpoint")
    assert all(torch.equal(found[name], parameter) for name, parameter in expected.items())
    assert averages[0].keys() == averages[-1].keys()
    assert all(torch.equal(averages[-1][name], average) for name, average in averages[0].items())
    assert len(averages) > 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_adalora_in_micro_batches_ends_as_in_whole_batches(size):
    case = ("toy_text", "adalora", "regression")
    assert_same(after_five_steps(*case, Execution(micro_batch=size)), after_five_steps(*case))


def _train_and_save(folder):
    torch.set_num_threads(1)
    accelerator = parallel.new_accelerator(cpu=True)
    after = after_five_steps("toy_text", "adalora", "regression")
    torch.save(after, folder / f"{accelerator.process_index}.pt")
    return 0


@pytest.mark.slow
def test_adalora_in_two_processes_has_the_same_ranks_on_both_and_those_of_one(tmp_path):
    processes = fork_together(partial(_train_and_save, tmp_path), 2, tmp_path / "said")
    assert statuses(processes) == [0, 0], (tmp_path / "said").read_text()
    one, other = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    assert all(torch.equal(parameter, other[name]) for name, parameter in one.items())
    assert_same(one, after_five_steps("toy_text", "adalora", "regression"))
    assert any((parameter == 0).any() for name, parameter in one.items() if ".lora_E." in name)


def test_a_sharded_learner_is_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(loop, "is_sharded", lambda learner: True)
    fit = fit_of("toy_text", "lora")
    with pytest.raises(UserError, match="ThirdParty looks at whole parameters after each step: leave --sharding out"):
        loop._callback(fit.learner, ThirdParty(), 3)
    assert type(loop._callback(fit.learner, LoRA(), 3)) is TrainingCallback
