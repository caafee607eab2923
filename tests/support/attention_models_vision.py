"""Small random models of images, of images with texts, and of sound, by which the table of attention is measured."""

from __future__ import annotations

from typing import Any

from support.form_models import DEIT, STAGES, WINDOWS
from support.model_zoo import ENCODER, TOWER, VOCABULARY

IMAGE = TOWER | {"image_size": 16, "patch_size": 4}
WORDS = TOWER | {"vocab_size": VOCABULARY, "max_position_embeddings": 16, "eos_token_id": VOCABULARY - 1}
BERT_WORDS = ENCODER | {"max_position_embeddings": 32}
BOTH = {"text_config": WORDS, "vision_config": IMAGE, "projection_dim": 24}
PYRAMID = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 2, 2, 2]}
SOUND = {"conv_dim": [16, 16], "conv_stride": [2, 2], "conv_kernel": [3, 3], "num_conv_pos_embeddings": 4}
SOUND |= {"num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2}
SPEECH = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "num_mel_bins": 8}
SPEECH |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": VOCABULARY}
SPEECH |= {"max_source_positions": 8, "max_target_positions": 16, "pad_token_id": 1, "decoder_start_token_id": 2}
SPEECH |= {"bos_token_id": 0, "eos_token_id": 2}

TRANSFORMERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "aimv2 vision": ("Aimv2Vision", IMAGE, "image"),
    "altclip": ("AltCLIP", {"text_config": BERT_WORDS, "vision_config": IMAGE, "projection_dim": 24}, "both"),
    "audio_spectrogram_transformer": ("AST", TOWER | {"max_length": 16, "num_mel_bins": 16, "patch_size": 4}, "frames"),
    "beit": ("Beit", IMAGE | {"use_relative_position_bias": True}, "image"),
    "beit (absolute)": ("Beit", IMAGE | {"use_absolute_position_embeddings": True}, "image"),
    "blip (text and image)": ("Blip", {**BOTH, "text_config": BERT_WORDS}, "both"),
    "blip vision": ("BlipVision", IMAGE, "image"),
    "chinese_clip": ("ChineseCLIP", {"text_config": BERT_WORDS, "vision_config": IMAGE, "projection_dim": 24}, "both"),
    "clip": ("CLIP", BOTH, "both"),
    "clip text": ("CLIPText", WORDS, "text"),
    "clip vision": ("CLIPVision", IMAGE, "image"),
    "clipseg": ("CLIPSeg", BOTH, "both"),
    "convnext (no attention)": ("ConvNext", {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4}, "large"),
    "data2vec-vision": ("Data2VecVision", IMAGE | {"use_relative_position_bias": True}, "image"),
    "deit": ("DeiT", IMAGE, "image"),
    "dinov2": ("Dinov2", IMAGE, "image"),
    "dinov2_with_registers": ("Dinov2WithRegisters", IMAGE, "image"),
    "dinov3_vit": ("DINOv3ViT", IMAGE | {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}, "image"),
    "hiera": (
        "Hiera",
        {"image_size": [16, 16], "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "patch_size": [3, 3]}
        | {"patch_stride": [2, 2], "patch_padding": [1, 1], "masked_unit_size": [2, 2], "num_query_pool": 1},
        "image",
    ),
    "ijepa": ("IJepa", IMAGE, "image"),
    "metaclip_2": ("MetaClip2", BOTH, "both"),
    "mlcd": ("MLCDVision", IMAGE, "image"),
    "pixtral vision": ("PixtralVision", IMAGE | {"head_dim": 8}, "image"),
    "pvt_v2": ("PvtV2", PYRAMID | {"num_attention_heads": [1, 2, 2, 2], "sr_ratios": [8, 4, 2, 1]}, "large"),
    "sam vision": ("SamVision", IMAGE | {"output_channels": 8, "window_size": 2, "global_attn_indexes": [1]}, "image"),
    "segformer": ("Segformer", PYRAMID, "large"),
    "siglip (both towers)": ("Siglip", BOTH, "both"),
    "siglip text": ("SiglipText", WORDS, "text"),
    "siglip vision (no head)": ("SiglipVision", IMAGE | {"vision_use_head": False}, "image"),
    "siglip vision (pooling head)": ("SiglipVision", IMAGE, "image"),
    "swin": ("Swin", STAGES, "image"),
    "swinv2": ("Swinv2", STAGES, "image"),
    "videomae": ("VideoMAE", IMAGE | {"num_frames": 2, "tubelet_size": 2}, "video"),
    "vilt": ("Vilt", ENCODER | {"image_size": 16, "patch_size": 4}, "both"),
    "vit": ("ViT", IMAGE, "image"),
    "vit_mae": ("ViTMAE", IMAGE, "image"),
    "vit_msn": ("ViTMSN", IMAGE, "image"),
    "vivit": ("Vivit", IMAGE | {"num_frames": 2, "tubelet_size": [2, 4, 4]}, "video"),
    "wav2vec2": ("Wav2Vec2", TOWER | SOUND | {"apply_spec_augment": False}, "sound"),
    "whisper (encoder-decoder)": ("Whisper", SPEECH, "speech"),
    "yolos": ("Yolos", IMAGE | {"image_size": [16, 16], "num_detection_tokens": 3}, "image"),
}
"""What a model is called here, its class, its settings, and what it is fed."""

TIMM: dict[str, tuple[str, dict[str, Any], int]] = {
    **{
        name: (name, DEIT, 16)
        for name in [
            "beit_base_patch16_224",
            "beitv2_base_patch16_224",
            "deit3_medium_patch16_224",
            "deit3_small_patch16_224",
            "deit_tiny_distilled_patch16_224",
            "deit_tiny_patch16_224",
            "flexivit_small",
            "test_vit",
            "test_vit2",
            "test_vit3",
            "test_vit4",
            "vit_base_patch16_clip_quickgelu_224",
            "vit_base_patch16_rpn_224",
            "vit_base_patch16_siglip_224",
            "vit_base_patch16_siglip_gap_224",
            "vit_base_patch32_clip_224",
            "vit_little_patch16_reg4_gap_256",
            "vit_medium_patch16_reg4_gap_256",
            "vit_small_patch14_dinov2",
            "vit_small_patch14_reg4_dinov2",
            "vit_small_patch16_224",
            "vit_small_patch32_224",
            "vit_so150m2_patch16_reg1_gap_256",
            "vit_so150m_patch16_reg4_gap_256",
            "vit_so400m_patch14_siglip_224",
            "vit_tiny_patch16_224",
            "vit_wee_patch16_reg1_gap_256",
            "vit_xsmall_patch16_clip_224",
            "eva02_base_patch16_clip_224",
            "eva02_tiny_patch14_224",
            "eva_giant_patch14_224",
            "vit_7b_patch16_dinov3",
            "vit_betwixt_patch16_rope_reg4_gap_256",
            "vit_dlittle_patch16_reg1_gap_256",
            "vit_dpwee_patch16_reg1_gap_256",
            "vit_dwee_patch16_reg1_gap_256",
            "vit_medium_patch16_rope_reg1_gap_256",
            "vit_pe_core_tiny_patch16_384",
            "vit_pe_spatial_tiny_patch16_512",
            "vit_pwee_patch16_reg1_gap_256",
            "vit_relpos_base_patch16_cls_224",
            "vit_relpos_small_patch16_224",
            "vit_small_patch16_dinov3",
            "vit_small_patch16_rope_ape_224",
            "vit_small_plus_patch16_dinov3",
            "vit_srelpos_small_patch16_224",
            "aimv2_large_patch14_224",
            "cait_xxs24_224",
        ]
    },
    "samvit_base_patch16_224": ("samvit_base_patch16_224", DEIT | {"global_attn_indexes": (1,), "window_size": 2}, 16),
    "vit_base_mci_224": ("vit_base_mci_224", {"depth": 2, "img_size": 64}, 64),
    "beit3_base_patch16_224": ("beit3_base_patch16_224", DEIT, 16),
    "naflexvit_base_patch16_gap": ("naflexvit_base_patch16_gap", {"embed_dim": 32, "depth": 2, "num_heads": 4}, 32),
    "swin_tiny_patch4_window7_224": ("swin_tiny_patch4_window7_224", WINDOWS, 32),
    "swin_s3_tiny_224": ("swin_s3_tiny_224", WINDOWS | {"window_size": (4, 4)}, 32),
    "swinv2_tiny_window8_256": ("swinv2_tiny_window8_256", WINDOWS, 32),
    "swinv2_cr_tiny_224": ("swinv2_cr_tiny_224", WINDOWS, 32),
    **{
        name: (name, {"num_classes": 5}, 224)
        for name in [
            "coat_tiny",
            "convit_tiny",
            "davit_tiny",
            "hiera_tiny_224",
            "levit_128s",
            "mvitv2_tiny",
            "nest_tiny",
            "tnt_s_legacy_patch16_224",
            "twins_svt_small",
            "visformer_tiny",
            "volo_d1_224",
            "xcit_nano_12_p16_224",
            "efficientformer_l1",
            "vit_tiny_r_s16_p8_224",
            "tiny_vit_5m_224",
            "maxvit_tiny_rw_224",
            "pit_ti_224",
            "vitamin_small_224",
        ]
    },
    **{
        name: (name, {"num_classes": 5}, 64)
        for name in [
            "convnext_atto",
            "fastvit_t8",
            "fastvit_sa12",
            "mobilevit_xxs",
            "poolformer_s12",
            "pvt_v2_b0",
            "resnet18",
            "caformer_s18",
        ]
    },
    "csatv2": ("csatv2", {"num_classes": 5}, 512),
    "mixer_s32_224": ("mixer_s32_224", {"num_classes": 5}, 224),
}
"""What a model is called, its name in timm, what is set, and the size of its images."""

VIT: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer scale": {"init_values": 0.1},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "no qkv bias": {"qkv_bias": False},
    "proj drop": {"proj_drop_rate": 0.1},
    "qk_norm": {"qk_norm": True},
    "qk_norm and scale_attn_norm": {"qk_norm": True, "scale_attn_norm": True},
    "registers, map pool": {"reg_tokens": 2, "global_pool": "map"},
    "res post norm": {"block_fn": "ResPostBlock", "init_values": 0.1},
    "parallel things": {"block_fn": "ParallelThingsBlock"},
    "parallel block": {"block_fn": "ParallelScalingBlock"},
    "attn_layer diff": {"attn_layer": "diff"},
}
