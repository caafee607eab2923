"""From a labelled sentence to windows of tokens, in which each word is read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from zipeft.api.data import NO_LABEL, Window
from zipeft.errors import UserError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerFast

    from zipeft.tasks.labelling.data import Sentence


def windows_of(
    tokenizer: PreTrainedTokenizerFast, max_length: int, stride: int
) -> Callable[[Sentence, Sequence[int]], list[Window]]:
    """Return the function from a sentence and its labels to its windows; see ``Labelling.windows``."""
    space = " " if _is_byte_level(tokenizer) else ""
    encode = partial(_encode, tokenizer=tokenizer, space=space, max_length=max_length, stride=stride)
    return lambda example, target: _windows(encode(example), target, tokenizer.model_input_names)


def _windows(encoded: BatchEncoding, target: Sequence[int], names: Sequence[str]) -> list[Window]:
    """Return the windows in which words are read; the first one where there are no such words."""
    origins = _origins([_words(encoded, window) for window in range(len(encoded["input_ids"]))])
    windows = []
    for window, origin in enumerate(origins):
        if window == 0 or any(word >= 0 for word in origin):
            inputs = {name: torch.tensor(encoded[name][window]) for name in names}
            labels = torch.tensor([target[word] if word >= 0 else NO_LABEL for word in origin])
            windows.append(Window(inputs, labels, origin))
    return windows


def _encode(
    example: Sentence, *, tokenizer: PreTrainedTokenizerFast, space: str, max_length: int, stride: int
) -> BatchEncoding:
    """Return the tokens of a sentence, and of its predicate as the second segment, in as many windows as it takes.

    Each word is given with ``space`` before it. A word that is spelt like a special token stays a word.
    """
    segments = [[space + word for word in words] for words in example if words]
    options: dict[str, Any] = {
        "is_split_into_words": True,
        "return_overflowing_tokens": True,
        "split_special_tokens": True,
        "verbose": False,
    }
    encoded = tokenizer(*segments, **options)
    if len(encoded["input_ids"][0]) <= max_length:
        return encoded
    room = max_length - sum(segment != 0 for segment in encoded.sequence_ids(0))
    if room <= stride:
        beside = f" beside the predicate {' '.join(example.predicate)!r}" if example.predicate else ""
        raise UserError(
            f"max_length={max_length} leaves a sentence {max(room, 0)} tokens{beside}, which is not more than the "
            f"{stride} of stride: set a higher max_length or a lower stride"
        )
    return tokenizer(*segments, truncation="only_first", max_length=max_length, stride=stride, **options)


def _is_byte_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer writes the space before a word into its first piece, as RoBERTa's does.

    Words that are given one by one then need a space of their own: that of a tokenizer which is told to add a prefix
    space changes nothing in a word that has one.
    """
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    return pre_tokenizer is not None and b'"ByteLevel"' in pre_tokenizer.__getstate__()


def _words(encoded: BatchEncoding, window: int) -> list[int]:
    """Return, for every token of a window, the index of the word in the sentence that it is a piece of, or -1."""
    pairs = zip(encoded.word_ids(window), encoded.sequence_ids(window), strict=True)
    return [word if segment == 0 and word is not None else -1 for word, segment in pairs]


def _origins(windows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return, for every token of every window, the index of the word that is read there, or -1.

    Args:
        windows: for every token, the index of the word that it is a piece of, or -1.

    Each word is read at its first piece, in the window in which the nearer end of the window's words is farthest from
    it, of equals the first. A window may begin within a word; such a word is read in one before.
    """
    best: dict[int, tuple[int, int, int]] = {}
    before: set[int] = set()
    for index, words in enumerate(windows):
        inside = [position for position, word in enumerate(words) if word >= 0]
        for position in inside:
            word = words[position]
            is_first_piece = position == inside[0] or words[position - 1] != word
            if not is_first_piece or (position == inside[0] and word in before):
                continue
            context = min(position - inside[0], inside[-1] - position)
            if word not in best or context > best[word][0]:
                best[word] = context, index, position
        before = set(words)
    origins = [[-1] * len(words) for words in windows]
    for word, (_, index, position) in best.items():
        origins[index][position] = word
    return origins
