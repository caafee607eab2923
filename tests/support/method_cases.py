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


def slow(cases: Iterable[Any]) -> list[Any]:
    """Mark cases of a parametrised test as slow: tuples of arguments, or an argument each."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in cases]
