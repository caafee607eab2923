"""``ZeroGatedPrompt`` alone: its arithmetic, its dtype, what it saves, and when it may reuse keys and values."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from zipeft.modules.gated_attention import attend
from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt

WIDTH, HEADS, DIM, LENGTH = 16, 4, 8, 3


class Projections(nn.Module):
    """A layer's key and value projections, which count how often they run."""

    def __init__(self, heads: int = HEADS):
        super().__init__()
        self.key, self.value = (nn.Linear(WIDTH, heads * DIM) for _ in range(2))
        self.requires_grad_(False)
        self.calls = 0

    def project(self, prompt):
        self.calls += 1
        return tuple(f(prompt).unflatten(-1, (-1, DIM)).transpose(-2, -3) for f in (self.key, self.value))

    def frozen(self):
        return list(self.parameters())


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return Projections()


@pytest.fixture
def prompt():
    torch.manual_seed(1)
    return ZeroGatedPrompt(WIDTH, HEADS, LENGTH, gate_init="random").eval()


@pytest.fixture
def query():
    torch.manual_seed(2)
    return torch.randn(2, HEADS, 5, DIM)


def term(prompt, layer, query):
    return prompt(query, layer.project, DIM**-0.5, layer.frozen)


def uncached(prompt, layer, query):
    """What the term is now, whatever was kept from before."""
    with torch.no_grad():
        return term(copy.deepcopy(prompt), layer, query)


@given(
    sizes=st.tuples(*[st.integers(1, 4) for _ in range(5)]),
    each_example=st.booleans(),
    scale=st.floats(0.05, 2),
    seed=st.integers(0, 2**16),
)
def test_attend_is_attention(sizes, each_example, scale, seed):
    """Whatever the batch, the groups of heads, and whether the keys are the batch's or each example's."""
    batch, key_heads, group, queries, keys = sizes
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, key_heads * group, queries, DIM, generator=generator, dtype=torch.float64)
    lead = (batch,) if each_example else ()
    key, value = torch.randn(2, *lead, key_heads, keys, DIM, generator=generator, dtype=torch.float64)
    out = attend(query, key, value, scale)
    assert out.shape == query.shape
    for b in range(batch):
        for h in range(key_heads * group):
            k, v = (x[b, h // group] if each_example else x[h // group] for x in (key, value))
            weights = (scale * query[b, h] @ k.T).softmax(-1)
            torch.testing.assert_close(out[b, h], weights @ v)


@pytest.mark.parametrize(("gate", "gates"), [("head", HEADS), ("layer", 1)])
@pytest.mark.parametrize(("gate_activation", "function"), [("tanh", torch.tanh), ("none", lambda x: x)])
def test_the_gate_scales_each_head(layer, query, gate, gates, gate_activation, function):
    prompt = ZeroGatedPrompt(WIDTH, HEADS, LENGTH, gate=gate, gate_activation=gate_activation)
    assert prompt.gate.shape == (gates,)
    with torch.no_grad():
        prompt.gate.copy_(torch.linspace(-2, 3, gates) + 0.1)
        plain = attend(query, *layer.project(prompt.prompt), DIM**-0.5)
        expected = function(prompt.gate).expand(HEADS).view(1, HEADS, 1, 1) * plain
    torch.testing.assert_close(term(prompt, layer, query), expected)


class Large(TorchDispatchMode):
    """Records the operations that make something of at least so many numbers."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.made = numbers, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple) else out
        if first.numel() >= self.numbers and not func.is_view:
            self.made.append(func.overloadpacket.__name__)
        return out


@pytest.mark.parametrize("key_heads", [HEADS, 1])
def test_nothing_as_large_as_the_queries_is_made_but_the_term(prompt, key_heads):
    """Neither are queries copied, nor is the term multiplied; nor are their gradients."""
    layer, query = Projections(key_heads), torch.randn(8, 64, HEADS, DIM).transpose(1, 2).requires_grad_()
    with Large(query.numel()) as forward:
        out = term(prompt, layer, query)
    with Large(query.numel()) as backward:
        torch.autograd.grad(out, (query, *prompt.parameters()), torch.ones_like(out))
    assert len(forward.made) == 1
    assert "attention" in forward.made[0]
    assert [name for name in backward.made if name != "ones_like"] == [f"{forward.made[0]}_backward"]


def test_the_gate_is_zero_at_the_start_and_the_prompt_is_not():
    prompt = ZeroGatedPrompt(400, HEADS, 50)
    assert torch.equal(prompt.gate, torch.zeros(HEADS))
    assert abs(prompt.prompt.std() - 1) < 0.02
    assert abs(prompt.prompt.mean()) < 0.02
    assert abs(ZeroGatedPrompt(400, HEADS, 50, prompt_std=0.02).prompt.std() - 0.02) < 0.001


def test_a_random_gate_is_a_standard_normal():
    gate = ZeroGatedPrompt(WIDTH, 4000, gate_init="random").gate
    assert abs(gate.mean()) < 0.1
    assert abs(gate.std() - 1) < 0.1


def test_at_zero_gate_the_term_is_zero_and_only_the_gate_gets_a_gradient(layer, query):
    prompt = ZeroGatedPrompt(WIDTH, HEADS, LENGTH)
    out = term(prompt, layer, query)
    assert torch.equal(out, torch.zeros_like(query))
    (out * torch.randn_like(out)).sum().backward()
    assert torch.equal(prompt.prompt.grad, torch.zeros_like(prompt.prompt))
    assert (prompt.gate.grad != 0).all()


@pytest.mark.parametrize(
    ("setting", "value"), [("gate", "token"), ("gate_activation", "sigmoid"), ("gate_init", "one")]
)
def test_a_wrong_setting_is_named(setting, value):
    with pytest.raises(ValueError, match=f"{setting} is '{value}'; it must be one of"):
        ZeroGatedPrompt(WIDTH, HEADS, **{setting: value})


CASTS = {
    "bfloat16": lambda m: m.to(torch.bfloat16),
    "half": lambda m: m.half(),
    "double": lambda m: m.double(),
    "device and dtype": lambda m: m.to("cpu", torch.float16),
    "there and back": lambda m: m.to(torch.bfloat16).float(),
}


@pytest.mark.parametrize("cast", CASTS)
def test_a_cast_of_the_model_leaves_prompt_and_gate_untouched(prompt, layer, cast):
    model = nn.ModuleDict({"prompt": prompt, "layer": layer})
    model.half() if cast == "there and back" else None
    before = copy.deepcopy(prompt.state_dict())
    prompt.prompt.grad = torch.full_like(prompt.prompt, 1 / 3)
    CASTS[cast](model)
    assert layer.key.weight.dtype == (
        torch.float32 if cast == "there and back" else CASTS[cast](nn.Linear(1, 1)).weight.dtype
    )
    for name, tensor in prompt.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])
    assert torch.equal(prompt.prompt.grad, torch.full_like(prompt.prompt, 1 / 3))


def test_prompts_follow_to_another_device(prompt):
    assert {p.device.type for p in prompt.to("meta", torch.bfloat16).parameters()} == {"meta"}
    assert {p.dtype for p in prompt.parameters()} == {torch.float32}
    assert {p.device.type for p in prompt.to_empty(device="cpu").parameters()} == {"cpu"}
    assert ZeroGatedPrompt(WIDTH, HEADS, device="meta").prompt.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_term_has_the_querys_dtype_and_the_gradients_the_prompts(prompt, layer, query, dtype):
    expected = term(prompt, layer, query)
    out = term(prompt, layer.to(dtype), query.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, atol=0.03, rtol=0.03)
    out.float().square().sum().backward()
    for parameter in prompt.parameters():
        assert parameter.grad.dtype == torch.float32
        assert (parameter.grad != 0).all()


def test_gradients_are_those_of_finite_differences(prompt, layer, query):
    """In float64, which the module itself never keeps its parameters in."""
    layer.double()
    query = query.double().requires_grad_()
    values = prompt.prompt.detach().double().requires_grad_(), prompt.gate.detach().double().requires_grad_()

    def function(query, values, gate):
        return torch.func.functional_call(
            prompt, {"prompt": values, "gate": gate}, (query, layer.project, DIM**-0.5, layer.frozen)
        )

    assert torch.autograd.gradcheck(function, (query, *values))


def test_the_state_goes_round(prompt):
    assert set(prompt.state_dict()) == {"prompt", "gate"}
    other = ZeroGatedPrompt(WIDTH, HEADS, LENGTH)
    other.load_state_dict(copy.deepcopy(prompt.state_dict()))
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, prompt.state_dict()[name])


def test_a_condition_is_added_to_each_token(prompt, layer, query):
    prompt.condition = torch.randn(2, WIDTH)
    out = term(prompt, layer, query)
    for example, condition in enumerate(prompt.condition):
        moved = ZeroGatedPrompt(WIDTH, HEADS, LENGTH)
        moved.load_state_dict({"prompt": prompt.prompt + condition, "gate": prompt.gate})
        torch.testing.assert_close(out[example : example + 1], term(moved, layer, query[example : example + 1]))


def test_a_condition_shifts_the_term_alike_for_every_query(prompt, layer, query):
    """A shift that all keys share leaves the softmax as it is: what the image adds is its value, times the gate."""
    with torch.no_grad():
        plain = term(prompt, layer, query)
        prompt.condition = torch.randn(2, WIDTH)
        shift = term(prompt, layer, query) - plain
        value = (prompt.condition @ layer.value.weight.T).unflatten(-1, (HEADS, DIM))
    expected = prompt.gate.tanh()[:, None] * value
    torch.testing.assert_close(shift, expected[:, :, None].expand_as(shift), atol=1e-5, rtol=1e-4)


def test_the_printed_form_says_what_it_is(prompt):
    assert repr(prompt) == f"ZeroGatedPrompt(length={LENGTH}, width={WIDTH}, gates={HEADS}, gate_activation=tanh)"


OFF = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.mark.parametrize("off", OFF)
def test_without_gradients_the_prompt_is_projected_once(prompt, layer, query, off):
    with OFF[off]():
        results = [term(prompt, layer, query) for _ in range(3)]
    assert layer.calls == 1
    assert all(torch.equal(result, uncached(prompt, layer, query)) for result in results)


def test_with_gradients_it_is_projected_every_time(prompt, layer, query):
    for _ in range(3):
        term(prompt, layer, query).sum().backward()
    assert layer.calls == 3


def test_a_conditioned_prompt_is_projected_every_time(prompt, layer, query):
    with torch.no_grad():
        plain = term(prompt, layer, query)
        for seed in range(2):
            prompt.condition = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(seed))
            assert torch.equal(term(prompt, layer, query), uncached(prompt, layer, query))
        prompt.condition = None
        assert torch.equal(term(prompt, layer, query), plain)


def optimiser_step(prompt, layer, **settings):
    for parameter in prompt.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(prompt.parameters(), lr=0.1, **settings).step()


def load(prompt, layer, **settings):
    state = {name: tensor + 0.5 for name, tensor in prompt.state_dict().items()}
    prompt.load_state_dict(state, **settings)


def in_place(tensor):
    with torch.no_grad():
        tensor.add_(0.5)


def replace(prompt, layer):
    layer.key = nn.Linear(WIDTH, HEADS * DIM)


def replace_freed(prompt, layer):
    del layer.key.weight
    layer.key.weight = nn.Parameter(torch.randn(HEADS * DIM, WIDTH), requires_grad=False)


CHANGES = {
    "optimiser step": optimiser_step,
    "unfused step": lambda prompt, layer: optimiser_step(prompt, layer, foreach=False),
    "load_state_dict": load,
    "load_state_dict(assign=True)": lambda prompt, layer: load(prompt, layer, assign=True),
    "prompt in place": lambda prompt, layer: in_place(prompt.prompt),
    "gate in place": lambda prompt, layer: in_place(prompt.gate),
    "frozen weight in place": lambda prompt, layer: in_place(layer.key.weight),
    "frozen bias in place": lambda prompt, layer: in_place(layer.value.bias),
    "frozen weight's rows": lambda prompt, layer: in_place(layer.value.weight[2:4]),
    "frozen load_state_dict": lambda prompt, layer: layer.load_state_dict(Projections().state_dict()),
    "frozen layer replaced": replace,
    "frozen weight freed and replaced": replace_freed,
    "new data": lambda prompt, layer: setattr(prompt.prompt, "data", torch.randn(LENGTH, WIDTH)),
    "longer prompt": lambda prompt, layer: setattr(prompt, "prompt", nn.Parameter(torch.randn(LENGTH + 1, WIDTH))),
}


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_it_reads_drops_the_cache(prompt, layer, query, change, off):
    with OFF[off]():
        before = term(prompt, layer, query)
    CHANGES[change](prompt, layer)
    with OFF[off]():
        after = term(prompt, layer, query)
    assert not torch.equal(after, before)
    assert torch.equal(after, uncached(prompt, layer, query))


def test_a_fused_optimiser_step_drops_the_cache(prompt, layer, query):
    """Fused kernels write to the parameters without counting a version."""
    term(prompt, layer, query).sum().backward()
    with torch.no_grad():
        term(prompt, layer, query)
    optimiser_step(prompt, layer, fused=True)
    with torch.no_grad():
        assert torch.equal(term(prompt, layer, query), uncached(prompt, layer, query))


def test_temporary_values_that_take_each_others_place_are_told_apart(prompt, layer, query):
    """A freed tensor's address and number soon belong to the next one."""
    call = (query, layer.project, DIM**-0.5, layer.frozen)
    for seed in range(40):
        values = {"prompt": torch.randn(LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))}
        with torch.no_grad():
            cached = torch.func.functional_call(prompt, values, call)
        with torch.enable_grad():
            expected = torch.func.functional_call(copy.deepcopy(prompt), values, call)
        del values
        assert torch.equal(cached, expected), seed


@pytest.mark.parametrize("change", ["train", "eval", "cast", "half of the model"])
def test_modes_and_casts_drop_the_cache(prompt, layer, query, change):
    model = nn.ModuleDict({"prompt": prompt, "layer": layer})
    with torch.no_grad():
        term(prompt, layer, query)
        {"train": model.train, "eval": model.eval, "cast": model.double, "half of the model": prompt.half}[change]()
        calls = layer.calls
        term(prompt, layer, query.double() if change == "cast" else query)
    assert layer.calls == calls + 1


def test_another_dtype_of_the_queries_is_projected_anew(prompt, layer, query):
    with torch.no_grad():
        term(prompt, layer, query)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            halved = term(prompt, layer, query.bfloat16())
            assert torch.equal(halved, uncached(prompt, layer, query.bfloat16()))
        assert torch.equal(term(prompt, layer, query), uncached(prompt, layer, query))


def test_training_evaluating_and_training_again_still_learns(prompt, layer, query):
    optimiser = torch.optim.SGD(prompt.parameters(), lr=0.1)
    for _ in range(3):
        before = prompt.prompt.detach().clone()
        prompt.train()
        term(prompt, layer, query).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        assert not torch.equal(prompt.prompt, before)
        prompt.eval()
        for off in OFF.values():
            with off():
                assert torch.equal(term(prompt, layer, query), uncached(prompt, layer, query))


def test_inference_mode_does_not_leak_into_training(prompt, layer, query):
    """What is made in inference mode can never be part of a graph."""
    with torch.inference_mode():
        term(prompt, layer, query)
    term(prompt, layer, query).sum().backward()
    assert (prompt.prompt.grad != 0).any()


def test_a_prompt_made_in_inference_mode_is_never_stale(layer, query):
    with torch.inference_mode():
        prompt = ZeroGatedPrompt(WIDTH, HEADS, LENGTH, gate_init="random")
        for _ in range(2):
            assert torch.equal(term(prompt, layer, query), uncached(prompt, layer, query))
            prompt.prompt.add_(1)


def test_copies_and_files_leave_the_cache_behind(prompt, layer, query):
    with torch.no_grad():
        expected = term(prompt, layer, query)
    sizes = []
    for filled in (True, False):
        file = io.BytesIO()
        torch.save(prompt, file)
        sizes.append(len(file.getvalue()))
        prompt.train(filled)
    assert sizes[0] == sizes[1]
    file.seek(0)
    for other in (copy.deepcopy(prompt), torch.load(file, weights_only=False)):
        assert torch.equal(uncached(other, layer, query), expected)
        in_place(other.prompt)
    assert torch.equal(uncached(prompt, layer, query), expected)
