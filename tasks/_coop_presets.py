"""How few-shot tasks are run: the methods and the search spaces of their presets."""

from __future__ import annotations

from collections.abc import Mapping

from zipeft.search import Range, Space

METHODS = (
    "untuned", "coop", "prompt", "lora", "full",
    "zero_gated", "zero_gated_image", "zero_gated_text", "zero_gated_random",
)  # fmt: skip

# Classes are matched with their texts: there is no head to learn at a rate of its own.
SPACES: Mapping[str, Space] = {
    "coop": {"learning_rate": Range(1e-3, 3e-2)},
    "prompt": {"learning_rate": Range(1e-3, 3e-2)},
    "deep_prompt": {"learning_rate": Range(1e-3, 3e-2)},
    "prefix": {"learning_rate": Range(1e-3, 3e-2)},
    "lora": {"learning_rate": Range(1e-4, 3e-3)},
    "bitfit": {"learning_rate": Range(3e-4, 1e-2)},
    "adaptformer": {"learning_rate": Range(3e-4, 1e-2)},
    "full": {"learning_rate": Range(1e-5, 3e-4)},
    **{name: {"learning_rate": Range(2e-3, 6e-2)} for name in METHODS if name.startswith("zero_gated")},
}
