"""Which layers prompts join, what is refused, what a splice of one's own needs, and how many parameters train."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from support.model_zoo import ZOO, images, native_clip, randomise_prompts, roberta, snapshot
from zipeft import registry
from zipeft.errors import UserError
from zipeft.splices import Splice, attach, conditioned, detach, gated_prompts, register

EACH = pytest.mark.parametrize("name", ZOO)


@EACH
@pytest.mark.parametrize("layers", [1, 2])
def test_only_the_topmost_layers_are_joined(name, layers):
    model = ZOO[name].frozen()
    everything = [m for m in model.modules() if any(s.matches(m) for s in known_splices())]
    joined = attach(model, layers=layers)
    hosts = [m for m in model.modules() if hasattr(m, "zero_gated_prompt")]
    assert hosts == everything[-layers:]
    assert [m.zero_gated_prompt for m in hosts] == joined == gated_prompts(model)


def known_splices():
    return [registry.splices.get(name) for name in ("transformers", "timm", "timm_rope", "multihead")]


def test_layers_of_given_blocks_are_joined_in_the_blocks_order():
    model = ZOO["timm_vit"].frozen()
    blocks = list(reversed(model.blocks))
    joined = attach(model, blocks=blocks, layers=1)
    assert joined == [model.blocks[0].attn.zero_gated_prompt]
    clip = native_clip()
    assert len(attach(clip, blocks=clip.transformer.resblocks)) == 2
    assert gated_prompts(clip.visual) == []


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
    with pytest.raises(UserError, match="twice"):
        attach(model, blocks=[model.blocks[0], model.blocks[0]])
    assert gated_prompts(model) == []


@pytest.mark.parametrize("settings", [{"gate": "token"}, {"gate_activation": "relu"}, {"lenght": 3}, {"length": -1}])
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


def test_a_layer_that_is_used_many_times_has_one_prompt():
    """ALBERT runs one layer over and over."""
    import transformers

    size = {"vocab_size": 61, "embedding_size": 16, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    model = transformers.AlbertModel(transformers.AlbertConfig(**size, num_attention_heads=4)).eval()
    ids = torch.arange(2, 8)[None]
    frozen = model(ids).last_hidden_state
    joined = attach(model, length=3)
    assert len(joined) == 1
    assert torch.equal(model(ids).last_hidden_state, frozen)
    randomise_prompts(joined)
    assert not torch.allclose(model(ids).last_hidden_state, frozen, atol=1e-3)
    detach(model)
    assert torch.equal(model(ids).last_hidden_state, frozen)


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
    assert all(prompt.condition is None for prompt in gated_prompts(model))


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


def test_splices_that_are_installed_are_asked_before_the_built_in_ones(monkeypatch):
    timm = registry.splices.get("timm")
    mine = type("Mine", (timm,), {"__module__": "mine"})
    by_name = {name: registry.splices.get(name) for name in registry.splices.names()} | {"zz_mine": mine}
    lost = UserError("splice 'lost' cannot be used")

    def get(name):
        if name == "lost":
            raise lost
        return by_name[name]

    monkeypatch.setattr(registry.splices, "names", lambda: [*by_name, "lost"])
    monkeypatch.setattr(registry.splices, "get", get)
    model = ZOO["timm_vit"].frozen()
    with pytest.warns(UserWarning, match="splice 'lost' cannot be used"):
        attach(model)
    assert {type(block.attn.zipeft_splice) for block in model.blocks} == {mine}


def test_a_splice_that_is_registered_by_name_is_asked_though_others_were_before():
    attach(ZOO["timm_vit"].frozen())
    mine = type("Mine", (registry.splices.get("timm"),), {"__module__": "mine"})
    registry.splices.register("mine", mine)
    try:
        model = ZOO["timm_vit"].frozen()
        attach(model)
        assert {type(block.attn.zipeft_splice) for block in model.blocks} == {mine}
    finally:
        registry.splices.unregister("mine")


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
