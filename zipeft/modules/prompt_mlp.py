"""The shared network of non-linear prompts (arXiv 2502.03029)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zipeft.modules.gated_attention import keeping_dtype


class PromptMLP(nn.Module):
    """Two linear layers with a ReLU between them, through which the prompts of all layers of a tower pass.

    The paper's hidden width is 64. Its parameters are float32 and stay so: ``2 * width * hidden + width + hidden``.
    """

    def __init__(self, width: int, hidden: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden, device=device, dtype=torch.float32)
        self.output = nn.Linear(hidden, width, device=device, dtype=torch.float32)

    def forward(self, prompt: Tensor) -> Tensor:
        """Map prompts (..., width) to prompts."""
        return self.output(self.hidden(prompt).relu())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PromptMLP:
        for module in (self.hidden, self.output):
            module._apply(keeping_dtype(fn), recurse)
        return self
