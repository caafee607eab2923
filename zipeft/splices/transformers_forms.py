"""The splice for attention layers of ``transformers`` that do not go through its attention interface."""

from __future__ import annotations

import sys
from typing import ClassVar

from torch import Tensor

from zipeft.api.splice import AttentionLayer
from zipeft.splices.hooked_attention import Call, Form, HookedSplice, cosine, of_unit_length
from zipeft.splices.projections import Fused, Parts, Separate, bounded, by_group, by_head, thirds, uneven_thirds
from zipeft.splices.rotary import factor


def of_falcon(layer: AttentionLayer, x: Tensor) -> Parts:
    """Falcon has three layouts."""
    if layer.new_decoder_architecture:
        return by_group(layer, x)
    return (uneven_thirds if layer.multi_query else by_head)(layer, x)


def rotated_by_falcon(layer: AttentionLayer, query: Tensor, call: Call) -> Tensor:
    """Falcon rotates where it has no alibi."""
    if call.get("alibi") is not None:
        return query
    half = sys.modules[type(layer).__module__].rotate_half(query)
    cosines, sines = (x.unsqueeze(2) for x in call["position_embeddings"])
    return query * cosines + half * sines


def rotated_by_roformer(layer: AttentionLayer, query: Tensor, call: Call) -> Tensor:
    """RoFormer rotates in self-attention."""
    angles, by_head_first = call.get("sinusoidal_pos"), query.transpose(1, 2)
    if angles is None or call.get("encoder_hidden_states") is not None:
        return query
    return layer.apply_rotary_position_embeddings(angles, by_head_first, by_head_first)[0].transpose(1, 2)


def disentangled(layer: AttentionLayer, query: Tensor) -> float:
    """DeBERTa (arXiv 2006.03654) divides by one more for each kind of its relative scores."""
    return (query.shape[-1] * (1 + len({"c2p", "p2c"} & {*layer.pos_att_type}))) ** -0.5


def talks(layer: AttentionLayer) -> str:
    return "it mixes the scores of its heads" if layer.talking_head else ""


def slices(layer: AttentionLayer) -> str:
    sliced = layer.pretraining_tp > 1 and layer.slow_but_exact
    return "its output projection is cut into slices" if sliced else ""


def scales_keys(layer: AttentionLayer) -> str:
    return "" if factor(layer) == 1.0 else "its rotary embedding scales its keys"


BERT = Form(Separate("query", "key", "value"))
SAM = Form(Fused("qkv", thirds), "proj")
FORMS = {
    "big_bird.BigBirdSelfAttention": BERT,
    "blip.BlipAttention": Form(Fused("qkv", thirds), "projection"),
    "blip.BlipTextSelfAttention": BERT,
    "bloom.BloomAttention": Form(Fused("query_key_value", by_head), "dense", objection=slices),
    "convbert.ConvBertSelfAttention": BERT,
    "data2vec.Data2VecVisionSdpaSelfAttention": BERT,
    "data2vec.Data2VecVisionSelfAttention": BERT,
    "deberta.DisentangledSelfAttention": Form(
        Fused("in_proj", by_head, ("q_bias", None, "v_bias")),
        scale=lambda layer, query: (query.shape[-1] * (1 + len(layer.pos_att_type))) ** -0.5,
        objection=talks,
    ),
    "deberta_v2.DisentangledSelfAttention": Form(Separate("query_proj", "key_proj", "value_proj"), scale=disentangled),
    "falcon.FalconAttention": Form(
        Fused("query_key_value", of_falcon), "dense", turn=rotated_by_falcon, objection=scales_keys
    ),
    "gpt_neo.GPTNeoSelfAttention": Form(
        Separate("q_proj", "k_proj", "v_proj"), "out_proj", scale=lambda layer, query: 1.0
    ),
    "megatron_bert.MegatronBertSelfAttention": BERT,
    "mpnet.MPNetSelfAttention": Form(Separate("q", "k", "v"), "o"),
    "mpt.MptAttention": Form(
        Fused("Wqkv", lambda layer, x: thirds(layer, bounded(layer, x))),
        "out_proj",
        scale=lambda layer, query: layer.softmax_scale,
    ),
    "openai.Attention": Form(
        Fused("c_attn", thirds), "c_proj", scale=lambda layer, query: query.shape[-1] ** -0.5 if layer.scale else 1.0
    ),
    "rembert.RemBertSelfAttention": BERT,
    "roformer.RoFormerSelfAttention": Form(Separate("query", "key", "value"), turn=rotated_by_roformer),
    "sam.SamVisionAttention": SAM,
    "sam.SamVisionSdpaAttention": SAM,
    "sam_hq.SamHQVisionAttention": SAM,
    "sam_hq.SamHQVisionSdpaAttention": SAM,
    "swinv2.Swinv2SelfAttention": Form(
        Separate("query", "key", "value"), scale=lambda layer, query: 1.0, turn=cosine, key=of_unit_length
    ),
    "vilt.ViltSelfAttention": BERT,
    "xglm.XGLMAttention": Form(Separate("q_proj", "k_proj", "v_proj"), "out_proj"),
}
REFUSED = {
    "big_bird.BigBirdBlockSparseAttention": "it attends in sparse blocks",
    "falcon.FalconFlashAttention2": "its flash kernel has not been tried",
    "gpt_neo.GPTNeoFlashAttention2": "its flash kernel has not been tried",
    "hiera.HieraMaskUnitAttention": "it pools its queries",
    "longformer.LongformerSelfAttention": "it attends in windows, and globally by other projections",
    "pvt_v2.PvtV2SelfAttention": "its keys come from a smaller image than its queries",
    "squeezebert.SqueezeBertSelfAttention": "it takes and returns channels first",
    "xlnet.XLNetRelativeAttention": "its projections are tensors, not linear layers",
}


class TransformersHookedSplice(HookedSplice):
    """Joins BLOOM, Falcon, MPT, GPT-Neo, DeBERTa, MPNet, RoFormer, SAM, Swin v2 and others, each class by its form."""

    forms: ClassVar = {f"transformers.{name}": form for name, form in FORMS.items()}
    refused: ClassVar = {f"transformers.{name}": reason for name, reason in REFUSED.items()}
