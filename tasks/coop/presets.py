"""How few-shot tasks are run: the methods and the search spaces of their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zipeft.api.search import Range, Space

METHODS = (
    "untuned", "coop", "prompt", "lora", "full",
    "zero_gated", "zero_gated_image", "zero_gated_text", "zero_gated_random",
)  # fmt: skip

# Classes are matched with their texts: there is no head to learn at a rate of its own.
SPACES: Mapping[str, Space] = {
    "coop": {"learning_rate": Range(3e-3, 9e-2)},
    "prompt": {"learning_rate": Range(1e-3, 3e-2)},
    "deep_prompt": {"learning_rate": Range(1e-3, 3e-2)},
    "prefix": {"learning_rate": Range(1e-3, 3e-2)},
    "lora": {"learning_rate": Range(1e-4, 3e-3)},
    "bitfit": {"learning_rate": Range(3e-4, 1e-2)},
    "adaptformer": {"learning_rate": Range(3e-4, 1e-2)},
    "full": {"learning_rate": Range(1e-5, 3e-4)},
    **{name: {"learning_rate": Range(1e-2, 3e-1)} for name in METHODS if name.startswith("zero_gated")},
}

# The best of four trials each from those spaces, on validation data, with four shots of each concept and 20 epochs. Of
# linear, lora, prompt and zero_gated the trial nearest to the default was within an image of 80 of the best one; the
# other gates have the default of zero_gated.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "coop": {"learning_rate": 5e-2},
    "full": {"learning_rate": 1e-4},
}
