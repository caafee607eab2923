"""Variants: methods with other settings, which enter a comparison beside each other under names of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from zipeft import registry
from zipeft.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
SETTING = re.compile(r",(?=\w+=)")
"""What parts settings: a comma before the next one's name. Others are those of a list."""


@dataclass(frozen=True)
class Variant:
    """A method with some of its settings as text, under a ``name`` that no record has: those say the settings."""

    name: str
    method: str
    settings: dict[str, str] = field(default_factory=dict)


def parse_variants(texts: Iterable[str]) -> dict[str, Variant]:
    """Parse ``["wide=lora:rank=32,alpha=64", ...]`` to variants by their names.

    Raises ``UserError`` for text of another form, and for a name that is a method's or that is given twice.
    """
    variants: dict[str, Variant] = {}
    for text in texts:
        variant = _parse(text)
        if variant.name in variants:
            raise UserError(f"--variant {variant.name}: two variants are called so; rename one")
        if registry.methods.whole(variant.name) in registry.methods.names():
            raise UserError(f"--variant {variant.name}: a method is called so; take another name")
        variants[variant.name] = variant
    return variants


def _parse(text: str) -> Variant:
    name, equals, rest = text.partition("=")
    method, colon, assigned = rest.partition(":")
    parts = [part.partition("=") for part in SETTING.split(assigned)] if colon else []
    if not (NAME.fullmatch(name.strip()) and equals and method.strip() and all(each[0] and each[1] for each in parts)):
        raise UserError(
            f"--variant {text!r} is not of the form NAME=METHOD:SETTING=VALUE,..., such as wide=lora:rank=32,alpha=64"
        )
    settings: dict[str, str] = {}
    for setting, _, value in parts:
        if setting.strip() in settings:
            raise UserError(f"--variant {name}: {setting} is set twice; keep one")
        settings[setting.strip()] = value.strip()
    return Variant(name.strip(), method.strip(), settings)
