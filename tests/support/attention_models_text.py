"""Small random text models of transformers, by which the table of attention classes is measured."""

from __future__ import annotations

from typing import Any

from support.form_models import DBRX, DENSE, DISTIL, GPT, LATENT, NEO, OWN_ENDS, RELATIVE, T5, XGLM
from support.model_zoo import DECODER, ENCODER, VOCABULARY

EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "intermediate_size_mlp": 48,
    "no_rope_layers": [1, 1],
}
FULL = {"layer_types": ["full_attention"] * 2}
HALF = {"layer_types": ["linear_attention", "full_attention"]}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 16}
LONG = {**YARN, "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
LLAMA3 = {**YARN, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MAMBA = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 4,
    "use_mamba_kernels": False,
}


def plain(*names: str, **settings: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """Decoders that take the settings of a LLaMA."""
    return {name.lower() if name.isalnum() else name: (name, DECODER | settings) for name in names}


DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    **plain("Apertus", "Arcee", "BitNet", "Cohere", "Cohere2", "Cwm", "Exaone4", "Gemma", "Glm", "Glm4", "Granite"),
    **plain("Llama", "Ministral3", "Mistral", "Nemotron", "Olmo", "Olmo2"),
    **plain("Olmo3", "OPT", "Phi", "Qwen2", "Qwen3", "SeedOss", "SmolLM3", "StableLm", "Starcoder2", "VaultGemma"),
    **plain("Ernie4_5", "NanoChat", "Persimmon", "Phi3", "GPTNeoX", "Doge", "DiffLlama", "Gemma2"),
    **plain("Glm4Moe", "GptOss", "GraniteMoe", "Mixtral", "Olmoe", "Phimoe", "Qwen2Moe", **EXPERTS),
    **plain("Qwen3Moe", **EXPERTS),
    **plain("Helium", "HunYuanDenseV1", "Ministral", head_dim=8),
    **plain("Dots1", **EXPERTS, n_shared_experts=1, first_k_dense_replace=1),
    "cohere (qk norm)": ("Cohere", DECODER | {"use_qk_norm": True}),
    "gemma2 (no softcap)": ("Gemma2", DECODER | {"attn_logit_softcapping": None}),
    "gemma3 text": ("Gemma3Text", DECODER | {"sliding_window": 3}),
    "gemma3n text": (
        "Gemma3nText",
        DECODER
        | {"head_dim": 8, "vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 0, "laurel_rank": 4}
        | {"hidden_size_per_layer_input": 8, "intermediate_size": [48, 48], "activation_sparsity_pattern": [0.0, 0.0]},
    ),
    "gemma4 text": ("Gemma4Text", DECODER | {"head_dim": 8, "vocab_size_per_layer_input": VOCABULARY}),
    "gptoss (default rope)": (
        "GptOss",
        DECODER | EXPERTS | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    ),
    "llama (llama3 rope)": ("Llama", DECODER | {"rope_parameters": LLAMA3}),
    "llama (longrope)": ("Llama", DECODER | {"rope_parameters": LONG}),
    "llama (YaRN)": ("Llama", DECODER | {"rope_parameters": YARN}),
    "llama (YaRN, attention_factor 1)": ("Llama", DECODER | {"rope_parameters": YARN | {"attention_factor": 1.0}}),
    "llama4 text": ("Llama4Text", DECODER | EXPERTS | {"use_qk_norm": True, "head_dim": 8}),
    "minimax": ("MiniMax", DECODER | EXPERTS | HALF),
    "ministral3 (YaRN, llama 4 scaling)": (
        "Ministral3",
        DECODER | {"rope_parameters": YARN | {"llama_4_scaling_beta": 0.1}},
    ),
    "mistral (wide heads)": ("Mistral", DECODER | {"head_dim": 16}),
    "modernbert_decoder": ("ModernBertDecoder", DECODER | {"cls_token_id": 0, "sep_token_id": 2}),
    "olmo (clip_qkv)": ("Olmo", DECODER | {"clip_qkv": 0.5}),
    "phi (qk layernorm)": ("Phi", DECODER | {"qk_layernorm": True}),
    "phi3 (longrope)": (
        "Phi3",
        DECODER | {"rope_parameters": LONG, "original_max_position_embeddings": 16, "max_position_embeddings": 64},
    ),
    "qwen2 (sliding)": ("Qwen2", DECODER | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
    "qwen3 (YaRN)": ("Qwen3", DECODER | {"rope_parameters": YARN}),
    "qwen3_5 text": ("Qwen3_5Text", DECODER | HALF | LINEAR | {"head_dim": 8}),
    "qwen3_next": ("Qwen3Next", DECODER | EXPERTS | HALF | LINEAR | {"head_dim": 8}),
    "stablelm (qk layernorm)": ("StableLm", DECODER | {"qk_layernorm": True}),
    "bamba": ("Bamba", DECODER | MAMBA | {"attn_layer_indices": [1]}),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        DECODER | EXPERTS | MAMBA | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 16},
    ),
    "jamba": ("Jamba", DECODER | EXPERTS | MAMBA | {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_conv": 2}),
    "lfm2": ("Lfm2", DECODER | {"layer_types": ["conv", "full_attention"], "block_dim": 32}),
    "recurrent_gemma": (
        "RecurrentGemma",
        DECODER | {"block_types": ["recurrent", "attention"], "attention_window_size": 8, "lru_width": 32},
    ),
    "zamba2": (
        "Zamba2",
        DECODER | MAMBA | {"layers_block_type": ["mamba", "hybrid"], "n_mamba_heads": 4, "num_mem_blocks": 1},
    ),
    "deepseek_v2": ("DeepseekV2", DECODER | LATENT | DENSE),
    "deepseek_v3": ("DeepseekV3", DECODER | LATENT | DENSE),
    "minicpm3": ("MiniCPM3", DECODER | LATENT),
    "longcat_flash": (
        "LongcatFlash",
        DECODER
        | LATENT
        | {"num_layers": 2, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 16, "head_dim": 4, "qk_head_dim": 12}
        | {"zero_expert_num": 2, "moe_topk": 2},
    ),
    "gpt2": ("GPT2", GPT | OWN_ENDS),
    "gpt_bigcode": ("GPTBigCode", GPT | OWN_ENDS),
    "codegen": ("CodeGen", GPT | OWN_ENDS | {"rotary_dim": 4, "n_ctx": 64}),
    "gptj": ("GPTJ", GPT | OWN_ENDS | {"rotary_dim": 4}),
    "gpt_neo": ("GPTNeo", NEO | OWN_ENDS | {"attention_types": [[["global", "local"], 1]], "window_size": 3}),
    "bloom": ("Bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4} | OWN_ENDS),
    "falcon": ("Falcon", DECODER | OWN_ENDS),
    "mpt": ("Mpt", {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4} | OWN_ENDS),
    "xglm": ("XGLM", XGLM | OWN_ENDS),
    "biogpt": ("BioGpt", ENCODER | OWN_ENDS),
    "bert (as decoder)": ("BertLMHead", ENCODER | {"is_decoder": True}),
    "mamba (no attention)": ("Mamba", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}),
    "dbrx": ("Dbrx", DBRX | OWN_ENDS),
}
"""What a causal language model is called here, its class, and its settings."""

SMALLER = {"embedding_size": 32}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("Albert", ENCODER | {"embedding_size": 16}),
    "bert": ("Bert", ENCODER),
    "bert_generation": ("BertGenerationEncoder", ENCODER),
    "big_bird": ("BigBird", ENCODER | {"attention_type": "original_full"}),
    "big_bird (block sparse)": (
        "BigBird",
        ENCODER | {"attention_type": "block_sparse", "block_size": 1, "num_random_blocks": 1},
    ),
    "camembert": ("Camembert", ENCODER),
    "convbert": ("ConvBert", ENCODER | SMALLER),
    "data2vec-text": ("Data2VecText", ENCODER),
    "deberta": ("Deberta", ENCODER | RELATIVE),
    "deberta_v2": ("DebertaV2", ENCODER | RELATIVE | {"share_att_key": True, "position_buckets": 4}),
    "distilbert": ("DistilBert", DISTIL),
    "electra": ("Electra", ENCODER | SMALLER),
    "ernie": ("Ernie", ENCODER),
    "esm": ("Esm", ENCODER | {"position_embedding_type": "rotary"}),
    "eurobert": ("EuroBert", DECODER),
    "fnet (no attention)": ("FNet", ENCODER),
    "jina_embeddings_v3": ("JinaEmbeddingsV3", ENCODER),
    "layoutlm": ("LayoutLM", ENCODER),
    "longformer": ("Longformer", ENCODER | {"attention_window": 4}),
    "megatron_bert": ("MegatronBert", ENCODER),
    "mobilebert": ("MobileBert", ENCODER | {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}),
    "modernbert": ("ModernBert", ENCODER | {"cls_token_id": 0}),
    "mpnet": ("MPNet", ENCODER),
    "nomic_bert": ("NomicBert", ENCODER),
    "openai gpt": ("OpenAIGPT", GPT),
    "rembert": ("RemBert", ENCODER | OWN_ENDS | {"input_embedding_size": 16}),
    "roberta": ("Roberta", ENCODER),
    "roberta_prelayernorm": ("RobertaPreLayerNorm", ENCODER),
    "roformer": ("RoFormer", ENCODER | SMALLER),
    "squeezebert": ("SqueezeBert", ENCODER | SMALLER),
    "xlm_roberta": ("XLMRoberta", ENCODER),
    "xlm_roberta_xl": ("XLMRobertaXL", ENCODER),
    "xlnet": ("XLNet", {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
    "xmod": ("Xmod", ENCODER | {"languages": ["en"], "default_language": "en"}),
}

PAIR = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "max_position_embeddings": 64,
}
PAIR |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
PAIR |= {"pad_token_id": 1, "decoder_start_token_id": 2}
PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "bart (encoder-decoder)": ("Bart", PAIR),
    "marian (encoder-decoder)": ("Marian", PAIR),
    "t5 (encoder-decoder)": ("T5", T5 | {"decoder_start_token_id": 1}),
    "t5gemma (encoder-decoder)": (
        "T5Gemma",
        {"encoder": DECODER | {"head_dim": 8}, "decoder": DECODER | {"head_dim": 8}},
    ),
}
