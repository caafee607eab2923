"""AdaLoRA: its losses and ranks are those of peft, and ranks end where they should."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from peft import get_peft_model
from torch import nn

from support.fitting import fit_of
from support.injected import DECODER, applied, frozen, trainable
from support.toys import ToyDecoder
from zipeft import registry
from zipeft.errors import UserError
from zipeft.modules.injected_layers import detach, merge

STEPS, RATE = 10, 1e-2
SETTINGS = {"rank": 2, "initial_rank": 4, "interval": 2, "warmup": 0.2, "final": 0.3}
TARGET_RANKS = 2 * 4  # two layers of a block's attention, two blocks
ADALORA = registry.methods.get("adalora")
IDS = torch.randint(3, 13, (4, 9), generator=torch.Generator().manual_seed(1))


def adalora(**settings):
    return ADALORA(**SETTINGS | settings)


def ranks(model):
    """How many numbers of the diagonals are not zero."""
    return sum(int((p != 0).sum()) for key, p in model.named_parameters() if ".lora_E." in key)


def learnt(model, loss_of, after_step):
    """The losses of some steps, and the ranks after each."""
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=RATE)
    losses, left = [], []
    for step in range(1, STEPS + 1):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after_step(step)
        losses.append(loss.item())
        left.append(ranks(model))
    return losses, left


def test_losses_and_ranks_are_those_of_peft_used_directly():
    method = adalora()
    ours = applied("adalora", **SETTINGS)
    callback = method.callback(ours, STEPS)
    found = learnt(ours, lambda: ours(IDS, labels=IDS).loss + callback.penalty(), callback.step_taken)
    model = DECODER.build().requires_grad_(False)
    torch.manual_seed(0)
    theirs = get_peft_model(model, method.config(STEPS, list(DECODER.lora_targets))).eval()
    expected = learnt(
        theirs,
        lambda: theirs.base_model(input_ids=IDS, labels=IDS).loss,  # of which the penalty is a part
        theirs.base_model.update_and_allocate,
    )
    assert found[1] == expected[1]
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(expected[0]), rtol=1e-6, atol=0)
    assert found[1][0] == 2 * TARGET_RANKS
    assert found[1][-4:] == [TARGET_RANKS] * 4


def test_the_penalty_is_the_mean_distance_from_orthogonal_matrices():
    model = applied("adalora", **SETTINGS)
    distances = []
    for key, factor in model.named_parameters():
        factor = factor.detach().double()
        if ".lora_A." in key:
            distances.append((factor @ factor.T - torch.eye(4)).square().sum().sqrt())
        if ".lora_B." in key:
            distances.append((factor.T @ factor - torch.eye(4)).square().sum().sqrt())
    assert len(distances) == 8
    penalty = adalora(orthogonality=0.3).callback(model, STEPS).penalty()
    assert penalty.item() == pytest.approx(0.3 * sum(distances).item() / 8, rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_trainings_of_a_few_steps_end_at_the_ranks_asked_for_if_one_can_tell(steps):
    model = applied("adalora", **SETTINGS)
    callback = adalora().callback(model, steps)
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=RATE)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
        callback.step_taken(step)
    assert ranks(model) == (TARGET_RANKS if steps > 1 else 2 * TARGET_RANKS)


def test_ranks_settle_also_if_the_step_in_which_they_should_was_skipped():
    model = applied("adalora", **SETTINGS | {"interval": 100})
    callback = adalora(interval=100).callback(model, STEPS)
    for step in [1, 2, 3, 4, 5, 6, 8, 9, 10]:
        model.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        with torch.no_grad():
            for parameter in trainable(model).values():
                parameter -= RATE * parameter.grad
        callback.step_taken(step)
    assert ranks(model) == TARGET_RANKS


def test_the_trainer_takes_it_to_its_ranks_and_records_losses_without_the_penalty():
    fit, other = (
        fit_of("toy_instruct", "adalora", **SETTINGS, orthogonality=weight, learning_rate=1e-3)
        for weight in (0.0, 1000.0)
    )
    logs = [each.on(Accelerator(cpu=True), epochs=2)[0] for each in (fit, other)]
    assert ranks(fit.learner.model) == TARGET_RANKS
    first, penalised = (log.history[0].losses[0] for log in logs)
    assert first == pytest.approx(penalised)  # of the first step, which the penalty does not change
    assert logs[0].history[1].train_loss != logs[1].history[1].train_loss


def test_merged_and_detached():
    model = applied("adalora", **SETTINGS)
    callback = adalora().callback(model, STEPS)
    learnt(model, lambda: model(IDS, labels=IDS).loss + callback.penalty(), callback.step_taken)
    with torch.no_grad():
        after = model(IDS).logits
        merge(model)
        torch.testing.assert_close(model(IDS).logits, after, rtol=0, atol=1e-4)
        assert (after - frozen().model(IDS).logits).abs().max() > 1e-3
        again = applied("adalora", **SETTINGS)
        detach(again)
        assert torch.equal(again(IDS).logits, frozen().model(IDS).logits)
    assert frozen().changed() == ""


def test_what_does_not_fit_is_refused_in_a_line():
    with pytest.raises(UserError, match="adalora: the model has no layers nowhere: name linear layers with --set adal"):
        applied("adalora", targets=("nowhere",))
    with pytest.raises(UserError, match="adalora does not adapt nf4 layers: take dtype=bf16, or lora"):
        ADALORA().apply(ToyDecoder(dtype="nf4"), nn.Module())


@pytest.mark.parametrize(
    "settings", [{"initial_rank": 8}, {"warmup": 0.8}, {"final": -0.1}, {"interval": 0}, {"orthogonality": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        ADALORA(**settings)
