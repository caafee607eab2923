"""Small CLIP models with named classes, learners of them, and open_clip's own zero shot, for tests."""

from __future__ import annotations

import open_clip
import torch
from torch import nn

from support.toys import SIZE, ToyCLIP
from zipeft import registry
from zipeft.api.learner import build_learner
from zipeft.backbones.clip.matcher import ZeroShotCLIP
from zipeft.objectives.matching import Matching

CLASSES = ("red", "green", "light_blue")
TEMPLATES = ("a photo of a {}.", "an icon of {}", "{}")
BACKBONE = ToyCLIP()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def named(*templates: str, classes=CLASSES, backbone=BACKBONE) -> ZeroShotCLIP:
    model = backbone.build().requires_grad_(False)
    backbone.name_classes(model, classes, templates or TEMPLATES)
    return model


def learner_of(method: str, objective=None, classes=CLASSES, backbone=BACKBONE, **settings):
    torch.manual_seed(0)
    method, objective = registry.methods.get(method)(**settings), objective or Matching(TEMPLATES)
    model = backbone.build().requires_grad_(False)
    return build_learner(method.apply, backbone, model, method.objective(objective), classes)


def steps(learner, inputs: torch.Tensor, count: int = 2, rate: float = 0.05) -> None:
    """Take optimiser steps towards the classes in turn."""
    optimizer = torch.optim.SGD(learner.trainable().values(), lr=rate)
    for _ in range(count):
        learner.train()
        loss = nn.functional.cross_entropy(learner(inputs), torch.arange(len(inputs)) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learner.eval()


def zero_shot(clip: nn.Module, tokenizer, inputs: torch.Tensor, classes, templates) -> torch.Tensor:
    """The logits (batch, classes) as open_clip's own zero-shot evaluation computes them."""
    fillers = [lambda name, template=template: template.format(name.replace("_", " ")) for template in templates]
    with torch.no_grad():
        classifier = open_clip.build_zero_shot_classifier(clip, tokenizer, classes, fillers, 10, "cpu")
        features = clip.encode_image(inputs, normalize=True)
        return clip.logit_scale.exp() * features @ classifier.T.contiguous().T  # in memory as open_clip's model has it
