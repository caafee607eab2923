"""Prompt tokens in the sequence: they enter at a block, the next block's replace them, and at the end they leave."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zipeft.errors import UserError
from zipeft.modules.hooked import Hooked
from zipeft.modules.prompt_token_cache import Cache, cached_tokens, make_room

Arguments: TypeAlias = tuple[Any, ...]
Keywords: TypeAlias = dict[str, Any]
"""What a block is called with."""

Enter: TypeAlias = Callable[[Any, Arguments, Keywords], tuple[Arguments, Keywords]]
"""A forward pre-hook that puts tokens into what a block is called with."""

KERNELS = {"sdpa", "eager"}
"""Attention of transformers whose masks hold what each query sees; other kernels mask by positions and lengths."""


@dataclass(frozen=True)
class PromptPosition:
    """The place of ``length`` prompt tokens in a sequence: behind its first ``offset`` tokens.

    Blocks of transformers get more than the hidden states: masks and positions, which the model made for the sequence
    as it was. ``widen`` makes them fit.

    - Masks (batch, heads, queries, keys): every query sees the prompts, and a prompt sees what the token before it sees
      (in the first place, what the first token sees). In causal attention prompts are tokens like others: those behind
      them see them, and they see nothing behind them.
    - Rotary embeddings: prompts stand at position 0, where nothing is turned, and the text keeps its positions.

    A cache of keys and values gets the prompts' with those of the first part of a text. Later parts then pass the
    blocks without prompts, and of all that is made for them only masks need room, for the keys.
    """

    offset: int
    length: int

    def widen(self, block: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        """Make a block's arguments fit hidden states, or cached keys, that hold the prompts; a forward pre-hook.

        Raises: ``UserError`` for an argument whose meaning for the prompts is not known.
        """
        hidden, *rest = args
        names = [*inspect.signature(block.forward).parameters][1 : len(args)] if rest else []
        if cached := cached_tokens(block, kwargs):
            fit = _Fit(self, hidden.shape[1], cached)
        else:
            make_room(block, kwargs, self.length)
            fit = _Fit(self, hidden.shape[1] - self.length, causal=_is_causal(block, kwargs))
        rest = [fit(*argument) for argument in zip(names, rest, strict=True)]
        return (hidden, *rest), {name: fit(name, value) for name, value in kwargs.items()}

    def put(
        self, tokens: Tensor, replaces: bool, block: nn.Module, args: Arguments, kwargs: Keywords
    ) -> tuple[Arguments, Keywords]:
        """Put tokens (length, width) into the hidden states that a block takes, in the place of those that entered
        before if it ``replaces`` them; a cache that holds the prompts already is left alone."""
        if cached_tokens(block, kwargs):
            return args, kwargs
        hidden, *rest = args
        kept = hidden[:, self.offset + self.length * replaces :]
        tokens = tokens.to(hidden.dtype).expand(len(hidden), -1, -1)
        return (torch.cat([hidden[:, : self.offset], tokens, kept], dim=1), *rest), kwargs

    def leave(self, block: nn.Module, _args: Arguments, kwargs: Keywords, output: Any) -> Any:
        """Take the prompts out of a block's output, which is the hidden states or begins with them; a forward hook."""
        if isinstance(output, tuple):
            return self.leave(block, _args, kwargs, output[0]), *output[1:]
        if output.shape[1] <= cached_tokens(block, kwargs):  # with the prompts it would be more than the text
            return output
        return torch.cat([output[:, : self.offset], output[:, self.offset + self.length :]], dim=1)


class PromptTokens(Hooked):
    """Learnt tokens (length, width) that enter at one block, or replace there those that entered before.

    They start at ``initial``, else at random.
    """

    def __init__(
        self, place: PromptPosition, width: int, replaces: bool, device: torch.device, initial: Tensor | None = None
    ) -> None:
        super().__init__()
        self.place, self.replaces = place, replaces
        self.tokens = nn.Parameter(torch.empty(place.length, width, device=device, dtype=torch.float32))
        if initial is None:
            # VPT draws from a uniform distribution of Xavier's form, whose fan-in is a patch's; here it is the width.
            nn.init.uniform_(self.tokens, -((3 / width) ** 0.5), (3 / width) ** 0.5)
        else:
            self.tokens.data.copy_(initial)

    def enter(self, block: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        """Put the tokens into the hidden states that a block takes, unless its cache holds them; a forward pre-hook."""
        return self.place.put(self.tokens, self.replaces, block, args, kwargs)


def insert(
    blocks: Sequence[nn.Module],
    *,
    entries: int,
    length: int,
    width: int,
    offset: int,
    initial: Tensor | None = None,
) -> None:
    """Let learnt tokens enter at each of the first ``entries`` blocks, and leave after the last one of all.

    They start at ``initial`` (length, width), else at random. Blocks take hidden states (batch, tokens, width) first
    and return them, alone or first in a tuple.

    Raises: ``UserError`` as ``let_enter``.
    """
    check_kernels(blocks)
    place, prompts = PromptPosition(offset, length), []
    for index, block in enumerate(blocks[:entries]):
        prompts.append(PromptTokens(place, width, index > 0, next(block.parameters()).device, initial))
        block.add_module("token_prompt", prompts[-1])
    prompts[0].handles += let_enter(blocks, place, [prompt.enter for prompt in prompts])


def let_enter(blocks: Sequence[nn.Module], place: PromptPosition, enter: Sequence[Enter]) -> list[RemovableHandle]:
    """Let ``enter``, pre-hooks of the first blocks in turn, put tokens there; they leave after the last block of all.

    Returns the hooks. Raises ``UserError`` as ``check_kernels``.
    """
    check_kernels(blocks)
    hooks = []
    for block, put in zip_longest(blocks, enter):
        if put is not None:
            hooks.append(block.register_forward_pre_hook(put, with_kwargs=True))
        hooks.append(block.register_forward_pre_hook(place.widen, with_kwargs=True))
    hooks.append(blocks[-1].register_forward_hook(place.leave, with_kwargs=True))
    return hooks


def check_kernels(blocks: Sequence[nn.Module]) -> None:
    """Raise ``UserError`` if the blocks' attention kernel is not known to take a mask of its own for each query."""
    kernels = {kernel for block in blocks for kernel in _kernels(block)}
    if not kernels <= KERNELS:
        raise UserError(f"prompt tokens go with sdpa or eager attention, not with {', '.join(kernels - KERNELS)}")


@dataclass(frozen=True)
class _Fit:
    """Makes one argument of a block, made for ``tokens`` tokens behind ``cached`` ones, fit those and the prompts.

    Where there are cached ones, the prompts are among them, and no query is a prompt.
    """

    place: PromptPosition
    tokens: int
    cached: int = 0
    causal: bool = False

    def __call__(self, name: str, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str | Cache):
            return value
        if name.endswith("mask") and self._is_mask(value):
            return self._mask(value)
        if self.cached and name in ("position_ids", "position_embeddings"):
            return value
        if name == "position_ids" and isinstance(value, Tensor) and value.shape[-1] == self.tokens:
            return self._with(value, torch.zeros_like(value[..., :1]), dim=-1)
        if name == "position_embeddings" and self._is_rotary(value):
            cos, sin = value
            scale = torch.hypot(cos, sin)[..., :1, :]  # some models stretch what they turn
            return self._with(cos, scale, dim=-2), self._with(sin, torch.zeros_like(scale), dim=-2)
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise UserError(
            f"prompt tokens do not go with a block's argument {name} ({type(value).__name__}{shape}); "
            "masks with four dimensions, rotary position_embeddings and a DynamicCache do"
        )

    def _is_mask(self, value: Any) -> bool:
        return (
            isinstance(value, Tensor)
            and (value.dtype == torch.bool or value.is_floating_point())
            and value.dim() == 4
            and value.shape[-1] == self.cached + self.tokens
            and value.shape[-2] in (1, self.tokens)
        )

    def _is_rotary(self, value: Any) -> bool:
        return (
            isinstance(value, tuple)
            and len(value) == 2
            and all(isinstance(x, Tensor) and x.is_floating_point() for x in value)
            and all(x.dim() >= 2 and x.shape == value[0].shape and x.shape[-2] == self.tokens for x in value)
        )

    def _with(self, x: Tensor, filling: Tensor, dim: int) -> Tensor:
        """Put ``filling``, one token long, in each prompt's place."""
        before, behind = x.split([self.place.offset, x.shape[dim] - self.place.offset], dim)
        return torch.cat([before, *[filling] * self.place.length, behind], dim)

    def _mask(self, mask: Tensor) -> Tensor:
        floating = mask.is_floating_point()
        seen, unseen = (0.0, torch.finfo(mask.dtype).min) if floating else (True, False)
        if mask.shape[-2] == self.tokens and not self.cached:
            row = max(self.place.offset - 1, 0)
            mask = self._with(mask, mask[..., row : row + 1, :], dim=-2)
        mask = self._with(mask, torch.full_like(mask[..., :1], seen), dim=-1)
        if self.causal:
            mask = mask.masked_fill(self._behind(mask.device), unseen)
        return mask

    def _behind(self, device: torch.device) -> Tensor:
        """Whether (query, key) is a pair, at least one of them a prompt, whose key stands behind the query."""
        position = torch.arange(self.tokens + self.place.length, device=device)
        prompt = (position >= self.place.offset) & (position < self.place.offset + self.place.length)
        return (position > position[:, None]) & (prompt | prompt[:, None])


def _is_causal(block: nn.Module, kwargs: dict[str, Any]) -> bool:
    """Whether a block's attention looks back only, as transformers says it: of the call or else of the layer."""
    if kwargs.get("is_causal") is not None:
        return kwargs["is_causal"]
    return any(getattr(module, "is_causal", False) for module in block.modules())


def _kernels(block: nn.Module) -> set[str]:
    configs = (getattr(module, "config", None) for module in block.modules())
    return {kernel for config in configs if (kernel := getattr(config, "_attn_implementation", None)) is not None}
