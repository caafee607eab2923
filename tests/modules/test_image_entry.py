"""How an image enters a language model: what is added to prompts, and what stands in front of the text."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from support.model_zoo import llama, randomise, randomise_prompts
from zipeft.modules.image_entry import EarlyCondition, ImageCondition, ImageTokens, projection
from zipeft.splices import attach, gated_prompts

FEATURES, WIDTH = 6, 48
HAS_IMAGE = torch.tensor([[True], [False]])


def images():
    return torch.randn(2, FEATURES, generator=torch.Generator().manual_seed(0))


def test_a_projection_is_linear_or_goes_through_a_bottleneck():
    linear, deep = projection(FEATURES, WIDTH), projection(FEATURES, WIDTH, bottleneck=3)
    assert sum(p.numel() for p in linear.parameters()) == FEATURES * WIDTH + WIDTH
    assert sum(p.numel() for p in deep.parameters()) == FEATURES * 3 + 3 + 3 * WIDTH + WIDTH
    hidden = images() @ deep[0].weight.T + deep[0].bias
    expected = (hidden / (1 + (-hidden).exp())) @ deep[2].weight.T + deep[2].bias
    torch.testing.assert_close(deep(images()), expected)


@pytest.fixture
def joined():
    model = randomise(llama())
    randomise_prompts(attach(model, length=3))
    return model.requires_grad_(False)


def test_a_condition_is_added_to_every_prompt_while_the_context_lasts(joined):
    entry = ImageCondition(nn.Linear(FEATURES, joined.config.hidden_size))
    with entry.shown(joined, images(), HAS_IMAGE):
        for prompt in gated_prompts(joined):
            torch.testing.assert_close(prompt.condition[0], entry.projection(images())[0])
            assert torch.equal(prompt.condition[1], torch.zeros_like(prompt.condition[1]))
    assert all(prompt.condition is None for prompt in gated_prompts(joined))


def test_an_early_condition_is_added_in_the_lowest_layer_alone(joined):
    entry = EarlyCondition(nn.Linear(FEATURES, joined.config.hidden_size))
    with entry.shown(joined, images(), HAS_IMAGE):
        first, *others = gated_prompts(joined)
        torch.testing.assert_close(first.condition[0], entry.projection(images())[0])
        assert others
        assert all(prompt.condition is None for prompt in others)
    assert first.condition is None


def test_a_condition_is_taken_off_after_an_error_too(joined):
    entry = ImageCondition(nn.Linear(FEATURES, joined.config.hidden_size))
    with pytest.raises(ZeroDivisionError), entry.shown(joined, images(), HAS_IMAGE):
        raise ZeroDivisionError
    assert all(prompt.condition is None for prompt in gated_prompts(joined))


def test_image_tokens_replace_the_first_hidden_states_and_no_others():
    entry = ImageTokens(nn.Linear(FEATURES, 2 * WIDTH), 2)
    hidden = torch.randn(2, 5, WIDTH)
    (untouched, rest), _ = entry.enter(nn.Identity(), (hidden, "more"), {})
    assert untouched is hidden
    with entry.shown(nn.Identity(), images(), HAS_IMAGE):
        (replaced, rest), _ = entry.enter(nn.Identity(), (hidden, "more"), {})
    assert rest == "more"
    assert torch.equal(replaced[:, 2:], hidden[:, 2:])
    torch.testing.assert_close(replaced[:, :2].flatten(1), entry.projection(images()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_projection_stays_float32_in_a_model_of_another_dtype(dtype):
    entry = ImageTokens(projection(FEATURES, WIDTH, bottleneck=3), 1)
    model = nn.ModuleDict({"entry": entry, "layer": nn.Linear(2, 2)}).to(dtype)
    assert {p.dtype for p in model["entry"].parameters()} == {torch.float32}
    assert model["layer"].weight.dtype == dtype
    with entry.shown(model, images(), HAS_IMAGE):
        (hidden,), _ = entry.enter(model, (torch.zeros(2, 3, WIDTH, dtype=dtype),), {})
    assert hidden.dtype == dtype
