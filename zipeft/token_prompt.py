"""Prompt tokens in the sequence: they enter at a block, the next block's replace them, and at the end they leave."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TokenPrompt(nn.Module):
    """Learnt tokens (length, width) that enter at one block, between the first ``offset`` tokens and the others."""

    def __init__(self, length: int, width: int, offset: int, replaces: bool, device: torch.device) -> None:
        super().__init__()
        self.offset, self.replaces = offset, replaces
        self.tokens = nn.Parameter(torch.empty(length, width, device=device, dtype=torch.float32))
        # VPT draws from a uniform distribution of Xavier's form, whose fan-in is a patch's; here it is the width.
        nn.init.uniform_(self.tokens, -((3 / width) ** 0.5), (3 / width) ** 0.5)

    def enter(self, _block: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = args
        kept = hidden[:, self.offset + len(self.tokens) * self.replaces :]
        tokens = self.tokens.to(hidden.dtype).expand(len(hidden), -1, -1)
        return torch.cat([hidden[:, : self.offset], tokens, kept], dim=1), *rest

    def leave(self, _block: nn.Module, _args: tuple, hidden: Tensor) -> Tensor:
        return torch.cat([hidden[:, : self.offset], hidden[:, self.offset + len(self.tokens) :]], dim=1)


def insert(blocks: Sequence[nn.Module], until: nn.Module, *, length: int, width: int, offset: int) -> None:
    """Let learnt tokens enter at each of ``blocks`` and leave after the block ``until``.

    Blocks take and return hidden states (batch, tokens, width) and no mask over tokens.
    """
    for index, block in enumerate(blocks):
        prompt = TokenPrompt(length, width, offset, replaces=index > 0, device=next(block.parameters()).device)
        block.register_forward_pre_hook(prompt.enter)
        block.add_module("token_prompt", prompt)
    until.register_forward_hook(blocks[0].token_prompt.leave)
