"""Joining prompts to the attention layers of a model, and taking them off again; prefixes likewise.

prompts = attach(model, length=10, layers=4)
...
detach(model)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from zipeft import registry
from zipeft.api.splice import AttentionLayer, AttentionSplice, Splice
from zipeft.errors import UserError
from zipeft.modules.prompt_mlp import PromptMLP
from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt
from zipeft.splices.prefix import PrefixSplice
from zipeft.splices.unjoined import pooling, unjoined

__all__ = ["AttentionSplice", "PrefixSplice", "Splice", "attach", "conditioned", "detach", "gated_prompts", "register"]

SpliceType = type[AttentionSplice]

_splices: list[SpliceType] = []


def register(splice: SpliceType) -> SpliceType:
    """Make a splice for another class of attention known in this process; usable as a decorator.

    The newest is asked first, then those that are installed (``zipeft ls splices``).
    """
    _splices.insert(0, splice)
    return splice


def _known() -> list[SpliceType]:
    """Return the splices to ask, in this order: of this process, of other distributions, of zipeft.

    One that cannot be used is a warning: most models do not need it.
    """
    found = []
    for name in registry.splices.names():
        try:
            found.append(registry.splices.get(name))
        except UserError as error:
            warnings.warn(str(error), stacklevel=3)
    return [*_splices, *sorted(found, key=lambda splice: splice.__module__.startswith("zipeft."))]


def attach(
    model: nn.Module,
    *,
    layers: int | None = None,
    blocks: Sequence[nn.Module] | None = None,
    splices: Sequence[SpliceType] | None = None,
    **settings: Any,
) -> list[nn.Module]:
    """Join a ``ZeroGatedPrompt``, or what else a splice makes, to attention layers of a model, in place.

    Args:
        model: the model, or a part of one (a tower of CLIP, say).
        layers: how many of the topmost layers; None for all.
        blocks: the transformer blocks in order, each with one attention layer; None takes every attention layer that a
            splice knows, in the order of the model's modules, but those of pooling heads. A warning names the others.
        splices: what to join, asked in this order; None takes the known ones, which join gated prompts, and
            ``PrefixSplice`` joins prefixes.
        settings: of what joins; for ``ZeroGatedPrompt``: length, gate, gate_activation, gate_init, prompt_std; with
            prompt_form="key_value", ``ZeroGatedKeyValues`` of the same settings joins.

    Returns: what joined, lowest layer first: submodules of their attention layers.

    Raises: ``UserError`` if there is no attention layer that a splice knows, fewer than ``layers``, or if something has
    joined the model already.
    """
    if any("zipeft_splice" in vars(module) for module in model.modules()):
        raise UserError("this model has prompts or prefixes already; detach them first")
    name, known = type(model).__name__, _known() if splices is None else splices
    if blocks is None:
        pooled = pooling(model)
        attentions = [found for found in _attentions(model, known) if found[0] not in pooled]
        others = unjoined(model, [attention for attention, _ in attentions], known)
    else:
        found = [_attentions(block, known) for block in blocks]
        if odd := next((b for b, inside in zip(blocks, found, strict=True) if len(inside) != 1), None):
            reason = _because(unjoined(odd, [], known))
            raise UserError(f"each block of {name} must hold one attention layer that a splice knows{reason}")
        attentions, others = [inside for (inside,) in found], ""
    if len({id(attention) for attention, _ in attentions}) < len(attentions):
        raise UserError("a block is given twice; give each one once")
    if not attentions:
        raise UserError(f"{name} has no attention layer that a splice knows{_because(others)}; register one for it")
    if layers is not None and not 0 < layers <= len(attentions):
        raise UserError(f"layers is {layers}; this model has 1 to {len(attentions)} to join")
    if others:
        warnings.warn(f"not joined in {name}: {others}", stacklevel=2)
    try:
        return [_join(*attention, settings) for attention in attentions[-(layers or len(attentions)) :]]
    except BaseException:
        detach(model)
        raise


def detach(model: nn.Module) -> None:
    """Take off a model what has joined it; it is then what it was before ``attach``."""
    for module in list(model.modules()):
        splice = module.__dict__.pop("zipeft_splice", None)
        if splice is not None:
            splice.remove()
            delattr(module, splice.name)
        for name, child in list(module.named_children()):
            if isinstance(child, PromptMLP):
                delattr(module, name)


def gated_prompts(model: nn.Module) -> list[ZeroGatedPrompt]:
    """Return the gated prompts of a model, lowest layer first."""
    return [module for module in model.modules() if isinstance(module, ZeroGatedPrompt)]


@contextmanager
def conditioned(model: nn.Module, features: Tensor) -> Iterator[None]:
    """Add features (batch, width), one vector an example, to all of a model's prompts while the context lasts."""
    before = [(prompt, prompt.condition) for prompt in gated_prompts(model)]
    for prompt, _ in before:
        prompt.condition = features
    try:
        yield
    finally:
        for prompt, condition in before:
            prompt.condition = condition


def _attentions(part: nn.Module, splices: Sequence[SpliceType]) -> list[tuple[nn.Module, SpliceType]]:
    known = ((module, next((s for s in splices if s.matches(module)), None)) for module in part.modules())
    return [(module, splice) for module, splice in known if splice is not None]


def _because(others: str) -> str:
    return f" (not {others})" if others else ""


def _join(attention: AttentionLayer, splice: SpliceType, settings: dict[str, Any]) -> nn.Module:
    joined = splice.make(attention, **settings).train(attention.training)
    attention.add_module(splice.name, joined)
    attention.zipeft_splice = splice(attention, joined)
    attention.zipeft_splice.install()
    attention.zipeft_splice.settle()
    return joined
