"""Weights of a ViT, for the tests of this folder."""

from __future__ import annotations

import pytest
import timm
import torch


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """The weights of a ``test_vit`` that is not the one that ``build`` makes at random, classifier included."""
    torch.manual_seed(1)
    return timm.create_model("test_vit", num_classes=10).state_dict()
