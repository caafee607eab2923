"""A vision-language model of toys, methods that have learnt something on it, and questions with options."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from support.method_cases import methods_for
from support.toys import SIZE
from zipeft import registry
from zipeft.api.learner import Learner, build_learner
from zipeft.backbones.vlm import VLM
from zipeft.objectives.options import Options

METHODS = methods_for("image-instruction")
"""Those that go with a model that is shown images, and run by default."""


def toy_vlm(language: str = "toy_instruct", vision: str = "toy", **settings: Any) -> VLM:
    """Return a vision-language model of the toys, which are to be registered."""
    return VLM(language=language, vision=vision, **{"image_size": SIZE, **settings})


def learner_of(backbone: VLM, method: str, **settings: Any) -> Learner:
    """Return a method applied to a model, before its first step."""
    torch.manual_seed(0)
    adapt = registry.methods.make(method, settings).plugin.adapt
    return build_learner(adapt, backbone, backbone.build().requires_grad_(False), Options(), ()).eval()


def trained(backbone: VLM, method: str, **settings: Any) -> Learner:
    """Return a method that has learnt something: whatever trains is moved at random, gates away from zero too."""
    learner = learner_of(backbone, method, **settings)
    with torch.no_grad():
        for parameter in learner.trainable().values():
            parameter += 0.3 * torch.randn_like(parameter)
    return learner


def item(question: int, options: tuple[int, ...], image: int | None = None, width: int = 64) -> dict[str, Tensor]:
    """Return the inputs of a question of so many tokens, of options of so many each, and perhaps with an image.

    ``image`` seeds the features, which are ``width``; the question's middle tokens ask.
    """
    generator = torch.Generator().manual_seed(question)
    length = question + sum(options)
    branches = [0] * question + [number for number, count in enumerate(options, 1) for _ in range(count)]
    features = torch.zeros(width)
    if image is not None:
        features = torch.randn(width, generator=torch.Generator().manual_seed(100 + image))
    return {
        "input_ids": torch.randint(3, 14, (length,), generator=generator),
        "attention_mask": torch.ones(length, dtype=torch.long),
        "branches": torch.tensor(branches),
        "question": (torch.arange(length) > 0) & (torch.arange(length) < question - 1),
        "image": features,
        "has_image": torch.tensor([image is not None]),
    }


def batch_of(backbone: VLM, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return a batch of items."""
    return backbone.collate(items)
