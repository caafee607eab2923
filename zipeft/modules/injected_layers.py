"""Layers of the peft library in a model: how they come in, are merged into the weights, and are taken out again."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zipeft.errors import UserError, one_line
from zipeft.modules.projected_attention import own_attention

if TYPE_CHECKING:
    from peft import PeftConfig

ADAPTER = "default"
"""What peft calls the one adapter of a model unless it is told otherwise; parts of parameters' names are called so."""

REPLACED = "_replaced_weights"
"""Of a model: the frozen weights of those layers, by name, that peft gave others (PiSSA and OLoRA take out what they
start from), for ``detach``."""


def inject(model: nn.Module, config: PeftConfig, owned: Iterable[str] = ()) -> None:
    """Put layers of peft around those of a model that a configuration targets, in place.

    ``owned`` are the names of layers whose weights peft writes into: it gets weights that no other model shares.

    Not by ``peft.inject_adapter_in_model``, which refuses whatever shares tensors among layers (VeRA, VB-LoRA): here
    each layer holds on to them. What peft inserts is float32, whatever the model's weights are.

    Raises: ``UserError`` with peft's own words for layers and sizes that it refuses.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    tuners: Mapping[Any, Any] = PEFT_TYPE_TO_TUNER_MAPPING
    own = {name: module.weight.data for name, module in model.named_modules() if _has_weight(module)}
    for name in owned:
        layer: Any = model.get_submodule(name)
        layer.weight.data = layer.weight.data.clone()
    try:
        with _no_advice():
            tuners[config.peft_type](model, config, adapter_name=ADAPTER)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        if any(parameter.is_meta for parameter in model.parameters()):
            raise UserError(
                "it starts from values of the weights, and this model has none: leave out --meta"
            ) from error
        raise UserError(one_line(error)) from error
    replaced = {}
    for name, layer in _layers(model):
        _to_float32(layer)
        weight = getattr(layer.base_layer, "weight", None)
        if weight is not None and weight.data_ptr() != own[name].data_ptr():
            replaced[name] = own[name]
    setattr(model, REPLACED, replaced)


def merge(model: nn.Module) -> None:
    """Add what layers of peft have learnt to the weights that they change, in place, and take the layers out.

    The weights are then the model's own: those that it shared with others stay as they are. The sum is made in
    float32 and rounded once.

    Raises: ``UserError`` for layers that no weight can stand for (a router), and that lack what would take it (a bias).
    """
    for name, layer in _layers(model):
        own = [(parameter, parameter.dtype) for parameter in layer.base_layer.parameters()]
        if not all(dtype.is_floating_point for _, dtype in own):
            raise UserError(f"{name} cannot be merged into its weights: they are quantised")
        for parameter, _ in own:
            parameter.data = parameter.data.to(torch.float32, copy=True)
        try:
            layer.merge()
        except (NotImplementedError, ValueError) as error:
            raise UserError(f"{name} cannot be merged into its weights: {one_line(error)}") from error
        for parameter, dtype in own:
            parameter.data = parameter.data.to(dtype)
        model.set_submodule(name, layer.base_layer)
    _forget(model)


def detach(model: nn.Module) -> None:
    """Take layers of peft out of a model, in place: it is then the frozen model that it was before."""
    replaced: dict[str, Tensor] = getattr(model, REPLACED, {})
    for name, layer in _layers(model):
        if name in replaced:
            layer.base_layer.weight.data = replaced[name]
        model.set_submodule(name, layer.base_layer)
    _forget(model)


def _layers(model: nn.Module) -> list[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]


def _forget(model: nn.Module) -> None:
    own_attention(model)
    for name in ("peft_config", REPLACED):
        if name in vars(model):
            delattr(model, name)


def _has_weight(module: nn.Module) -> bool:
    return isinstance(getattr(module, "weight", None), Tensor)


def _to_float32(layer: Any) -> None:
    """Hold what a layer of peft brings in float32: all but the layer that it changes. Small updates of half-precision
    parameters would be rounded away, and peft's products take one dtype."""
    for name, child in layer.named_children():
        if name != "base_layer":
            child.float()
    for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()


@contextmanager
def _no_advice() -> Iterator[None]:
    """Keep peft's advice on settings, and BOFT's on a compiler that it would like to have, from the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
