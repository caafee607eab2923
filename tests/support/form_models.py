"""Tiny models of attention that neither three projections nor a norm of queries tell: one and more for each form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

from support.model_zoo import DECODER, ENCODER, TOWER, VOCABULARY, images, randomise, text

GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 48}
OWN_ENDS = {"bos_token_id": None, "eos_token_id": None}
LATENT = {
    "q_lora_rank": 8,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 16,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_routed_experts": 4,
}
DENSE = {"first_k_dense_replace": 2}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 8}
STAGES = {"image_size": 16, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4}
DEIT = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}
WINDOWS = {"img_size": 32, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4), "num_classes": 5, "window_size": 4}


@dataclass(frozen=True)
class Model:
    """How to build a model, and how to run it."""

    build: Callable[[], nn.Module]
    run: Callable[[nn.Module], Tensor]
    dtype: torch.dtype = torch.float64

    def frozen(self) -> nn.Module:
        """Return the model at random weights, always the same, none of which trains."""
        torch.manual_seed(0)
        model = randomise(self.build())
        for module in model.modules():
            if hasattr(module, "create_weight"):  # RoFormer's angles are a parameter that never trains
                module.weight.data.copy_(module.create_weight())
        return model.to(self.dtype).requires_grad_(False).eval()


def words(model: nn.Module) -> Tensor:
    return model(input_ids=text()["input_ids"], use_cache=False)[0]


def pair(model: nn.Module) -> Tensor:
    ids = text()["input_ids"]
    return model(input_ids=ids, decoder_input_ids=ids.flip(0), use_cache=False)[0]


def seen(model: nn.Module) -> Tensor:
    pixels = images().to(next(model.parameters()).dtype)
    if isinstance(model, transformers.PreTrainedModel):
        return model(pixel_values=pixels)[0]
    return model(pixels)


def words_alone(model: nn.Module) -> Tensor:
    """Run a model without a cache to switch off."""
    return model(input_ids=text()["input_ids"])[0]


def both(model: nn.Module) -> Tensor:
    torch.manual_seed(7)  # it takes patches in an order of chance
    return model(**text(), pixel_values=images().double())[0]


def decoded(model: nn.Module) -> Tensor:
    """Run a model that attends to another's output too."""
    other = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    return model(input_ids=text()["input_ids"], encoder_hidden_states=other, is_decoder=True, use_cache=False)[0]


def quadrupled(model: nn.Module) -> Tensor:
    return model(nn.functional.interpolate(images().to(next(model.parameters()).dtype), scale_factor=4))


def enlarged(model: nn.Module) -> Tensor:
    return model(nn.functional.interpolate(images().to(next(model.parameters()).dtype), scale_factor=2))


def of(
    name: str, base: dict[str, Any], run: Callable = words, dtype: torch.dtype = torch.float64, **settings: Any
) -> Model:
    """A model of transformers."""

    def build() -> nn.Module:
        return getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**base | settings))

    return Model(build, run, dtype=dtype)


def of_timm(name: str, run: Callable = seen, **settings: Any) -> Model:
    return Model(lambda: timm.create_model(name, **settings), run)


def tv_maxvit() -> nn.Module:
    return torchvision.models.MaxVit(
        input_size=(32, 32),
        stem_channels=8,
        partition_size=2,
        block_channels=[16, 32],
        block_layers=[1, 1],
        head_dim=8,
        stochastic_depth_prob=0.0,
        num_classes=5,
    )


def tokens(layer: nn.Module) -> Tensor:
    return layer(grid_of().flatten(2).transpose(1, 2))


def grid(layer: nn.Module) -> Tensor:
    return layer(grid_of())


def grid_of() -> Tensor:
    return torch.randn(2, 32, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))


def efficientformer() -> nn.Module:
    layer = timm.models.efficientformer.Attention(32, key_dim=6, num_heads=4, attn_ratio=1.5, resolution=7)
    return nn.Sequential(layer)  # its ``train`` returns nothing


HIERARCHY = {"embed_dims": (16, 32), "num_heads": (2, 4), "depths": (1, 1), "num_classes": 5}
DISTIL = {"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
NEO = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}
T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_heads": 4}
XGLM = {"vocab_size": VOCABULARY, "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4}
LONGCAT = DECODER | LATENT | {"num_layers": 2, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 16, "head_dim": 4}

DBRX = {"vocab_size": VOCABULARY, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64}
DBRX |= {"attn_config": {"kv_n_heads": 2, "clip_qkv": 0.5, "rope_theta": 1e4}}
DBRX |= {"ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4}}

# --- through the interface ---
INTERFACE = {
    "codegen": of("CodeGen", GPT, rotary_dim=4, n_ctx=64),
    "dbrx": of("Dbrx", DBRX),
    "deepseek_v2": of("DeepseekV2", DECODER | LATENT | DENSE),
    "deepseek_v3": of("DeepseekV3", DECODER | LATENT | DENSE),
    "distilbert": of("DistilBert", DISTIL, words_alone),
    "gemma2": of("Gemma2", DECODER, head_dim=8, attn_logit_softcapping=0.7, query_pre_attn_scalar=20),
    "gpt2": of("GPT2", GPT | OWN_ENDS),
    "gpt2 (scaled by layers)": of("GPT2", GPT | OWN_ENDS, scale_attn_by_inverse_layer_idx=True),
    "gpt_bigcode": of("GPTBigCode", GPT | OWN_ENDS),
    "gpt_bigcode (all keys)": of("GPTBigCode", GPT | OWN_ENDS, multi_query=False),
    "gpt_neox": of("GPTNeoX", DECODER, rotary_pct=0.5),
    "gptj": of("GPTJ", GPT | OWN_ENDS, rotary_dim=4),
    "longcat_flash": of("LongcatFlash", LONGCAT, qk_head_dim=12, zero_expert_num=2, moe_topk=2),
    "minicpm3": of("MiniCPM3", DECODER | LATENT),
    "modernbert": of("ModernBert", ENCODER, words_alone, cls_token_id=0),
    "olmo (clip_qkv)": of("Olmo", DECODER, clip_qkv=0.5),
    "persimmon": of("Persimmon", DECODER),
    "phi3": of("Phi3", DECODER),
    "sam": Model(lambda: sam_decoder_layer(), lambda m: m(torch.ones(1, 2, 3, 32).double().cumsum(2).sin())),
    "stablelm (qk layernorm)": of("StableLm", DECODER, qk_layernorm=True),
    "swin": of("Swin", STAGES, seen),
    "t5": of("T5", T5, pair),
}


class sam_decoder_layer(nn.Module):
    """SAM's attention to points, which narrows queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        from transformers.models.sam.modeling_sam import SamAttention

        config = transformers.SamMaskDecoderConfig(hidden_size=32, num_attention_heads=4)
        config._attn_implementation = "eager"
        self.attention = SamAttention(config, downsample_rate=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


# --- by hooks ---
IMAGE = TOWER | {"image_size": 16, "patch_size": 4}
DATA2VEC = IMAGE | {"use_relative_position_bias": True}
SAM = IMAGE | {"output_channels": 8, "window_size": 2, "global_attn_indexes": [1]}
HOOKED = {
    "big_bird": of("BigBird", ENCODER, attention_type="original_full"),
    "blip text": of("BlipText", ENCODER, decoded, encoder_hidden_size=32),
    "blip vision": of("BlipVision", TOWER, seen, image_size=16, patch_size=4),
    "bloom": of("Bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "convbert": of("ConvBert", ENCODER, words_alone, embedding_size=32),
    "data2vec-vision": of("Data2VecVision", DATA2VEC, seen),
    "data2vec-vision (eager)": of("Data2VecVision", DATA2VEC, seen, attn_implementation="eager"),
    "deberta": of("Deberta", ENCODER | RELATIVE, words_alone),
    "deberta_v2": of(
        "DebertaV2",
        ENCODER | RELATIVE,
        words_alone,
        share_att_key=True,
        position_buckets=4,
    ),
    "falcon": of("Falcon", DECODER | OWN_ENDS),
    "falcon (alibi)": of("Falcon", DECODER | OWN_ENDS, alibi=True, bias=True, multi_query=False),
    "falcon (groups)": of("Falcon", DECODER | OWN_ENDS, new_decoder_architecture=True, num_kv_heads=2),
    "gpt_neo": of("GPTNeo", NEO | OWN_ENDS, attention_types=[[["global", "local"], 1]], window_size=3),
    "megatron_bert": of("MegatronBert", ENCODER),
    "mpnet": of("MPNet", ENCODER, words_alone),
    "mpt": of("Mpt", {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}),
    "openai gpt": of("OpenAIGPT", GPT, words_alone),
    "rembert": of("RemBert", ENCODER, input_embedding_size=16, **OWN_ENDS),
    "roformer": of("RoFormer", ENCODER, embedding_size=32),
    "sam vision": of("SamVision", SAM, seen),
    "sam vision (eager)": of("SamVision", SAM, seen, attn_implementation="eager"),
    "sam_hq vision": of("SamHQVision", SAM, seen),
    "sam_hq vision (eager)": of("SamHQVision", SAM, seen, attn_implementation="eager"),
    "swinv2": of("Swinv2", STAGES, seen),
    "vilt": of("Vilt", ENCODER, both, image_size=16, patch_size=4),
    "xglm": of("XGLM", XGLM | OWN_ENDS, dtype=torch.float32),
    "timm beit": of_timm("beit_base_patch16_224", **DEIT, init_values=None),
    "timm swin": of_timm("swin_tiny_patch4_window7_224", enlarged, **WINDOWS),
    "timm swinv2": of_timm("swinv2_tiny_window8_256", enlarged, **WINDOWS),
    "timm swinv2_cr": of_timm("swinv2_cr_tiny_224", enlarged, **WINDOWS),
    "timm relpos": of_timm("vit_relpos_small_patch16_224", **DEIT, qk_norm=True, init_values=None),
    "timm sam": of_timm("samvit_base_patch16_224", **DEIT, global_attn_indexes=(1,), window_size=2),
    "timm parallel block": of_timm("vit_pwee_patch16_reg1_gap_256", **DEIT, init_values=None),
    "timm nest": Model(lambda: timm.models.nest.Nest(16, patch_size=2, num_levels=2, **HIERARCHY), seen),
    "timm tiny_vit": Model(lambda: timm.models.tiny_vit.TinyVit(**HIERARCHY, window_sizes=(4, 4)), enlarged),
    "timm visformer": of_timm(
        "visformer_tiny", quadrupled, img_size=64, init_channels=8, embed_dim=32, depth=(0, 1, 1)
    ),
    "timm maxvit": Model(lambda: timm.models.maxxvit.AttentionCl(32, dim_head=8), tokens),
    "timm maxvit (thirds)": Model(lambda: timm.models.maxxvit.AttentionCl(32, dim_head=8, head_first=False), tokens),
    "timm maxvit (channels first)": Model(lambda: timm.models.maxxvit.Attention2d(32, dim_head=8), grid),
    "timm efficientformer": Model(
        lambda: efficientformer(), lambda m: m(torch.ones(2, 49, 32).double().cumsum(1).sin())
    ),
    "timm metaformer": Model(lambda: timm.models.metaformer.Attention(32, head_dim=8, bias=True), tokens),
    "timm fastvit": Model(lambda: timm.models.fastvit.Attention(32, head_dim=8, qkv_bias=True), grid),
    "timm volo": Model(lambda: timm.models.volo.Attention(32, 4, qkv_bias=True), lambda m: m(grid_of().movedim(1, -1))),
    "timm davit": Model(lambda: timm.models.davit.WindowAttention(32, (2, 2), 4), tokens),
    "timm convit": Model(lambda: timm.models.convit.MHSA(32, 4, qkv_bias=True), tokens),
    "torchvision maxvit": Model(tv_maxvit, enlarged),
}
