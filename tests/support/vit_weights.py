"""Backbones of timm's smallest ViT, and their weights."""

from __future__ import annotations

import pytest

from zipeft.backbones.vit.backbone import ViT
from zipeft.errors import UserError


def random_vit(name: str) -> ViT:
    return ViT(name, pretrained=False)


def refusal(checkpoint: str) -> str:
    """The message with which a checkpoint is refused: one line, whatever is wrong."""
    with pytest.raises(UserError) as error:
        ViT(checkpoint).build()
    assert "\n" not in str(error.value)
    return str(error.value)
