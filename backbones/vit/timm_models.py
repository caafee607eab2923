"""The vision transformers of timm: which names there are, and how a model is built."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zipeft.errors import UserError

if TYPE_CHECKING:
    from timm.models import PretrainedCfg
    from timm.models.vision_transformer import VisionTransformer

MODULES = {"vision_transformer", "deit", "vision_transformer_hybrid"}
"""The modules of timm whose models are ``VisionTransformer``."""


def check_name(name: str) -> None:
    """Raise ``UserError`` unless ``name`` is a ``VisionTransformer`` of timm, its tag (after the dot) included."""
    import timm

    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        hint = _suggestion(architecture, known) or ": timm.list_models('vit_*') lists what it has"
        raise UserError(f"unknown model {architecture!r} of timm{hint}")
    tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        hint = _suggestion(tag, tags) or f": it has {', '.join(tags) or 'none'}"
        raise UserError(f"unknown tag {tag!r} of timm's {architecture}{hint}")
    if not timm.models.is_model_in_modules(architecture, MODULES):
        raise UserError(_not_a_vit(architecture))


def _suggestion(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def _not_a_vit(name: str) -> str:
    return f"timm's {name} is no VisionTransformer with ordinary attention: take one such as vit_base_patch16_224"


def create(name: str, random: bool) -> VisionTransformer:
    """Return timm's model without a classifier; if not ``random``, its parameters are NaN until they are loaded."""
    import timm
    import torch
    from timm.models.vision_transformer import Attention, VisionTransformer

    options: dict[str, Any] = {} if random else {"weight_init": "skip"}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = timm.create_model(name, num_classes=0, dynamic_img_size=True, dynamic_img_pad=True, **options)
    if not isinstance(model, VisionTransformer) or not len(model.blocks):
        raise UserError(_not_a_vit(name))
    if any(type(getattr(block, "attn", None)) is not Attention for block in model.blocks):
        raise UserError(_not_a_vit(name))
    if not random:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
    return model


def config_of(name: str) -> PretrainedCfg:
    """Return what timm knows of the published weights of a model that ``check_name`` lets pass."""
    import timm

    config = timm.get_pretrained_cfg(name)
    assert config is not None  # every VisionTransformer of timm is registered with one
    return config


def mean_and_std(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    config = config_of(name)
    return config.mean, config.std


def full_name(name: str) -> str:
    """Return ``name`` with its tag: which weights a bare name means is a matter of timm's version."""
    tag = config_of(name).tag
    architecture = name.partition(".")[0]
    return f"{architecture}.{tag}" if tag else architecture
