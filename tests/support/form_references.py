"""The float64 reference of the prompt's term for each class of attention that a table of forms describes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from support.term_reference import Term, by_group, by_head, cut, norm_of, of, shards, thirds, turned, unit


def separate(layer: nn.Module, names: str, output: str | None, heads: int, **settings) -> Term:
    """Three projections by their names."""
    projections = [of(getattr(layer, name)) for name in names.split()]
    return Term(*projections, None if output is None else of(getattr(layer, output)), heads, **settings)


def bert(layer: nn.Module) -> Term:
    return separate(layer, "query key value", None, layer.num_attention_heads)


def fused(layer: nn.Module, name: str, parts: list, output: str, heads: int, biases=(None,) * 3, **settings) -> Term:
    return Term(*cut(getattr(layer, name), *parts, biases=biases), of(getattr(layer, output)), heads, **settings)


def latent(layer: nn.Module) -> Term:
    """Keys and values from one narrow vector, unless they are rotated: a linear map but for its norm."""
    heads, nope, rope = layer.num_heads, layer.qk_nope_head_dim, layer.qk_rope_head_dim
    first, second = layer.kv_a_proj_with_mqa.weight, layer.kv_b_proj.weight.unflatten(0, (heads, -1))
    rank = layer.kv_lora_rank
    query = layer.q_b_proj.weight, None
    times = getattr(layer, "mla_scale_q_lora", 1.0), getattr(layer, "mla_scale_kv_lora", 1.0)

    def rms(x: Tensor, norm: nn.Module) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt() * norm.weight

    class Latent(Term):
        def _heads(self, x: Tensor, projection: tuple, heads: int) -> Tensor:
            if projection is self.query:
                x = times[0] * rms(x @ layer.q_a_proj.weight.T, layer.q_a_layernorm) @ query[0].T
                return x.unflatten(-1, (heads, -1))
            x = x @ first.T
            narrow = times[1] * rms(x[..., :rank], layer.kv_a_layernorm)
            if projection is self.value:
                return torch.einsum("btr,hdr->bthd", narrow, second[:, nope:])
            key = torch.einsum("btr,hdr->bthd", narrow, second[:, :nope])
            return torch.cat([key, x[..., None, rank:].expand(*key.shape[:3], rope)], -1)

    adjacent = type(layer).__name__ != "MiniCPM3Attention"
    turn = turned(layer.config.rope_parameters["rope_theta"], rope, first=nope, adjacent=adjacent)
    return Latent(query, ("key", None), ("value", None), of(layer.o_proj), heads, turn=turn)


def deberta(layer: nn.Module) -> Term:
    parts = by_head(4, 8)
    return Term(*cut(layer.in_proj, *parts, biases=(layer.q_bias, None, layer.v_bias)), None, 4, scale=24**-0.5)


def falcon(layer: nn.Module) -> Term:
    grouped = layer.new_decoder_architecture
    parts = by_group(4, 8, 2) if grouped else thirds(4, 8, 1) if layer.multi_query else by_head(4, 8)
    settings = {"shared": 2 if grouped else 4 if layer.multi_query else 1}
    if layer.num_heads == 4 and not layer.config.alibi:
        settings["turn"] = turned(10000.0)
    return fused(layer, "query_key_value", parts, "dense", 4, **settings)


def scaled(layer: nn.Module):
    """Scaled cosine attention: its scale is learnt for each head, and bounded."""
    scale = layer.logit_scale.flatten().exp().clamp(max=100.0)[:, None]
    return {"scale": 1.0, "turn": lambda q, _: unit(q) * scale, "key_norm": unit}


def windowed(layer: nn.Module, output: str = "proj", name: str = "qkv", **settings) -> Term:
    heads = layer.num_heads if hasattr(layer, "num_heads") else layer.n_heads
    return fused(
        layer,
        name,
        thirds(heads, layer.qkv.weight.shape[0] // 3 // heads if name == "qkv" else 8),
        output,
        heads,
        **settings,
    )


def biases(layer: nn.Module) -> dict:
    return {"biases": (layer.q_bias, layer.k_bias, layer.v_bias)}


def maxvit(layer: nn.Module) -> Term:
    parts = (by_head if layer.head_first else thirds)(layer.num_heads, layer.dim_head)
    return fused(layer, "qkv", parts, "proj", layer.num_heads)


def norms(layer: nn.Module, query: str = "q_norm", key: str = "k_norm") -> dict:
    return {"query_norm": norm_of(getattr(layer, query)), "key_norm": norm_of(getattr(layer, key))}


def per_head(norm: nn.Module):
    return lambda x: torch.stack([norm_of(each)(x[:, :, h]) for h, each in enumerate(norm.norms)], 2)


def parallel(layer: nn.Module) -> Term:
    hidden = layer.in_split[0]
    parts = [[hidden + row for row in part] for part in thirds(4, 8)]
    term = fused(layer, "in_proj", parts, "attn_out_proj", 4, before=norm_of(layer.in_norm))
    return replace(term, output=(layer.ls.gamma[:, None] * term.output[0], None))  # the block's own scale comes behind


def modernbert(layer: nn.Module) -> Term:
    theta = layer.config.rope_parameters[layer.config.layer_types[layer.layer_idx]]["rope_theta"]
    return fused(layer, "Wqkv", thirds(4, 8), "Wo", 4, turn=turned(theta))


def tiny_vit(layer: nn.Module) -> Term:
    parts = by_head(layer.num_heads, layer.key_dim, layer.val_dim)
    return fused(layer, "qkv", parts, "proj", layer.num_heads, before=norm_of(layer.norm))


LLAMA = ("q_proj k_proj v_proj", "o_proj", 4)
REFERENCES = {
    "CodeGenAttention": lambda m: fused(
        m, "qkv_proj", shards(32, 4), "out_proj", 4, turn=turned(1e4, 4, adjacent=True)
    ),
    "DbrxAttention": lambda m: fused(m, "Wqkv", thirds(4, 8, 2), "out_proj", 4, shared=2, clip=0.5, turn=turned(1e4)),
    "DeepseekV2Attention": latent,
    "DeepseekV3Attention": latent,
    "MiniCPM3Attention": latent,
    "LongcatFlashMLA": latent,
    "DistilBertSelfAttention": lambda m: separate(m, "q_lin k_lin v_lin", "out_lin", 4),
    "Gemma2Attention": lambda m: separate(m, *LLAMA, scale=20**-0.5, shared=2, cap=0.7, turn=turned(1e4)),
    "GPT2Attention": lambda m: fused(
        m,
        "c_attn",
        thirds(4, 8),
        "c_proj",
        4,
        scale=8**-0.5 / ((m.layer_idx + 1) if m.scale_attn_by_inverse_layer_idx else 1),
    ),
    "GPTBigCodeAttention": lambda m: fused(
        m, "c_attn", thirds(4, 8, 1) if m.multi_query else by_head(4, 8), "c_proj", 4, shared=4 if m.multi_query else 1
    ),
    "GPTNeoXAttention": lambda m: fused(m, "query_key_value", by_head(4, 8), "dense", 4, turn=turned(1e4, 4)),
    "GPTJAttention": lambda m: separate(m, "q_proj k_proj v_proj", "out_proj", 4, turn=turned(1e4, 4, adjacent=True)),
    "ModernBertAttention": modernbert,
    "OlmoAttention": lambda m: separate(m, *LLAMA, shared=2, clip=0.5, turn=turned(1e4)),
    "PersimmonAttention": lambda m: fused(
        m,
        "query_key_value",
        by_head(4, 8),
        "dense",
        4,
        turn=turned(m.config.rope_parameters["rope_theta"], 4),
        **norms(m, "q_layernorm", "k_layernorm"),
    ),
    "Phi3Attention": lambda m: fused(m, "qkv_proj", thirds(4, 8, 2), "o_proj", 4, shared=2, turn=turned(1e4)),
    "SamAttention": lambda m: separate(m, "q_proj k_proj v_proj", "out_proj", 4),
    "StableLmAttention": lambda m: separate(
        m,
        *LLAMA,
        shared=2,
        turn=turned(1e4, m.rotary_ndims),
        query_norm=per_head(m.q_layernorm),
        key_norm=per_head(m.k_layernorm),
    ),
    "SwinAttention": lambda m: separate(m, "q_proj k_proj v_proj", "o_proj", m.num_attention_heads),
    "T5Attention": lambda m: separate(m, "q k v", "o", 4, scale=1.0),
    "BigBirdSelfAttention": bert,
    "BlipTextSelfAttention": bert,
    "BlipAttention": lambda m: fused(m, "qkv", thirds(4, 8), "projection", 4),
    "BloomAttention": lambda m: fused(m, "query_key_value", by_head(4, 8), "dense", 4),
    "ConvBertSelfAttention": bert,
    "Data2VecVisionSdpaSelfAttention": bert,
    "Data2VecVisionSelfAttention": bert,
    "deberta.DisentangledSelfAttention": deberta,
    "deberta_v2.DisentangledSelfAttention": lambda m: separate(
        m, "query_proj key_proj value_proj", None, 4, scale=24**-0.5
    ),
    "FalconAttention": falcon,
    "GPTNeoSelfAttention": lambda m: separate(m, "q_proj k_proj v_proj", "out_proj", 4, scale=1.0),
    "MegatronBertSelfAttention": bert,
    "MPNetSelfAttention": lambda m: separate(m, "q k v", "o", 4),
    "MptAttention": lambda m: fused(m, "Wqkv", thirds(4, 8), "out_proj", 4),
    "openai.Attention": lambda m: fused(m, "c_attn", thirds(4, 8), "c_proj", 4),
    "RemBertSelfAttention": bert,
    "RoFormerSelfAttention": lambda m: separate(m, "query key value", None, 4, turn=turned(1e4, adjacent=True)),
    "SamHQVisionSdpaAttention": lambda m: fused(m, "qkv", thirds(4, 8), "proj", 4),
    "SamHQVisionAttention": lambda m: fused(m, "qkv", thirds(4, 8), "proj", 4),
    "SamVisionSdpaAttention": lambda m: fused(m, "qkv", thirds(4, 8), "proj", 4),
    "SamVisionAttention": lambda m: fused(m, "qkv", thirds(4, 8), "proj", 4),
    "Swinv2SelfAttention": lambda m: separate(m, "query key value", None, m.num_attention_heads, **scaled(m)),
    "ViltSelfAttention": bert,
    "XGLMAttention": lambda m: separate(m, "q_proj k_proj v_proj", "out_proj", 4),
    "beit.Attention": lambda m: windowed(m, **biases(m)),
    "swin_transformer.WindowAttention": windowed,
    "swin_transformer_v2.WindowAttention": lambda m: windowed(m, **biases(m), **scaled(m)),
    "swin_transformer_v2_cr.WindowMultiHeadAttention": lambda m: windowed(m, **scaled(m)),
    "vision_transformer_relpos.RelPosAttention": lambda m: windowed(m, **norms(m)),
    "vision_transformer_sam.Attention": windowed,
    "vision_transformer.ParallelScalingBlock": parallel,
    "efficientformer.Attention": lambda m: fused(
        m, "qkv", by_head(m.num_heads, m.key_dim, m.val_dim), "proj", m.num_heads
    ),
    "metaformer.Attention": windowed,
    "fastvit.Attention": windowed,
    "volo.Attention": windowed,
    "davit.WindowAttention": windowed,
    "convit.MHSA": windowed,
    "nest.Attention": lambda m: windowed(m, heads_last=True),
    "tiny_vit.Attention": tiny_vit,
    "visformer.Attention": windowed,
    "maxxvit.Attention2d": maxvit,
    "maxxvit.AttentionCl": maxvit,
    "maxvit.RelativePositionalMultiHeadAttention": lambda m: windowed(
        m, "merge", "to_qkv", scale=m.to_qkv.in_features**-0.5
    ),
}


def reference(layer: nn.Module) -> Term:
    """Return the reference of a layer's term. Raises ``KeyError`` for a class without one."""
    name = type(layer).__name__
    place = type(layer).__module__.split(".")
    for key in (name, f"{place[-1].removeprefix('modeling_')}.{name}"):
        if key in REFERENCES:
            return REFERENCES[key](layer)
    raise KeyError(f"no reference for {name} of {place}")
