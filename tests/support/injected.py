"""Methods of peft on toys: which there are, and models that they are applied to."""

from __future__ import annotations

from functools import cache

import torch

from support.toys import ToyDecoder
from zipeft import registry
from zipeft.methods.injected import Injected
from zipeft.training.frozen_model import FrozenModel

INJECTED = [name for name in registry.methods.names() if issubclass(registry.methods.get(name), Injected)]
OFFERED = [name for name in INJECTED if registry.methods.get(name).is_offered()]
DECODER = ToyDecoder()
NO_MERGE = {"lily": "This method is not supported", "beft": "Base layer has no bias"}
"""What peft says of those that no weight of the decoder can stand for."""


@cache
def frozen(backbone=DECODER) -> FrozenModel:
    return FrozenModel(backbone.load())


def applied(name, backbone=DECODER, seed=0, **settings):
    """A copy of the frozen model with a method applied from a seed, in evaluation mode."""
    model = frozen(backbone).copy()
    torch.manual_seed(seed)
    registry.methods.get(name)(**settings).adapt(backbone, model)
    frozen(backbone).part(model)
    return model.eval()


def trainable(model):
    return {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
