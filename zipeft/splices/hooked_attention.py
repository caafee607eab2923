"""The splice for attention layers that go through no interface, each class of which a table describes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from zipeft.api.splice import AttentionLayer, Splice
from zipeft.splices.named_classes import named
from zipeft.splices.projections import (
    KEY_NORMS,
    QUERY_NORMS,
    Fused,
    Separate,
    heads,
    normed,
    plain,
)

Call: TypeAlias = Mapping[str, Any]
"""What a layer was called with, by the names of its forward's parameters."""


def of_head_width(_layer: AttentionLayer, query: Tensor) -> float:
    """Return what most layers multiply their scores by."""
    return query.shape[-1] ** -0.5


def as_projected(_layer: AttentionLayer, query: Tensor, _call: Call) -> Tensor:
    """Return queries as they are."""
    return query


def as_it_is(_layer: AttentionLayer, key: Tensor) -> Tensor:
    """Return keys as they are."""
    return key


def of_unit_length(_layer: AttentionLayer, key: Tensor) -> Tensor:
    """Return keys of scaled cosine attention (Swin Transformer V2, arXiv 2111.09883)."""
    return functional.normalize(key, dim=-1)


def cosine(layer: AttentionLayer, query: Tensor, _call: Call) -> Tensor:
    """Return queries of scaled cosine attention, whose scale is learnt for each head and is 100 at most."""
    scale = layer.logit_scale.clamp(max=math.log(100.0)).exp()
    return functional.normalize(query, dim=-1) * scale.view(-1, 1)


def head_after_head(result: Tensor) -> Tensor:
    """Return a result (..., heads, head dim) as most layers have it."""
    return result.flatten(-2)


def never(_layer: AttentionLayer) -> str:
    """Object to no layer."""
    return ""


@dataclass(frozen=True)
class Form:
    """How layers of one class compute, as far as a splice has to know.

    Queries and keys are (..., tokens, heads, head dim). Biases of positions that a layer adds to its scores need no
    word here, as a prompt has no position.

    Args:
        projections: how queries, keys and values are made.
        result: the name of the submodule that takes the result; "" if the result is what the layer returns.
        scale: what the scores are multiplied by.
        turn: what the layer does to its queries after their norm, such as a rotary embedding.
        key: what the layer does to its keys after their norm, positions aside.
        merge: how the result (batch, queries, heads, head dim) lies in the width that the output projection takes.
        objection: says why a layer of the class is not joined; "" if it is.
    """

    projections: Separate | Fused
    result: str = ""
    scale: Callable[[AttentionLayer, Tensor], float] = of_head_width
    turn: Callable[[AttentionLayer, Tensor, Call], Tensor] = as_projected
    key: Callable[[AttentionLayer, Tensor], Tensor] = as_it_is
    merge: Callable[[Tensor], Tensor] = head_after_head
    objection: Callable[[AttentionLayer], str] = never


class HookedSplice(Splice):
    """Joins a layer whose class a table describes, by hooks, so that its forward stays its own.

    A subclass holds the table. The output of the projection that makes the queries is kept from the first call of it
    in a forward (DeBERTa calls its projections for relative positions too), and the term is added to what the output
    projection takes, or to what the layer returns.
    """

    forms: ClassVar[Mapping[str, Form]]
    """By ``named_classes.named``."""

    refused: ClassVar[Mapping[str, str]]
    """Why layers of other classes, known by the same names, are not joined."""

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        form = cls.forms.get(named(module))
        return form is not None and not form.objection(module)

    @classmethod
    def objection(cls, module: nn.Module) -> str:
        form = cls.forms.get(named(module))
        return cls.refused.get(named(module), "") if form is None else form.objection(module)

    @classmethod
    def width_and_heads(cls, attention: AttentionLayer) -> tuple[int, int]:
        return cls.forms[named(attention)].projections.width(attention), heads(attention)

    @property
    def form(self) -> Form:
        return self.forms[named(self.attention)]

    def install(self) -> None:
        layer, form = self.attention, self.form
        self.parameters = list(inspect.signature(layer.forward).parameters)
        self.query: Tensor | None = None
        self.call: Call = {}
        self.handles = [layer.register_forward_pre_hook(self._begin, with_kwargs=True)]
        if not form.result:
            self.handles.append(layer.register_forward_hook(self._add_to_output))
        self.hooked: tuple[nn.Module | None, ...] = ()
        self.part_handles: list[RemovableHandle] = []
        self._hook_parts()

    def remove(self) -> None:
        for handle in (*self.handles, *self.part_handles):
            handle.remove()

    def _hook_parts(self) -> None:
        """Hook the projections as they are now: peft may have put its own around them since the last forward."""
        source, result = self.form.projections.source, self.form.result
        parts = getattr(self.attention, source), getattr(self.attention, result) if result else None
        if parts == self.hooked:
            return
        for handle in self.part_handles:
            handle.remove()
        self.hooked, self.part_handles = parts, [parts[0].register_forward_hook(self._keep_query)]
        if parts[1] is not None:
            self.part_handles.append(parts[1].register_forward_pre_hook(self._add_to_input))

    def frozen(self) -> Sequence[Tensor] | None:
        return super().frozen() if all(map(plain, self.form.projections.read(self.attention))) else None

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        layer, form = self.attention, self.form
        key, value = form.projections.keys_and_values(layer, prompt)
        key = form.key(layer, normed(layer, key, KEY_NORMS))
        return key.transpose(-2, -3), value.transpose(-2, -3)

    def _begin(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.call = dict(zip(self.parameters, args, strict=False)) | kwargs
        self.query = None
        self._hook_parts()
        if not called(self.attention, self.form.projections):  # a second product, as the first one is not to be seen
            getattr(self.attention, self.form.projections.source)(self.call[self.parameters[0]])

    def _keep_query(self, projection: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        if self.call and self.query is None:  # within a forward, whose first call it is
            flat = output.flatten(2).transpose(1, 2) if is_convolution(projection) else output.flatten(1, -2)
            self.query = self.form.projections.queries(self.attention, flat)

    def _term(self) -> Tensor:
        """Return the term (batch, queries, heads, head dim)."""
        layer, form = self.attention, self.form
        assert self.query is not None
        query = form.turn(layer, normed(layer, self.query, QUERY_NORMS), self.call)
        term = self.term(query.transpose(1, 2), form.scale(layer, query)).transpose(1, 2)
        self.query, self.call = None, {}  # not before: the projection that is hooked makes the prompt's keys too
        return term

    def _add_to_input(self, projection: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        result, term = args[0], self.form.merge(self._term())
        return (added(result, term.transpose(1, 2) if is_convolution(projection) else term),)

    def _add_to_output(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        result, *others = output
        return (added(result, self.form.merge(self._term())), *others)


def added(result: Tensor, term: Tensor) -> Tensor:
    """Add a term (batch, queries, width) to a result, whose last numbers may come from elsewhere (ConvBERT)."""
    if (others := result.numel() // result.shape[0] - term[0].numel()) > 0:
        term = functional.pad(term, (0, others // term.shape[1]))
    return result + term.reshape_as(result)


def is_convolution(module: nn.Module) -> bool:
    """Whether a module takes and gives (batch, channels, ...)."""
    return isinstance(module, (nn.Conv1d, nn.Conv2d))


def called(layer: AttentionLayer, projections: Separate | Fused) -> bool:
    """Whether the layer calls the projection that makes its queries; timm's BEiT reads its weight, to add biases."""
    biases = projections.biases if isinstance(projections, Fused) else ()
    apart = any(getattr(layer, name, None) is not None for name in biases if name)
    return not apart or getattr(layer, "qkv_bias_separate", True)
