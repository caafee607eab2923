"""The float64 reference of every joined layer of the models of the zoo, with the mask that the layer sees."""

from __future__ import annotations

import functools

from support.model_zoo import text
from support.reference import causal_mask, of_multihead, of_timm, of_transformers, padding_mask, rms_norm


def decoder(model, window=(None, None), theta=(10000.0, 10000.0), norms=None, **settings):
    """Yield (attention, its reference, its mask) of a decoder's layers."""
    padding = padding_mask(text()["attention_mask"])
    for i, block in enumerate(model.model.layers):
        attention = block.self_attn
        layer_norms = {} if norms is None else norms(attention)
        dim = attention.k_proj.out_features // 2
        layer = of_transformers(attention, attention.o_proj, dim, rope_theta=theta[i], **layer_norms, **settings)
        yield attention, layer, causal_mask(7, window[i]) + padding


def rms_norms(attention, epsilon=1e-6, **settings):
    norm = functools.partial(rms_norm, epsilon=epsilon, **settings)
    return {"query_norm": norm(attention.q_norm), "key_norm": norm(attention.k_norm)}


def encoder(layers):
    """BERT's and RoBERTa's self-attention ends before the output projection, which is in another module."""
    for block in layers:
        yield (
            block.attention.self,
            of_transformers(block.attention.self, None, 8),
            padding_mask(text()["attention_mask"]),
        )


def clip(model):
    for layers in (model.vision_model.encoder.layers, model.text_model.encoder.layers):
        words = layers is model.text_model.encoder.layers
        mask = causal_mask(7) + padding_mask(text()["attention_mask"]) if words else None
        for block in layers:
            yield block.self_attn, of_transformers(block.self_attn, block.self_attn.out_proj, 8), mask


def native_clip(model):
    for tower, mask in ((model.visual.transformer, None), (model.transformer, causal_mask(7))):
        for block in tower.resblocks:
            yield block.attn, of_multihead(block.attn), mask


def timm_rope(model):
    angles = model.rope.get_embed(shape=(4, 4) if model.dynamic_img_size else None)
    return ((block.attn, of_timm(block.attn, angles), None) for block in model.blocks)


LAYERS = {
    "llama": decoder,
    "mistral": lambda model: decoder(model, window=(3, 3)),
    "qwen3": lambda model: decoder(model, norms=rms_norms),
    "gemma3": lambda model: decoder(
        model,
        window=(3, None),
        theta=(10000.0, 1000000.0),
        norms=functools.partial(rms_norms, offset=1.0),
        scale=20**-0.5,
    ),
    "olmo2": lambda model: decoder(model, norms=functools.partial(rms_norms, epsilon=1e-5, all_heads=True)),
    "roberta": lambda model: encoder(model.roberta.encoder.layer),
    "bert": lambda model: encoder(model.bert.encoder.layer),
    "hf_vit": lambda model: (
        (block.attention, of_transformers(block.attention, block.attention.o_proj, 8), None)
        for block in model.vit.layers
    ),
    "hf_clip": clip,
    "timm_vit": lambda model: ((block.attn, of_timm(block.attn), None) for block in model.blocks),
    "timm_qk_norm": lambda model: ((block.attn, of_timm(block.attn), None) for block in model.blocks),
    "timm_dinov3": timm_rope,
    "timm_eva02": timm_rope,
    "open_clip": native_clip,
    "torch_encoder": lambda model: ((layer.self_attn, of_multihead(layer.self_attn), None) for layer in model.layers),
}


def recorded(modules, run):
    """Return (input, result) of each attention layer while ``run`` runs the model."""
    seen = {}

    def keep(module, args, kwargs, result):
        seen[module] = args[0] if args else kwargs["hidden_states"], result[0] if isinstance(result, tuple) else result

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in modules]
    run()
    for handle in handles:
        handle.remove()
    return [seen[module] for module in modules]
