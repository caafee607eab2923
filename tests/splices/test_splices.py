"""What every family of models keeps when prompts join its attention, and gets back when they leave."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from support.model_zoo import ZOO, images, ordinary_path, randomise, randomise_prompts, snapshot, text, use_kernel
from zipeft.splices import attach, conditioned, detach, gated_prompts

EACH = pytest.mark.parametrize("name", ZOO)
EACH_KERNEL = pytest.mark.parametrize(("name", "kernel"), [(n, k) for n, entry in ZOO.items() for k in entry.kernels])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def loss_of(output):
    """Weigh the output unevenly: the plain sum of what a norm returns has no gradient."""
    return (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()


@EACH_KERNEL
@DTYPES
@pytest.mark.parametrize("mode", ["train", "eval", "no_grad", "inference_mode"])
def test_at_zero_gate_the_model_is_the_frozen_one(name, kernel, dtype, mode):
    """Difference 0.0. PyTorch's separate inference path rounds otherwise: the comparison is with its ordinary path."""
    entry = ZOO[name]
    model = entry.frozen(kernel, dtype).train(mode == "train")
    modes = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
    with modes.get(mode, torch.enable_grad)():
        with ordinary_path():
            frozen = entry.run(model)
        attach(model, length=5)
        for _ in range(2):
            joined = entry.run(model)
            assert torch.isfinite(joined).all()
            assert (joined - frozen).abs().max() == 0.0


@EACH_KERNEL
@DTYPES
def test_at_zero_gate_only_gates_get_a_gradient_and_one_step_wakes_the_prompts(name, kernel, dtype):
    entry = ZOO[name]
    model = entry.frozen(kernel, dtype)
    joined = attach(model, length=5)
    parameters = [p for prompt in joined for p in prompt.parameters()]
    assert [p for p in model.parameters() if p.requires_grad] == parameters
    optimiser = torch.optim.AdamW(parameters, lr=0.1)
    loss_of(entry.run(model)).backward()
    for prompt in joined:
        assert torch.equal(prompt.prompt.grad, torch.zeros_like(prompt.prompt))
        assert (prompt.gate.grad != 0).all()
        assert prompt.gate.grad.dtype == torch.float32
    optimiser.step()
    optimiser.zero_grad()
    loss_of(entry.run(model)).backward()
    for prompt in joined:
        assert (prompt.prompt.grad != 0).any()
        assert prompt.prompt.dtype == prompt.prompt.grad.dtype == torch.float32


@pytest.mark.parametrize("name", ["bert", "roberta", "llama", "hf_vit", "torch_encoder"])
def test_dropout_draws_as_in_the_frozen_model(name):
    """The prompt's term draws no random numbers, so that training starts from the frozen model's very activations."""
    entry = ZOO[name]
    model = entry.frozen().train()
    for module in model.modules():
        for setting in ("attention_dropout", "dropout", "p"):
            if isinstance(getattr(module, setting, None), float):
                setattr(module, setting, 0.3)
    with ordinary_path():
        frozen = [(torch.manual_seed(seed), entry.run(model))[1] for seed in (3, 4)]
    assert not torch.equal(*frozen)
    attach(model, length=5)
    torch.manual_seed(3)
    assert torch.equal(entry.run(model), frozen[0])


@EACH_KERNEL
@pytest.mark.parametrize("used", [False, True], ids=["unused", "trained"])
def test_detach_gives_the_model_back(name, kernel, used):
    entry = ZOO[name]
    model = entry.frozen(kernel)
    state = copy.deepcopy(model.state_dict())
    before, output = snapshot(model), entry.run(model)
    joined = attach(model, length=5)
    if used:
        randomise_prompts(joined)
        loss_of(entry.run(model.train())).backward()
        with torch.no_grad():
            assert not torch.equal(entry.run(model.eval()), output)
    detach(model)
    assert snapshot(model) == before
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert torch.equal(entry.run(model), output)
    assert gated_prompts(model) == []
    detach(model)  # a second time changes nothing
    assert snapshot(model) == before
    attach(model, length=2)
    assert len(gated_prompts(model)) == len(joined)


@EACH
def test_a_deep_copy_and_its_original_are_two_models(name):
    entry = ZOO[name]
    model = entry.frozen()
    frozen = entry.run(model)
    randomise_prompts(attach(model, length=3))
    with torch.no_grad():
        joined = entry.run(model)  # fills the caches
        copied = copy.deepcopy(model)
        assert torch.equal(entry.run(copied), joined)
        randomise_prompts(gated_prompts(copied), seed=9)
        changed = entry.run(copied)
        assert not torch.equal(changed, joined)
        assert torch.equal(entry.run(model), joined)
        detach(copied)
        torch.testing.assert_close(entry.run(copied), frozen)
        assert torch.equal(entry.run(model), joined)
        again = copy.deepcopy(model)
        detach(model)
        torch.testing.assert_close(entry.run(model), frozen)
        assert torch.equal(entry.run(again), joined)


@EACH
def test_a_joined_model_goes_through_a_file(name):
    entry = ZOO[name]
    model = entry.frozen()
    randomise_prompts(attach(model, length=3))
    with torch.no_grad():
        joined = entry.run(model)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        assert torch.equal(entry.run(loaded), joined)
        detach(loaded)
        assert not torch.equal(entry.run(loaded), joined)


@EACH
def test_a_state_dict_carries_the_prompts(name):
    entry = ZOO[name]
    model, other = entry.frozen(), entry.frozen()
    randomise_prompts(attach(model, length=3))
    attach(other, length=3)
    with torch.no_grad():
        expected = entry.run(model)
        entry.run(other)  # fills the caches with what is about to be overwritten
        assert set(model.state_dict()) > set(entry.frozen().state_dict())
        other.load_state_dict(model.state_dict())
        assert torch.equal(entry.run(other), expected)


@EACH
def test_a_change_of_any_frozen_weight_reaches_the_prompts(name):
    """In evaluation too, where the prompts' keys and values are kept from one forward to the next."""
    entry = ZOO[name]
    model = entry.frozen()
    randomise_prompts(attach(model, length=3))
    hosts = [module for module in model.modules() if hasattr(module, "zero_gated_prompt")]
    with torch.no_grad():
        for parameter in hosts[0].parameters():
            before = entry.run(model)
            parameter.mul_(-1.1)
            after = entry.run(model)
            assert torch.equal(after, entry.run(copy.deepcopy(model)))  # a copy starts with nothing kept
            # A key's bias cancels in the softmax, and so may do nothing but round differently.
            assert not torch.equal(after, before) or parameter.dim() == 1


@EACH
def test_two_models_of_one_class_do_not_touch_each_other(name):
    entry = ZOO[name]
    one, other = entry.frozen(), entry.frozen()
    with torch.no_grad():
        before, untouched = snapshot(other), entry.run(other)
        randomise_prompts(attach(one, length=3))
        joined = entry.run(one)
        assert snapshot(other) == before
        assert torch.equal(entry.run(other), untouched)
        randomise_prompts(attach(other, length=3), seed=5)
        assert torch.equal(entry.run(one), joined)
        detach(other)
        assert torch.equal(entry.run(one), joined)


@pytest.mark.parametrize("name", [name for name in ZOO if "sdpa" in ZOO[name].kernels and len(ZOO[name].kernels) == 2])
def test_the_kernel_can_be_chosen_while_prompts_are_joined(name):
    """Or at least refused loudly: prompts must not vanish in silence."""
    entry = ZOO[name]
    model = entry.frozen("sdpa")
    randomise_prompts(attach(model, length=3))
    fused = entry.run(model)
    use_kernel(model, "eager")
    torch.testing.assert_close(entry.run(model), fused, atol=1e-4, rtol=1e-4)


@EACH
@pytest.mark.parametrize("length", [1, 4])
def test_gradients_do_not_depend_on_the_batch_being_shared(name, length):
    """Prompts serve all examples at once: their gradient is the sum of the examples' gradients."""
    entry = ZOO[name]
    model = entry.frozen()
    joined = randomise_prompts(attach(model, length=length))
    width = joined[0].prompt.shape[1]
    part = model.visual if name == "open_clip" else model
    loss_of(entry.run(model)).backward()
    expected = [prompt.prompt.grad.clone() for prompt in gated_prompts(part)]
    condition = torch.zeros(2, width, requires_grad=True)
    model.zero_grad()
    with conditioned(part, condition):
        loss_of(entry.run(model)).backward()
    for prompt, gradient in zip(gated_prompts(part), expected, strict=True):
        torch.testing.assert_close(prompt.prompt.grad, gradient, atol=1e-4, rtol=1e-4)
    total = sum(gradient.sum(0) for gradient in expected)
    torch.testing.assert_close(condition.grad.sum(0), total, atol=1e-4, rtol=1e-4)


def test_an_empty_batch_is_an_empty_batch():
    model = ZOO["timm_vit"].frozen()
    shape = model(images()[:0]).shape
    attach(model, length=3)
    assert model(images()[:0]).shape == shape


@EACH
def test_shapes_can_be_worked_out_without_data(name):
    """On the meta device, with gradients and without."""
    entry = ZOO[name]
    if name == "hf_clip":
        pytest.skip("CLIP finds the end of a text by its values")
    with torch.device("meta"):
        model = entry.build().eval()
    attach(model, length=3)
    inputs = {key: x.to("meta") for key, x in entry.inputs().items() if key != "attention_mask"}
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            assert entry.output(model, inputs).device.type == "meta"


def test_padding_changes_nothing_on_real_tokens():
    for name in ("llama", "mistral", "qwen3", "roberta", "bert"):
        entry = ZOO[name]
        model = entry.frozen()
        randomise_prompts(attach(model, length=3))
        inputs = text()
        real = inputs["attention_mask"].bool()
        before = entry.output(model, inputs)
        other = inputs | {"input_ids": inputs["input_ids"].where(real, torch.tensor(9))}
        if name == "roberta":  # it numbers positions by which ids are padding
            positions = torch.arange(7).expand(2, -1) + 2
            before = model(**inputs, position_ids=positions).logits
            other["position_ids"] = positions
        assert torch.equal(entry.output(model, other)[real], before[real]), name


@pytest.mark.parametrize("name", ["roberta", "bert", "llama", "mistral", "gemma3"])
def test_a_padded_batch_is_each_sentence_alone(name):
    model = ZOO[name].frozen()
    randomise_prompts(attach(model, length=3))
    inputs = text(batch=3, padded=3)
    together = model(**inputs).logits
    for i, count in enumerate(inputs["attention_mask"].sum(1)):
        alone = model(**{key: x[i : i + 1, :count] for key, x in inputs.items()}).logits
        torch.testing.assert_close(together[i, :count], alone[0], atol=1e-5, rtol=1e-5)


@EACH
def test_examples_do_not_see_each_other(name):
    """The condition and the padding of one example leave the others alone, batched or not."""
    entry = ZOO[name]
    model = entry.frozen()
    randomise_prompts(attach(model, length=3))
    together = entry.run(model)
    for i in range(2):
        alone = entry.output(model, {key: x[i : i + 1] for key, x in entry.inputs().items()})
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


def test_the_zoo_is_random_where_library_defaults_are_not():
    model = randomise(ZOO["timm_vit"].build())
    assert all((p != 0).any() and (p != 1).any() for p in model.parameters())
