"""Adapters in the formats of others, each a module: read into ``GatedPrompts``, and written from them."""

from zipeft.adapters.formats.gated_prompts import GatedPrompts

__all__ = ["GatedPrompts"]
