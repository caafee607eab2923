"""Saved adapters of a vision-language model of toys, and images to ask them about."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from support.vision_language import toy_vlm
from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import save_adapter
from zipeft.api.learner import Learner, build_learner
from zipeft.backbones.vlm import VLM
from zipeft.registry import Named

COLOURS = ("red", "green", "blue", "white")


def save_images(folder: Path) -> Path:
    """Save an image of each colour and return the folder."""
    for colour in COLOURS:
        Image.new("RGB", (20, 30), colour).save(folder / f"{colour}.png")
    return folder


def saved(
    folder: Path, method: str = "zero_gated", task: str = "toy_vlm", backbone: VLM | None = None, scale: float = 1.0
) -> tuple[Path, Learner]:
    """Save an adapter of which everything was drawn at random, gates and projection too; return it and its learner.

    An image stands for two tokens where it enters as tokens. ``backbone`` None takes one of toys. In a
    deep model a smaller ``scale`` keeps rounding from deciding.
    """
    backbone = backbone or toy_vlm(image_tokens=2)
    plugin, asked = registry.methods.get(method)(), registry.tasks.get(task)()
    model = backbone.build().requires_grad_(False)
    learner = build_learner(plugin.adapt, backbone, model, asked.objective("films", []), []).eval()
    torch.manual_seed(3)
    for name, parameter in learner.trainable().items():
        torch.nn.init.normal_(parameter, std=scale * (0.3 if "projection" in name else 1.0))
    parts = Named("vlm", backbone), Named(method, plugin), Named(task, asked)
    return save_adapter(folder / "adapter", learner, AdapterRecord.of(*parts, "films", [], run="0123")), learner
