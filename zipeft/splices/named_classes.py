"""Short names of classes of attention, by which tables know them; a subclass may compute otherwise, and has another."""

from __future__ import annotations

from torch import nn


def named(module: nn.Module) -> str:
    """Return the name of a module's class: "transformers.gpt2.GPT2Attention", "timm.beit.Attention".

    It is that of the library, of the family or the file, and of the class itself.
    """
    place = type(module).__module__.split(".")
    family = place[2] if place[:2] == ["transformers", "models"] else place[-1]
    return ".".join((place[0], family, type(module).__qualname__))
