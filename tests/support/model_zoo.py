"""Small models at random weights, one for each family of attention that a splice joins."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import open_clip
import timm
import torch
import transformers
from torch import Tensor, nn

VOCABULARY = 61
PADDING = 1


@dataclass(frozen=True)
class Entry:
    """A model of the zoo: how to build it, what to feed it, and which attention kernels it can be switched to."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Tensor]]
    output: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    kernels: tuple[str, ...] = ("sdpa",)

    def frozen(self, kernel: str = "sdpa", dtype: torch.dtype = torch.float32) -> nn.Module:
        """Return the model in evaluation mode with random weights, always the same, none of which trains."""
        model = copy.deepcopy(_drawn(self, dtype))
        use_kernel(model, kernel)
        torch.manual_seed(0)
        return model

    def run(self, model: nn.Module) -> Tensor:
        """Return the logits or features of the standard inputs, floating-point ones in the model's dtype."""
        dtype = next(model.parameters()).dtype
        inputs = {name: x.to(dtype) if x.is_floating_point() else x for name, x in self.inputs().items()}
        return self.output(model, inputs)


@cache
def _drawn(entry: Entry, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return randomise(entry.build()).to(dtype).requires_grad_(False).eval()


def twin(model: nn.Module) -> nn.Module:
    """Return a copy whose parameters lie in the same memory, with gradients of their own: for models that are large,
    and for tests that change no weight."""
    return copy.deepcopy(model, {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()})


def randomise(model: nn.Module) -> nn.Module:
    """Draw weights of such a size that every projection, bias and norm matters; library defaults are near zero."""
    for parameter in model.parameters():
        with torch.no_grad():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def use_kernel(model: nn.Module, kernel: str) -> None:
    """Switch between the fused kernel ("sdpa") and the explicit softmax ("eager")."""
    if isinstance(model, transformers.PreTrainedModel):
        model.set_attn_implementation(kernel)
    for module in model.modules():
        if hasattr(module, "fused_attn"):  # timm's
            module.fused_attn = kernel == "sdpa"


def snapshot(model: nn.Module) -> dict:
    """Everything that ``detach`` has to restore, as values and identities."""
    configs = {
        id(c): c._attn_implementation for m in model.modules() if hasattr(c := getattr(m, "config", 0), "to_dict")
    }
    return {
        "modules": [(name, id(module), type(module)) for name, module in model.named_modules()],
        "parameters": [(name, id(p), p._version, p.requires_grad) for name, p in model.named_parameters()],
        "buffers": [(name, id(b)) for name, b in model.named_buffers()],
        "attributes": {name: set(vars(module)) for name, module in model.named_modules()},
        "hooks": {
            (name, key): list(value)
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if "hooks" in key
        },
        "forward": {name: module.forward.__func__ for name, module in model.named_modules()},
        "kernels": configs,
    }


@contextmanager
def ordinary_path() -> Iterator[None]:
    """Keep PyTorch from the separate inference path of ``nn.MultiheadAttention``, whose rounding differs."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def randomise_prompts(prompts: list[nn.Module], seed: int = 1) -> list[nn.Module]:
    """Give prompts values and gates away from zero, so that every gate of them matters."""
    generator = torch.Generator().manual_seed(seed)
    for prompt in prompts:
        with torch.no_grad():
            for name, parameter in prompt.named_parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) + 0.5 * (name == "gate"))
    return prompts


def text(batch: int = 2, tokens: int = 7, padded: int = 2) -> dict[str, Tensor]:
    """Token ids, of which the last example ends in padding."""
    ids = torch.randint(2, VOCABULARY, (batch, tokens), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    if padded:
        ids[-1, -padded:] = PADDING
        mask[-1, -padded:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(4))


DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": PADDING,
    "bos_token_id": 0,
    "eos_token_id": None,
}
ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": PADDING,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama(**settings) -> nn.Module:
    """Biases everywhere, and a head dimension that is not width / heads."""
    settings = {"head_dim": 12, "attention_bias": True} | settings
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER | settings))


def mistral(**settings) -> nn.Module:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**DECODER | {"sliding_window": 3} | settings))


def qwen3() -> nn.Module:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER, head_dim=12))


def gemma3() -> nn.Module:
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 3}
    config = transformers.Gemma3TextConfig(**DECODER, **layers, head_dim=12, query_pre_attn_scalar=20)
    return transformers.Gemma3ForCausalLM(config)


def olmo2() -> nn.Module:
    return transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**DECODER))


def roberta(**settings) -> nn.Module:
    return transformers.RobertaForMaskedLM(transformers.RobertaConfig(**ENCODER | settings))


def bert(**settings) -> nn.Module:
    return transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER | settings))


def hf_vit() -> nn.Module:
    config = transformers.ViTConfig(**TOWER, image_size=16, patch_size=4, hidden_dropout_prob=0.0)
    return transformers.ViTForImageClassification(config)


def hf_clip() -> nn.Module:
    text_config = TOWER | {"vocab_size": VOCABULARY, "max_position_embeddings": 16, "eos_token_id": VOCABULARY - 1}
    vision_config = TOWER | {"image_size": 16, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=24)
    return transformers.CLIPModel(config)


def timm_vit(**settings) -> nn.Module:
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 10}
    return timm.models.VisionTransformer(**size, **settings)


def timm_rope(name: str, **settings) -> nn.Module:
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 10}
    return timm.create_model(name, **size, **settings)


def native_clip() -> nn.Module:
    vision = {"image_size": 16, "patch_size": 4, "width": 32, "layers": 2, "head_width": 8}
    words = {"vocab_size": VOCABULARY, "context_length": 7, "width": 24, "heads": 3, "layers": 2}
    return open_clip.model.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=words)


def torch_encoder(**settings) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 48, dropout=0.0, batch_first=True, **settings)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def both_towers(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    out = model(**inputs)
    return torch.cat([out.image_embeds, out.text_embeds], dim=-1)


def native_towers(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return torch.cat([model.encode_image(inputs["image"]), model.encode_text(inputs["text"])], dim=-1)


def logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(**inputs).logits


def image_and_text(pixels: str = "pixel_values") -> dict[str, Tensor]:
    return {pixels: images(), **text()}


def hidden_states() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {"src": torch.randn(2, 7, 32, generator=generator)}


def called(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(**inputs)


BOTH = ("sdpa", "eager")
ZOO = {
    "llama": Entry(llama, text, logits, BOTH),
    "mistral": Entry(mistral, text, logits, BOTH),
    "qwen3": Entry(qwen3, text, logits, BOTH),
    "gemma3": Entry(gemma3, text, logits, BOTH),
    "olmo2": Entry(olmo2, text, logits, BOTH),
    "roberta": Entry(roberta, text, logits, BOTH),
    "bert": Entry(bert, text, logits, BOTH),
    "hf_vit": Entry(hf_vit, lambda: {"pixel_values": images()}, logits, BOTH),
    "hf_clip": Entry(hf_clip, image_and_text, both_towers, BOTH),
    "timm_vit": Entry(timm_vit, lambda: {"x": images()}, called, BOTH),
    "timm_qk_norm": Entry(lambda: timm_vit(qk_norm=True, scale_attn_norm=True), lambda: {"x": images()}, called, BOTH),
    "timm_dinov3": Entry(lambda: timm_rope("vit_small_patch16_dinov3"), lambda: {"x": images()}, called, BOTH),
    "timm_eva02": Entry(lambda: timm_rope("eva02_base_patch14_448"), lambda: {"x": images()}, called),
    "open_clip": Entry(native_clip, lambda: {"image": images(), "text": text()["input_ids"]}, native_towers),
    "torch_encoder": Entry(torch_encoder, hidden_states, called),
}
