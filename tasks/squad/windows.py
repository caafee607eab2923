"""Windows of a question and its context: the question whole, the context in overlapping parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zipeft.api.data import Window
from zipeft.objectives.extractive_qa import Answers, Origin
from zipeft.tasks.squad.files import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def windows_of(
    tokenizer: PreTrainedTokenizerFast, max_length: int, stride: int, question_length: int
) -> Callable[[Question, Answers], list[Window]]:
    """Return the function from a question and its gold answers to its windows of at most ``max_length`` tokens.

    Two windows in a row share ``stride`` tokens of the context; a question loses what is behind its first
    ``question_length`` tokens. The first gold answer is the target of each window that holds it whole; the target of
    the others, and of all where there is no answer, is the first token. An answer that starts or ends within a token
    takes the whole token.
    """

    def windows(question: Question, answers: Answers) -> list[Window]:
        text = question.text.lstrip()  # some of SQuAD's begin with a screenful of blanks
        encoded = tokenizer(
            _shortened(tokenizer, text, question_length),
            question.context,
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        answer = _characters(answers)
        every = [_context_offsets(part) for part in encoded.encodings]
        result = []
        for at, offsets in enumerate(every):
            inputs = {name: torch.tensor(encoded[name][at]) for name in tokenizer.model_input_names}
            target = _target(offsets, answer, first=at == 0, last=at == len(every) - 1)
            result.append(Window(inputs, target, Origin(question.context, offsets)))
        return result

    return windows


def _shortened(tokenizer: PreTrainedTokenizerFast, question: str, length: int) -> str:
    if len(question) <= length:  # a token has a character or more
        return question
    offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return question if len(offsets) <= length else question[: offsets[length - 1][1]]


def _characters(answers: Answers) -> tuple[int, int] | None:
    """Return where the first gold answer starts and ends in the context, without blanks around it."""
    if not answers.texts:
        return None
    text, start = answers.texts[0], answers.starts[0]
    start += len(text) - len(text.lstrip())
    return start, start + len(text.strip())


def _context_offsets(part: Any) -> np.ndarray:
    """Return the offsets (tokens, 2) of a window as ``Origin`` has them."""
    offsets = np.array(part.offsets, dtype=np.int32)
    of_context = np.array([sequence == 1 for sequence in part.sequence_ids])
    offsets[~of_context | (offsets[:, 0] == offsets[:, 1])] = -1
    return offsets


def _target(offsets: np.ndarray, answer: tuple[int, int] | None, first: bool, last: bool) -> tuple[int, int]:
    """Return the first and last token of an answer; (0, 0) where the window does not hold it whole.

    ``first`` and ``last`` say that the context does not go on before and after the window: an answer may begin with
    characters that no token stands for.
    """
    (inside,) = np.nonzero(offsets[:, 0] >= 0)
    if answer is None or not len(inside):
        return 0, 0
    start, end = answer
    starts, ends = offsets[inside].T
    if not ((first or starts[0] <= start) and (last or end <= ends[-1])):
        return 0, 0
    touched = inside[(starts < end) & (ends > start)]
    return (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)
