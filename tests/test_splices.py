"""What every family of models keeps when prompts join its attention, and gets back when they leave."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from model_zoo import ZOO, images, native_clip, ordinary_path, randomise, randomise_prompts, roberta, text, use_kernel
from torch import nn

from zipeft.errors import UserError
from zipeft.splices import Splice, attach, conditioned, detach, prompts, register

EACH = pytest.mark.parametrize("name", ZOO)
EACH_KERNEL = pytest.mark.parametrize(("name", "kernel"), [(n, k) for n, entry in ZOO.items() for k in entry.kernels])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def loss_of(output):
    """Weigh the output unevenly: the plain sum of what a norm returns has no gradient."""
    return (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()


def snapshot(model):
    """Everything that ``detach`` has to restore, as values and identities."""
    configs = {
        id(c): c._attn_implementation for m in model.modules() if hasattr(c := getattr(m, "config", 0), "to_dict")
    }
    return {
        "modules": [(name, id(module), type(module)) for name, module in model.named_modules()],
        "parameters": [(name, id(p), p._version, p.requires_grad) for name, p in model.named_parameters()],
        "buffers": [(name, id(b)) for name, b in model.named_buffers()],
        "attributes": {name: set(vars(module)) for name, module in model.named_modules()},
        "hooks": {
            (name, key): list(value)
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if "hooks" in key
        },
        "forward": {name: module.forward.__func__ for name, module in model.named_modules()},
        "kernels": configs,
    }


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
    assert prompts(model) == []
    detach(model)  # a second time changes nothing
    assert snapshot(model) == before
    attach(model, length=2)
    assert len(prompts(model)) == len(joined)


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
        randomise_prompts(prompts(copied), seed=9)
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
    expected = [prompt.prompt.grad.clone() for prompt in prompts(part)]
    condition = torch.zeros(2, width, requires_grad=True)
    model.zero_grad()
    with conditioned(part, condition):
        loss_of(entry.run(model)).backward()
    for prompt, gradient in zip(prompts(part), expected, strict=True):
        torch.testing.assert_close(prompt.prompt.grad, gradient, atol=1e-4, rtol=1e-4)
    total = sum(gradient.sum(0) for gradient in expected)
    torch.testing.assert_close(condition.grad.sum(0), total, atol=1e-4, rtol=1e-4)


@EACH
@pytest.mark.parametrize("layers", [1, 2])
def test_only_the_topmost_layers_are_joined(name, layers):
    model = ZOO[name].frozen()
    everything = [m for m in model.modules() if any(s.matches(m) for s in known_splices())]
    joined = attach(model, layers=layers)
    hosts = [m for m in model.modules() if hasattr(m, "zero_gated_prompt")]
    assert hosts == everything[-layers:]
    assert [m.zero_gated_prompt for m in hosts] == joined == prompts(model)


def known_splices():
    from zipeft.splices import MultiheadSplice, TimmSplice, TransformersSplice

    return TransformersSplice, TimmSplice, MultiheadSplice


def test_layers_of_given_blocks_are_joined_in_the_blocks_order():
    model = ZOO["timm_vit"].frozen()
    blocks = list(reversed(model.blocks))
    joined = attach(model, blocks=blocks, layers=1)
    assert joined == [model.blocks[0].attn.zero_gated_prompt]
    clip = native_clip()
    assert len(attach(clip, blocks=clip.transformer.resblocks)) == 2
    assert prompts(clip.visual) == []


def test_prompts_take_their_layers_mode_and_device():
    model = ZOO["timm_vit"].frozen()
    model.blocks[0].attn.train()
    assert [prompt.training for prompt in attach(model)] == [True, False]
    with torch.device("meta"):
        model = ZOO["timm_vit"].build()
    assert {p.device.type for prompt in attach(model) for p in prompt.parameters()} == {"meta"}


@EACH
def test_a_second_attach_is_refused(name):
    model = ZOO[name].frozen()
    attach(model)
    before = snapshot(model)
    with pytest.raises(UserError, match="detach them first"):
        attach(model)
    assert snapshot(model) == before


@pytest.mark.parametrize("layers", [0, -1, 3])
def test_an_impossible_number_of_layers_is_refused(layers):
    model = ZOO["timm_vit"].frozen()
    before = snapshot(model)
    with pytest.raises(UserError, match=f"layers is {layers}; this model has 1 to 2"):
        attach(model, layers=layers)
    assert snapshot(model) == before


def test_a_model_without_attention_is_refused():
    with pytest.raises(UserError, match="Sequential has no attention layer"):
        attach(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))


def test_blocks_without_one_attention_each_are_refused():
    model = ZOO["timm_vit"].frozen()
    with pytest.raises(UserError, match="each block of VisionTransformer must hold one attention layer"):
        attach(model, blocks=[model.blocks[0], nn.Linear(4, 4)])
    with pytest.raises(UserError, match="must hold one"):
        attach(model, blocks=[model.blocks])
    assert prompts(model) == []


@pytest.mark.parametrize("settings", [{"gate": "token"}, {"squash": "relu"}, {"lenght": 3}, {"length": -1}])
def test_a_wrong_setting_leaves_the_model_as_it_was(settings):
    model = ZOO["llama"].frozen()
    before = snapshot(model)
    with pytest.raises((UserError, ValueError, TypeError, RuntimeError)):
        attach(model, **settings)
    assert snapshot(model) == before


@pytest.mark.parametrize("order", ["first", "second"])
def test_two_models_of_one_config_object_keep_their_own_prompts(order):
    """Which kernel a transformers model calls is written in its config, and models may share one."""
    entry = ZOO["llama"]
    model = entry.frozen()
    twin = type(model)(model.config)
    twin.load_state_dict(model.state_dict())
    twin.eval()
    for m in (model, twin):
        randomise_prompts(attach(m, length=3))
    joined = entry.run(twin)
    (stays, leaves) = (twin, model) if order == "first" else (model, twin)
    detach(leaves)
    torch.testing.assert_close(entry.run(stays), joined)


def test_parts_of_one_model_can_be_joined_and_left_one_by_one():
    entry = ZOO["roberta"]
    model = entry.frozen()
    low, high = model.roberta.encoder.layer
    frozen = entry.run(model)
    randomise_prompts(attach(high, length=3))
    expected = entry.run(model)
    randomise_prompts(attach(low, length=3))
    detach(low)
    torch.testing.assert_close(entry.run(model), expected)
    detach(high)
    assert torch.equal(entry.run(model), frozen)


def test_nested_conditions_are_restored():
    model = ZOO["timm_vit"].frozen()
    randomise_prompts(attach(model, length=3))
    outer, inner = torch.randn(2, 2, 32)
    x = images()
    with conditioned(model, outer):
        expected = model(x)
        with conditioned(model, inner):
            assert not torch.equal(model(x), expected)
        assert torch.equal(model(x), expected)
    with pytest.raises(KeyError), conditioned(model, outer):
        raise KeyError
    assert all(prompt.condition is None for prompt in prompts(model))


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


def test_a_splice_of_ones_own():
    """Another class of attention brings its own splice; the newest is asked first."""

    class Pooling(nn.Module):
        """Mean over tokens, which is attention with equal scores."""

        def __init__(self):
            super().__init__()
            self.value = nn.Linear(4, 4)

        def forward(self, x):
            return self.value(x).mean(1, keepdim=True)

    class PoolingSplice(Splice):
        @classmethod
        def matches(cls, module):
            return isinstance(module, Pooling)

        @classmethod
        def width_and_heads(cls, attention):
            return 4, 1

        def install(self):
            self.handle = self.attention.register_forward_hook(self.add)

        def add(self, module, args, result):
            return result + self.term(torch.zeros_like(result)[:, None], 1.0)[:, 0]

        def remove(self):
            self.handle.remove()

        def project(self, prompt):
            return tuple(self.attention.value(prompt).unsqueeze(-3) for _ in range(2))

    import zipeft.splices

    known = list(zipeft.splices._splices)
    try:
        assert register(PoolingSplice) is PoolingSplice
        model = nn.Sequential(Pooling())
        x = torch.randn(2, 3, 4)
        frozen = model(x)
        (prompt,) = randomise_prompts(attach(model, length=3))
        expected = frozen + prompt.gate.tanh() * model[0].value(prompt.prompt).mean(0)
        torch.testing.assert_close(model(x), expected)
        detach(model)
        assert torch.equal(model(x), frozen)
    finally:
        zipeft.splices._splices[:] = known


def count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_trainable_parameters_of_llama_7b():
    """The paper's 1.2M: 30 layers of 10 tokens of 4096, and a gate for each of 32 heads."""
    import transformers

    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig()).requires_grad_(False)
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (32, 4096)
    attach(model, length=10, layers=30)
    assert count(model) == 1_229_760


def test_trainable_parameters_of_vit_base():
    import timm

    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224").requires_grad_(False)
    attach(model, length=10)
    assert count(model) == 92_304


def test_trainable_parameters_of_roberta_large():
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    with torch.device("meta"):
        model = roberta(**large).requires_grad_(False)
    attach(model, length=10)
    assert count(model) == 246_144


@pytest.mark.parametrize(("tower", "expected"), [("visual", 92_304), ("transformer", 61_536)])
def test_trainable_parameters_of_clip_vit_base(tower, expected):
    import open_clip

    config = open_clip.get_model_config("ViT-B-16")
    with torch.device("meta"):
        model = open_clip.model.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"]).requires_grad_(
            False
        )
    attach(getattr(model, tower), length=10)
    assert count(model) == expected


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
