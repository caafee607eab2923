"""The splice for attention layers of timm and torchvision whose queries no submodule returns by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from zipeft.api.splice import AttentionLayer
from zipeft.splices.hooked_attention import Form, HookedSplice, cosine, of_unit_length
from zipeft.splices.projections import Fused, Parts, by_head, by_uneven_head, thirds


def behind_the_mlp(layer: AttentionLayer, x: Tensor) -> Parts:
    """A parallel block makes the MLP's hidden numbers by the same product."""
    return thirds(layer, x[..., layer.in_split[0] :])


def either(layer: AttentionLayer, x: Tensor) -> Parts:
    """MaxViT has two layouts."""
    return (by_head if layer.head_first else thirds)(layer, x)


def heads_last(result: Tensor) -> Tensor:
    """NesT puts the first number of each head before the second of any."""
    return result.transpose(-1, -2).flatten(-2)


def fuses_outputs(layer: AttentionLayer) -> str:
    return "its output projection is the MLP's too" if layer.attn_out_proj is None else ""


def rotates(layer: AttentionLayer) -> str:
    return "it has a rotary embedding" if layer.rope is not None else ""


BIASES = ("q_bias", "k_bias", "v_bias")
PLAIN = Form(Fused("qkv", thirds), "proj")
COSINE = Form(Fused("qkv", thirds), "proj", scale=lambda layer, query: 1.0, turn=cosine, key=of_unit_length)
FORMS = {
    "timm.beit.Attention": Form(Fused("qkv", thirds, BIASES), "proj"),
    "timm.convit.MHSA": PLAIN,
    "timm.davit.WindowAttention": PLAIN,
    "timm.efficientformer.Attention": Form(Fused("qkv", by_uneven_head), "proj"),
    "timm.fastvit.Attention": PLAIN,
    "timm.maxxvit.Attention2d": Form(Fused("qkv", either), "proj"),
    "timm.maxxvit.AttentionCl": Form(Fused("qkv", either), "proj"),
    "timm.metaformer.Attention": PLAIN,
    "timm.nest.Attention": Form(Fused("qkv", thirds), "proj", merge=heads_last),
    "timm.swin_transformer.WindowAttention": PLAIN,
    "timm.swin_transformer_v2.WindowAttention": replace(COSINE, projections=Fused("qkv", thirds, BIASES)),
    "timm.swin_transformer_v2_cr.WindowMultiHeadAttention": COSINE,
    "timm.tiny_vit.Attention": Form(Fused("qkv", by_uneven_head), "proj"),
    "timm.vision_transformer.ParallelScalingBlock": Form(
        Fused("in_proj", behind_the_mlp), "attn_out_proj", objection=fuses_outputs
    ),
    "timm.vision_transformer_relpos.RelPosAttention": PLAIN,
    "timm.vision_transformer_sam.Attention": Form(Fused("qkv", thirds), "proj", objection=rotates),
    "timm.visformer.Attention": PLAIN,
    "timm.volo.Attention": PLAIN,
    "torchvision.maxvit.RelativePositionalMultiHeadAttention": Form(
        Fused("to_qkv", thirds), "merge", scale=lambda layer, query: layer.scale_factor
    ),
}
REFUSED = {
    "timm.cait.ClassAttn": "only the class token asks",
    "timm.cait.TalkingHeadAttn": "it mixes the scores of its heads",
    "timm.coat.FactorAttnConvRelPosEnc": "it has no scores: keys meet values first",
    "timm.convit.GPSA": "it mixes scores with those of positions, behind the softmax",
    "timm.davit.ChannelAttention": "it attends to channels",
    "timm.davit.ChannelAttentionV2": "it attends to channels",
    "timm.diff_attention.DiffAttention": "it subtracts one softmax from another",
    "timm.gcvit.WindowAttentionGlobal": "its queries come from another place than its keys",
    "timm.hiera.MaskUnitAttention": "it pools its queries",
    "timm.levit.Attention": "its projections hold batch norms",
    "timm.levit.AttentionDownsample": "its projections hold batch norms",
    "timm.mobilevit.LinearSelfAttention": "it has no scores",
    "timm.mvitv2.MultiScaleAttention": "it pools its queries",
    "timm.mvitv2.MultiScaleAttentionPoolFirst": "it pools its queries",
    "timm.pvt_v2.Attention": "its keys come from a smaller image than its queries",
    "timm.tnt.Attention": "its queries and keys are fused without its values",
    "timm.twins.GlobalSubSampleAttn": "its keys come from a smaller image than its queries",
    "timm.twins.LocallyGroupedAttn": "it cuts windows between its projections",
    "timm.vision_transformer.DiffParallelScalingBlock": "it subtracts one softmax from another",
    "timm.volo.ClassAttention": "only the class token asks",
    "timm.volo.OutlookAttention": "it has no scores of keys",
    "timm.xcit.ClassAttn": "only the class token asks",
    "timm.xcit.XCA": "it attends to channels",
    "torchvision.swin_transformer.ShiftedWindowAttention": "its forward reads the weights of its projections past them",
    "torchvision.swin_transformer.ShiftedWindowAttentionV2": (
        "its forward reads the weights of its projections past them"
    ),
}


class VisionHookedSplice(HookedSplice):
    """Joins BEiT, Swin, Swin v2, SAM, MaxViT, NesT, TinyViT and others of timm and torchvision, each by its form."""

    forms: ClassVar = FORMS
    refused: ClassVar = REFUSED
