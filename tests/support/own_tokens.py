"""Whether a joined layer of transformers treats a prompt as it treats its own first token.

That one stands at a position which is not rotated: a prompt that equals the layer's first input must get the key and
the value that the layer hands to its kernel for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from zipeft.splices.attention_interface import InterfaceSplice

TURNED = ("MLCDAttention",)
"""Layers that rotate their first token too, by angles that it has learnt."""


def agrees_with_its_own_tokens(model: nn.Module, hosts: Sequence[nn.Module], run: Callable[[], Any]) -> str:
    """Return "yes" or "no"; "-" where no layer goes through the interface, or queries and keys have other inputs."""
    layers = [host for host in hosts if isinstance(host.zipeft_splice, InterfaceSplice)]
    layers = [layer for layer in layers if type(layer).__name__ not in TURNED]
    seen: dict[nn.Module, tuple] = {}
    handles = []
    for layer in layers:
        layer.zipeft_splice.run = partial(_keep_first, layer.zipeft_splice.run, seen, layer)
        handles.append(layer.register_forward_pre_hook(_keep_input(seen), with_kwargs=True))
    try:
        with torch.no_grad():
            run()
    finally:
        for layer, handle in zip(layers, handles, strict=True):
            del layer.zipeft_splice.run
            handle.remove()
    answers = [_agrees(layer, *seen[layer]) for layer in layers if len(seen.get(layer, ())) == 3]
    return "-" if not answers else "yes" if all(answers) else "no"


@torch.no_grad()
def _agrees(layer: nn.Module, hidden: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    projected = layer.zipeft_splice.project(hidden[:1, :1].flatten(0, -2)[:1])
    return all(
        torch.allclose(mine, own[:1, :, :1].squeeze(0), atol=1e-4, rtol=1e-4)
        for mine, own in zip(projected, (key, value), strict=True)
    )


def _keep_input(seen: dict) -> Callable:
    def keep(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        others = [kwargs.get(name) for name in ("encoder_hidden_states", "key_value_states")]
        inputs = [x for x in (*args[:1], kwargs.get("hidden_states"), kwargs.get("query")) if x is not None]
        if inputs and all(other is None for other in others):
            seen[layer] = (inputs[0],)

    return keep


def _keep_first(kernel: Callable, seen: dict, layer: nn.Module, name: str, query, key, value, *args, **options):
    if len(seen.get(layer, ())) == 1:
        seen[layer] = (*seen[layer], key, value)
    return kernel(name, query, key, value, *args, **options)
