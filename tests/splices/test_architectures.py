"""Attention of transformers with a twist: its prompts go through all of the twist, or the layer is refused."""

from __future__ import annotations

import re
from functools import partial

import open_clip
import pytest
import torch
import transformers

from support.form_models import DENSE, LATENT
from support.model_zoo import DECODER, TOWER, VOCABULARY, randomise, text
from zipeft.errors import UserError
from zipeft.splices import attach, gated_prompts

SMALL = DECODER | {"head_dim": 8}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_local_experts": 4}
FULL = {"layer_types": ["full_attention"] * 2}
BOTH = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 3}
PLAIN = {"rope_type": "default", "rope_theta": 1e4}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 8}
LONG = {**YARN, "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


def decoder(name: str, **settings):
    return lambda: getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**SMALL | settings))


TWISTS = {
    "softcapped scores": decoder("Gemma2"),
    "clipped keys": decoder("Olmo", clip_qkv=0.3),
    "clipped and normed keys": decoder("Olmoe", clip_qkv=0.3, num_experts=4, num_experts_per_tok=2),
    "norm of keys and queries in one": lambda: transformers.Llama4TextModel(
        transformers.Llama4TextConfig(**SMALL | MOE, use_qk_norm=True, intermediate_size_mlp=48, no_rope_layers=[1, 1])
    ),
    "norm after the rotation": decoder("HunYuanDenseV1"),
    "output gate in the query": decoder("Qwen3Next", **MOE, **FULL, shared_expert_intermediate_size=16),
    "norm with a bias": decoder("Phi", qk_layernorm=True),
    "norm of its own for each head": decoder("StableLm", qk_layernorm=True),
    "norm of all heads' own": decoder("Cohere", use_qk_norm=True),
    "differential": decoder("DiffLlama"),
    "mask of values": decoder("Doge"),
    "scaled": decoder("Granite", attention_multiplier=0.3),
    "wide heads": decoder("Gemma"),
    "yarn": decoder("Llama", rope_parameters=YARN),
    "yarn and a norm": decoder("Qwen3", rope_parameters=YARN),
    "yarn and a scale of each position": decoder("Ministral3", rope_parameters=YARN | {"llama_4_scaling_beta": 0.1}),
    "yarn and sinks": decoder("GptOss", **MOE, rope_parameters=YARN),
    "yarn in a part of each head": decoder("Glm", rope_parameters=YARN | {"partial_rotary_factor": 0.5}),
    "yarn in some types of layers": decoder(
        "Olmo3", **BOTH, rope_parameters={"sliding_attention": PLAIN, "full_attention": YARN}
    ),
    "yarn, and layers without positions": decoder("SmolLM3", rope_parameters=YARN, no_rope_layers=[1, 0]),
    "yarn where a window is": decoder("Cohere2", **BOTH, rope_parameters=YARN),
    "longrope": decoder("Llama", rope_parameters=LONG),
    "longrope and one projection": decoder("Phi3", rope_parameters=LONG, original_max_position_embeddings=8),
    "yarn in latent attention": decoder("DeepseekV3", **LATENT | DENSE | {"head_dim": 4}, rope_parameters=YARN),
    "siglip": lambda: transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(**TOWER, image_size=16, patch_size=4, vision_use_head=False)
    ),
}


def run(model: torch.nn.Module) -> torch.Tensor:
    if isinstance(model, transformers.SiglipVisionModel):
        pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(4))
        return model(pixel_values=pixels).last_hidden_state
    return model(input_ids=text()["input_ids"], use_cache=False).last_hidden_state


def keep_first(kernel, seen, host, name, query, key, value, *args, **options):
    seen[host] = query, key[:, :, :1], value[:, :, :1]
    return kernel(name, query, key, value, *args, **options)


@pytest.mark.parametrize("twist", TWISTS)
def test_a_prompt_is_treated_as_the_layer_treats_its_first_token(twist):
    """Position 0 is not rotated: a prompt that equals the first token's input must get that token's key and value."""
    torch.manual_seed(0)
    model = randomise(TWISTS[twist]()).requires_grad_(False).eval()
    frozen = run(model)
    try:
        joined = attach(model, length=1)
    except UserError:
        assert gated_prompts(model) == []
        return
    assert torch.equal(run(model), frozen)
    seen = {}
    hosts = [module for module in model.modules() if hasattr(module, "zero_gated_prompt")]
    assert len(hosts) == len(joined) == 2
    for host in hosts:
        host.zipeft_splice.run = partial(keep_first, host.zipeft_splice.run, seen, host)
        host.register_forward_pre_hook(
            lambda module, args, kwargs: seen.__setitem__(id(module), args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
    run(model)
    for host, prompt in zip(hosts, joined, strict=True):
        query, *expected = seen[host]
        assert prompt.gate.shape == (query.shape[1],)
        first = seen[id(host)][:, :1]
        for each_example in (host.zipeft_splice.project(first), host.zipeft_splice.project(first[0])):
            for projected, own in zip(each_example, expected, strict=True):
                torch.testing.assert_close(projected, own if projected.dim() == 4 else own[0], atol=1e-5, rtol=1e-5)


def test_a_pooling_heads_attention_is_a_layer_only_where_no_blocks_are_given():
    """SigLIP ends in an ``nn.MultiheadAttention`` that pools; ``blocks`` says what counts as a layer."""
    config = transformers.SiglipVisionConfig(**TOWER, image_size=16, patch_size=4)
    model = transformers.SiglipVisionModel(config).eval()
    joined = attach(model, blocks=model.encoder.layers, length=2)
    assert joined == [layer.self_attn.zero_gated_prompt for layer in model.encoder.layers]


def test_a_layer_outside_of_a_model_uses_the_explicit_kernel():
    """A bare layer's config names no kernel; transformers then takes its explicit softmax."""
    from transformers.models.bert.modeling_bert import BertSelfAttention

    config = transformers.BertConfig(**TOWER, vocab_size=VOCABULARY, attention_probs_dropout_prob=0.0)
    config._attn_implementation = None
    layer = randomise(BertSelfAttention(config)).eval()
    hidden = torch.randn(2, 5, 32)
    frozen = layer(hidden)[0]
    attach(layer, length=2)
    assert torch.equal(layer(hidden)[0], frozen)


# --- what is not joined ---


def hiera():
    sizes = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "masked_unit_size": [2, 2], "num_query_pool": 1}
    patches = {"image_size": [16, 16], "patch_size": [3, 3], "patch_stride": [2, 2], "patch_padding": [1, 1]}
    return transformers.HieraModel(transformers.HieraConfig(**sizes, **patches))


OTHERS = {
    "queries that are pooled": hiera,
    "a key of zeros": lambda: torch.nn.MultiheadAttention(32, 4, add_zero_attn=True),
}


def segformer():
    config = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1, 2, 2, 2]}
    return transformers.SegformerModel(transformers.SegformerConfig(**config))


def siglip():
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**TOWER, image_size=16, patch_size=4))


def resnet_clip():
    images = {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64, "patch_size": None}
    words = {"vocab_size": VOCABULARY, "context_length": 7, "width": 24, "heads": 3, "layers": 2}
    return open_clip.model.CLIP(16, images, words)


@pytest.mark.parametrize(
    ("build", "joined", "said"),
    [
        (
            segformer,
            1,
            "3 layers of SegformerAttention (what its sequence_reduction would do to a prompt is not known)",
        ),
        (siglip, 2, "1 layer of MultiheadAttention (it pools)"),
        (resnet_clip, 2, "1 layer of AttentionPool2d (no splice is for it)"),
        (
            decoder(
                "Qwen3Next",
                **MOE,
                layer_types=["linear_attention", "full_attention"],
                shared_expert_intermediate_size=16,
            ),
            1,
            "1 layer of Qwen3NextDecoderLayer (no splice is for it)",
        ),
    ],
    ids=["segformer", "siglip", "resnet", "hybrid"],
)
def test_what_is_not_joined_is_said(build, joined, said):
    with pytest.warns(UserWarning, match=re.escape(said)):
        assert len(attach(build(), length=1)) == joined


def test_a_pooling_head_is_no_topmost_layer():
    model = siglip()
    with pytest.warns(UserWarning, match="it pools"):
        assert attach(model, layers=1, length=1) == [model.encoder.layers[-1].self_attn.zero_gated_prompt]


@pytest.mark.parametrize(
    ("twist", "why"),
    [
        ("differential", "DiffLlamaAttention (what its groupnorm would do to a prompt is not known)"),
        ("mask of values", "DogeAttention (what its dt_proj would do to a prompt is not known)"),
        ("queries that are pooled", "HieraMaskUnitAttention (it pools its queries)"),
        ("a key of zeros", "MultiheadAttention (it adds a key of its own)"),
    ],
)
def test_a_refusal_says_why(twist, why):
    with pytest.raises(UserError, match=re.escape(why)):
        attach((TWISTS | OTHERS)[twist](), length=1)
