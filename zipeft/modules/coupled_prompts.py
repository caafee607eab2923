"""Prompts in both towers of a CLIP, of which those of images are projected from those of texts (MaPLe)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from zipeft.modules.hooked import Hooked, linear
from zipeft.modules.prompt_tokens import Arguments, Keywords, PromptPosition, let_enter


class CoupledPrompts(Hooked):
    """MaPLe's prompts (arXiv 2210.03117, section 3.2): learnt words P_i at the first blocks of the text tower, and at
    those of the image tower tokens F_i(P_i), by one linear layer F_i a block.

    Args:
        context: the first block's words (length, text width), which stand in the texts already.
        depth: the number of blocks of each tower that get prompts of their own; further blocks pass on the last ones.
        width: of the image tower.
        offset: how many tokens of an image stay in front of its prompts.
    """

    def __init__(self, context: nn.Parameter, depth: int, width: int, offset: int) -> None:
        super().__init__()
        length, own = context.shape
        device = context.device
        deeper = (torch.empty(length, own, device=device, dtype=torch.float32) for _ in range(depth - 1))
        self.words = nn.ParameterList([context, *(nn.init.normal_(words, std=0.02) for words in deeper)])
        self.projections = nn.ModuleList(
            nn.Linear(own, width, device=device, dtype=torch.float32) for _ in range(depth)
        )
        self.in_image, self.in_text = PromptPosition(offset, length), PromptPosition(1, length)

    def join(self, image: Sequence[nn.Module], text: Sequence[nn.Module]) -> None:
        """Let the prompts enter at blocks of both towers, each with ``depth`` or more of them."""
        depth = len(self.words)
        self.handles += let_enter(image, self.in_image, [partial(self._enter_image, index) for index in range(depth)])
        for index in range(1, depth):
            enter = partial(self._enter_text, index)
            self.handles.append(text[index].register_forward_pre_hook(enter, with_kwargs=True))

    def projected(self, index: int) -> Tensor:
        """Return the tokens (length, width) that enter at a block of the image tower."""
        layer = self.projections[index]
        assert isinstance(layer, nn.Linear)
        return linear(self.words[index], layer)

    def _enter_image(
        self, index: int, block: nn.Module, args: Arguments, kwargs: Keywords
    ) -> tuple[Arguments, Keywords]:
        return self.in_image.put(self.projected(index), index > 0, block, args, kwargs)

    def _enter_text(
        self, index: int, block: nn.Module, args: Arguments, kwargs: Keywords
    ) -> tuple[Arguments, Keywords]:
        return self.in_text.put(self.words[index], True, block, args, kwargs)
