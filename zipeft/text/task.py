"""What tasks share whose examples are one text or two: their settings, and how a text becomes a backbone's input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.task import Task
from zipeft.errors import UserError, require
from zipeft.sources.splits import check_seed

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from zipeft.api.backbone import TextBackbone

SHORTEST = 8
"""Tokens. Below it, a pair of texts has hardly a token beside the special ones."""


@dataclass(frozen=True)
class TextTask(Task):
    """Settings of tasks whose examples are tuples of one text or two."""

    max_length: int = 128
    """Tokens of an example, special ones included; a longer one is cut at its end, of two texts the longer first."""

    train_examples: int = 0
    """Train on so many examples, chosen by class with ``split_seed``; 0 for all."""

    validation_examples: int = 0
    """Validate on so many examples, chosen alike; 0 for all."""

    test_examples: int = 0
    """Test on so many examples, chosen alike; 0 for all."""

    split_seed: int = 0
    """Seed of the splits that the data lack, and of the choice of examples."""

    modality: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_length >= SHORTEST, f"max_length is {self.max_length}: give {SHORTEST} tokens or more")
        for name, count in self.limits().items():
            require(count >= 0, f"{name}_examples is {count}: give 1 or more, or 0 for all")
        check_seed(self.split_seed)

    def limits(self) -> dict[str, int]:
        """Return how many examples of each split to take, as ``zipeft.text.assembly.text_data`` wants it."""
        return {"train": self.train_examples, "validation": self.validation_examples, "test": self.test_examples}

    def encoder(self, backbone: TextBackbone) -> Callable[[Sequence[str]], dict[str, Tensor]]:
        """Return the function from one text, or a pair, to the backbone's input: tensors (tokens,)."""
        if self.max_length > backbone.max_length():
            raise UserError(
                f"max_length is {self.max_length}, but the backbone takes {backbone.max_length()} tokens: give fewer"
            )
        return partial(_encode, tokenizer=backbone.tokenizer(), max_length=self.max_length)


def _encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int) -> dict[str, Tensor]:
    import torch

    encoded = tokenizer(*texts, truncation=True, max_length=max_length)
    return {name: torch.tensor(values) for name, values in encoded.items()}
