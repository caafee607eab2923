"""Names of methods over which tests are parametrised, and cases that are left to the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from zipeft import registry


def methods_for(modality: str) -> list[str]:
    """Return the names of the methods that run by default and go with a kind of backbone."""
    return [name for name in registry.methods.by_default() if registry.methods.get(name).goes_with(modality)]


def asked_for(modality: str) -> list[str]:
    """Return the names of the others that go with it, which are asked for by name, where the peft that is installed
    offers them."""
    methods = {name: registry.methods.get(name) for name in registry.methods.names()}
    return [
        name
        for name, method in methods.items()
        if not method.by_default and method.goes_with(modality) and getattr(method, "is_offered", lambda: True)()
    ]


def covered(cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return the cases of a product, tuples of arguments, of which the fast tests take a part.

    The part holds every value of every argument: a method or a kind of backbone is tested on the day it is added.
    """
    seen: list[set[Any]] = []
    marked = []
    for case in cases:
        seen = seen or [set() for _ in case]
        is_new = any(value not in values for value, values in zip(case, seen, strict=True))
        marked += [case] if is_new else slow([case])
        for value, values in zip(case, seen, strict=True):
            values.add(value)
    return marked


KINDS = ("image", "text", "image-text", "instruction", "image-instruction")


def learning_on(modality: str) -> list[Any]:
    """Return the methods that a test of learning runs over on a kind of backbone: the fast tests let each method learn
    on the first of ``KINDS`` that it goes with, and the two that are compared most on all. Those without a learning
    rate to search learn nothing."""
    earlier = {name for kind in KINDS[: KINDS.index(modality)] for name in methods_for(kind)} - {"zero_gated", "lora"}
    methods = list(filter(_learns, methods_for(modality)))
    fast = [name for name in methods if name not in earlier]
    return fast + slow(name for name in (*methods, *filter(_learns, asked_for(modality))) if name not in fast)


def _learns(name: str) -> bool:
    return not {"learning_rate", "head_learning_rate"}.isdisjoint(registry.methods.get(name).space)


def slow(cases: Iterable[Any]) -> list[Any]:
    """Mark cases of a parametrised test as slow: tuples of arguments, or an argument each."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in cases]
