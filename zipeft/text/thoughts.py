"""Thoughts, which some language models write down before they answer: what of a text is the answer.

Templates of such models (Qwen3, DeepSeek-R1, GLM-4.5, Nemotron, ...) take what stands behind the last end of a thought
as the answer, and so does this module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
)
"""What begins a thought, and what ends it."""

CHANNELS = re.compile(
    r"\s*(?:<\|channel\|>)?analysis"
    r"(?:.*assistant(?:<\|channel\|>)?final(?:<\|message\|>)?|(?:<\|message\|>)?(?=[A-Z]).*)",
    re.DOTALL,
)
"""Thoughts of gpt-oss, up to where they are cut off if they are. Their marks are special tokens, mostly not among the
text, which then begins with "analysisWe"."""


def without_thoughts(text: str) -> str:
    """Return what stands behind the thoughts of a text: nothing, if it ends while it thinks.

    What begins a thought may be missing, for a prompt may end in it.
    """
    if channels := CHANNELS.match(text):
        text = text[channels.end() :]
    for begin, end in TAGS:
        text = text.rpartition(end)[2]
        if text.lstrip().startswith(begin):
            return ""
    return text


def may_begin(text: str) -> bool:
    """Whether a text is the first part of what begins a thought."""
    return any(begin.startswith(text.strip()) for begin, _ in TAGS)


def answer_of(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """Return the text of an answer's tokens, without thoughts, special tokens, and white space around it."""
    text = tokenizer.decode(_behind_thoughts(tokenizer, ids), skip_special_tokens=True)
    assert isinstance(text, str)  # not a list: these are the tokens of one answer
    return without_thoughts(text).strip()


def _behind_thoughts(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> list[int]:
    """Return the tokens behind thoughts whose marks are tokens: special ones are not seen any more in the text."""
    rest = list(ids)
    for begin, end in TAGS:
        begins, ends = (tokenizer.backend_tokenizer.token_to_id(mark) for mark in (begin, end))
        if ends in rest:
            rest = rest[len(rest) - rest[::-1].index(ends) :]
        if begins is not None and rest[:1] == [begins]:
            return []
    return rest
