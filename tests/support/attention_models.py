"""Every model of the table of attention classes: how it is built, fed, and asked for the words that it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import open_clip
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

from support import attention_models_text as texts
from support import attention_models_vision as vision
from support.model_zoo import VOCABULARY, images, text


@dataclass(frozen=True)
class Model:
    """One model of the table.

    ``inputs`` are what its forward takes, images and sound in float32, and ``writes`` says whether it generates.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Tensor]]
    output: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    writes: bool = False

    def run(self, model: nn.Module) -> Tensor:
        """Return the model's first output for the standard inputs, in its dtype."""
        dtype = next(model.parameters()).dtype
        inputs = {key: x.to(dtype) if x.is_floating_point() else x for key, x in self.inputs().items()}
        torch.manual_seed(5)  # some hide patches by chance
        return self.output(model, inputs)


def words() -> dict[str, Tensor]:
    return {"input_ids": text(padded=0)["input_ids"]}


def pairs() -> dict[str, Tensor]:
    ids = words()["input_ids"]
    return {"input_ids": ids, "decoder_input_ids": ids.flip(0)}


def pixels(size: int = 16) -> dict[str, Tensor]:
    return {"pixel_values": drawn(2, 3, size, size)}


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


FED: dict[str, Callable[[], dict[str, Tensor]]] = {
    "text": words,
    "image": pixels,
    "large": lambda: pixels(64),
    "both": lambda: {**words(), **pixels()},
    "video": lambda: {"pixel_values": drawn(2, 2, 3, 16, 16)},
    "frames": lambda: {"input_values": drawn(2, 16, 16)},
    "sound": lambda: {"input_values": drawn(2, 64)},
    "speech": lambda: {"input_features": drawn(2, 8, 16), "decoder_input_ids": words()["input_ids"]},
}


def of_transformers(kind: str, settings: dict[str, Any], head: str = "Model") -> nn.Module:
    """Build a model by the name of its config; a causal one with its head on words."""
    name = {"BertLMHead": "Bert", "BertGenerationEncoder": "BertGeneration", "OPT": "OPT"}.get(kind, kind)
    config = getattr(transformers, f"{name}Config")(**settings)
    names = (
        [f"{kind}ForCausalLM", f"{kind}LMHeadModel", f"{kind}{head}", kind]
        if head == "ForCausalLM"
        else [f"{kind}Model"]
    )
    names += [f"{kind}", f"{kind}Model", f"{kind.removesuffix('Text')}ForCausalLM"]
    found = next(getattr(transformers, each) for each in names if hasattr(transformers, each))
    return found(config)


def called(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Return the first tensor that a model returns, without a cache where it would make one."""
    takes = getattr(model, "config", None)
    extra = {"use_cache": False} if "input_ids" in inputs and hasattr(takes, "use_cache") else {}
    result = model(**inputs, **extra)
    if hasattr(result, "image_embeds") and result.image_embeds is not None:
        return torch.cat([result.image_embeds.flatten(), result.text_embeds.flatten()])
    return next(x for x in result.values() if isinstance(x, Tensor) and x.is_floating_point())


def of_image(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["x"])


def both_towers(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    features = model(inputs["image"], inputs["text"])
    features = (
        [features]
        if isinstance(features, Tensor)
        else list(features.values() if isinstance(features, dict) else features)
    )
    return torch.cat([x.flatten() for x in features if isinstance(x, Tensor)])


def timm_vit(settings: dict[str, Any]) -> nn.Module:
    blocks = timm.models.vision_transformer
    settings = {key: getattr(blocks, x) if key == "block_fn" else x for key, x in settings.items()}
    return blocks.VisionTransformer(**vision.DEIT, **settings)


def clip(vision_settings: dict[str, Any], text_settings: dict[str, Any], kind: str = "CLIP") -> nn.Module:
    if vision_settings.get("timm_model_name") or text_settings.get("embed_cls"):
        kind = "CustomTextCLIP"
    images_config = {"image_size": 16, "patch_size": 4, "width": 32, "layers": 2, "head_width": 8} | vision_settings
    words_config = {"vocab_size": VOCABULARY, "context_length": 7, "width": 24, "heads": 3, "layers": 2} | text_settings
    return getattr(open_clip.model, kind)(16, images_config, words_config)


def seq2seq(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["src"], inputs["tgt"])


def itself(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["src"])


def attended(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["src"], inputs["src"], inputs["src"])[0]


def narrowed(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["src"], *[inputs["src"][..., :16]] * 2)[0]


CLIPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CLIP": ({}, {}),
    "attentional_pool": ({"attentional_pool": True, "attn_pooler_heads": 4}, {}),
    "avg pool": ({"pool_type": "avg"}, {}),
    "block_type custom": ({"block_type": "custom"}, {"block_type": "custom"}),
    "custom attn norm": ({"block_type": "custom", "scale_attn": True}, {}),
    "custom inner norm": ({"block_type": "custom", "scale_attn_inner": True}, {}),
    "custom qk_norm": ({"block_type": "custom", "qk_norm": True}, {}),
    "custom scale_heads": ({"block_type": "custom", "scale_heads": True}, {}),
    "layer scale": ({"ls_init_value": 0.1}, {"ls_init_value": 0.1}),
    "patch dropout": ({"patch_dropout": 0.1}, {}),
    "final_ln_after_pool": ({"final_ln_after_pool": True}, {}),
    "no_causal_mask": ({}, {"no_causal_mask": True}),
    "embed_cls text": ({}, {"embed_cls": True}),
    "ModifiedResNet": ({"layers": [1, 1, 1, 1], "width": 16, "image_size": 64, "patch_size": None}, {}),
    "timm tower vit": (
        {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False, "image_size": 224},
        {},
    ),
    "timm tower convnext": (
        {"timm_model_name": "convnext_atto", "timm_model_pretrained": False, "image_size": 64},
        {},
    ),
    "timm tower eva02": (
        {"timm_model_name": "eva02_tiny_patch14_224", "timm_model_pretrained": False, "image_size": 224},
        {},
    ),
}
HIDDEN = {"src": drawn(7, 2, 32), "tgt": drawn(5, 2, 32)}
LAYER: dict[str, Any] = {"d_model": 32, "nhead": 4, "dim_feedforward": 48, "dropout": 0.0}


def encoder(**settings: Any) -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(**LAYER | settings), 2, enable_nested_tensor=False)


def decoder() -> nn.Module:
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(**LAYER), 2)


TORCH: dict[str, tuple[Callable[[], nn.Module], Callable]] = {
    "MultiheadAttention": (lambda: nn.MultiheadAttention(32, 4), attended),
    "MultiheadAttention (add_bias_kv)": (lambda: nn.MultiheadAttention(32, 4, add_bias_kv=True), attended),
    "MultiheadAttention (add_zero_attn)": (lambda: nn.MultiheadAttention(32, 4, add_zero_attn=True), attended),
    "MultiheadAttention (kdim, vdim)": (lambda: nn.MultiheadAttention(32, 4, kdim=16, vdim=16), narrowed),
    "Transformer": (lambda: nn.Transformer(32, 4, 2, 2, 48, 0.0), seq2seq),
    "TransformerDecoder": (decoder, seq2seq),
    "TransformerEncoder (batch first)": (lambda: encoder(batch_first=True), itself),
    "TransformerEncoder (no bias)": (lambda: encoder(bias=False), itself),
    "TransformerEncoder (norm first)": (lambda: encoder(norm_first=True), itself),
    "TransformerEncoder (sequence first)": (encoder, itself),
}
TORCHVISION: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "maxvit_t": (torchvision.models.maxvit_t, 224),
    "resnet18": (torchvision.models.resnet18, 64),
    "swin_t": (torchvision.models.swin_t, 64),
    "vit_b_16 (small)": (lambda: torchvision.models.VisionTransformer(16, 4, 2, 4, 32, 48), 16),
}


def models() -> list[Model]:
    """Return the models of the table, in its order."""
    found = [
        Model("transformers", name, partial(of_transformers, kind, settings, "ForCausalLM"), words, called, writes=True)
        for name, (kind, settings) in texts.DECODERS.items()
    ]
    found += [
        Model("transformers", name, partial(of_transformers, kind, settings), words, called)
        for name, (kind, settings) in texts.ENCODERS.items()
    ]
    found += [
        Model("transformers", name, partial(of_transformers, kind, settings), pairs, called)
        for name, (kind, settings) in texts.PAIRS.items()
    ]
    found += [
        Model("transformers", name, partial(of_transformers, kind, settings), FED[fed], called)
        for name, (kind, settings, fed) in vision.TRANSFORMERS.items()
    ]
    found += [
        Model("timm", name, partial(timm.create_model, kind, **settings), partial(square, size), of_image)
        for name, (kind, settings, size) in vision.TIMM.items()
    ]
    found += [
        Model("timm", f"VisionTransformer ({name})", partial(timm_vit, settings), partial(square, 16), of_image)
        for name, settings in vision.VIT.items()
    ]
    found += [
        Model("open_clip", name, partial(clip, *settings), partial(captioned, *settings), both_towers)
        for name, settings in CLIPS.items()
    ]
    found += [
        Model("open_clip", f"{kind}", partial(clip, {}, {}, kind), partial(captioned, {}, {}), both_towers)
        for kind in ("CustomTextCLIP",)
    ]
    found += [Model("torch", name, build, lambda: HIDDEN, output) for name, (build, output) in TORCH.items()]
    found += [
        Model("torchvision", name, build, partial(square, size), of_image)
        for name, (build, size) in TORCHVISION.items()
    ]
    return sorted(found, key=lambda model: (model.library, model.name.lower()))


def square(size: int) -> dict[str, Tensor]:
    return {"x": drawn(2, 3, size, size)}


def captioned(vision_settings: dict[str, Any], _text_settings: dict[str, Any]) -> dict[str, Tensor]:
    size = vision_settings.get("image_size", 16)
    return {"image": images() if size == 16 else drawn(2, 3, size, size), "text": text()["input_ids"]}
