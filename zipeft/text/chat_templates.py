"""The chat template that a tokenizer brings: from what was said to the text of a prompt, and of the response behind it.

A template decides nothing but the text: whatever the day, it is the same, and one that does not end is stopped. Where
it knows models that think before they answer, it is asked for an answer without a thought.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.errors import UserError, one_line
from zipeft.text.thoughts import TAGS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Messages = Sequence[Mapping[str, str]]
"""What was said so far: {"role": "user", "content": "..."}, ..."""

SWITCHES = {"enable_thinking": False, "thinking": False}
"""What templates call the choice whether a model thinks; one that has none passes over them."""

TODAY = datetime(2024, 7, 26)
"""The day on which every prompt is made, where a template writes the date: the one that Llama 3's falls back on."""

SECONDS, LETTERS = 5, 10_000_000
"""More than any template should take, and than any prompt should have."""

INSTEAD = "set instruct.template=alpaca (zipeft generate: --template alpaca)"

PROBE = "zipeft"
"""A response that shows what a template writes before one."""

THOUGHT = re.compile("|".join(rf"{re.escape(begin)}\s*(?:{re.escape(end)}\s*)?\Z" for begin, end in TAGS))
"""A thought at the end of a prompt, begun or empty."""


class Joint(NamedTuple):
    """Where a response joins its prompt.

    ``prompt`` ends with all that the template itself writes before a response, and ``before`` is what stands before it
    in a written conversation: the same, but for an empty thought at the end. ``switches`` are those of the template.
    """

    prompt: str
    before: str
    switches: Mapping[str, bool]


def prompt_of(tokenizer: PreTrainedTokenizerFast, messages: Messages) -> str:
    """Return the prompt for a response to messages. Raises ``UserError`` if there is no template, or it refuses."""
    try:
        return _joint(tokenizer, messages).prompt
    except UserError:  # perhaps nothing can be learnt from it, but the model be asked
        return _closed(_rendered(tokenizer, messages, add_generation_prompt=True, **SWITCHES))


def prompt_and_response(tokenizer: PreTrainedTokenizerFast, messages: Messages, response: str) -> tuple[str, str]:
    """Return the prompt as ``prompt_of``, and the response with what the template puts after it, but for white space.

    Raises ``UserError`` as ``prompt_of``, and if the template rewrites the prompt once there is a response.
    """
    prompt, before, switches = _joint(tokenizer, messages)
    whole = _rendered(tokenizer, [*messages, _answer(response)], **switches)
    if whole.startswith(before) and response in whole[len(before) :]:
        return prompt, whole[len(before) :].rstrip()
    if any(end in response for _, end in TAGS):
        raise UserError(f"the chat template of the tokenizer rewrites the thought in a response: cut it, or {INSTEAD}")
    raise _misplaced()


def _joint(tokenizer: PreTrainedTokenizerFast, messages: Messages) -> Joint:
    """Return where a response joins messages, without thinking if the template knows how."""
    try:
        return _joint_by(tokenizer, messages, SWITCHES)
    except UserError as error:  # a thought of another form that was switched off, say
        try:
            return _joint_by(tokenizer, messages, {})
        except UserError:
            raise error from None


def _joint_by(tokenizer: PreTrainedTokenizerFast, messages: Messages, switches: Mapping[str, bool]) -> Joint:
    prompt = _rendered(tokenizer, messages, add_generation_prompt=True, **switches)
    written = _rendered(tokenizer, [*messages, _answer(PROBE)], **switches)
    stem = prompt if written.startswith(prompt) else THOUGHT.sub("", prompt)
    at = written.find(PROBE, len(stem))
    if at < 0 or not written.startswith(stem):
        raise _misplaced()
    # Spaces stay with the response: many tokenizers make one token of a space and the word behind it.
    between = written[len(stem) : at].rstrip(" ")
    if stem == prompt:
        return Joint(_closed(stem + between), stem + between, switches)
    if THOUGHT.sub("", between).strip():
        raise _misplaced()
    return Joint(_closed(prompt), stem + between, switches)


def _closed(prompt: str) -> str:
    """Return a prompt in which a thought that it begins ends at once."""
    text = prompt.rstrip()
    return next((f"{text}\n\n{end}\n\n" for begin, end in TAGS if text.endswith(begin)), prompt)


def _answer(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def _misplaced() -> UserError:
    return UserError(f"the chat template of the tokenizer does not put a response where it asks for one: {INSTEAD}")


# --- rendering --------------------------------------------------------------------------------------------------------


def _rendered(tokenizer: PreTrainedTokenizerFast, messages: Messages, **options: Any) -> str:
    if not tokenizer.chat_template:
        raise UserError(f"the tokenizer of the backbone has no chat template: {INSTEAD}")
    try:
        template = _dated(tokenizer.get_chat_template())
        with _at_most(SECONDS):
            conversation = [dict(message) for message in messages]
            text = tokenizer.apply_chat_template(conversation, chat_template=template, tokenize=False, **options)
        if len(text) > LETTERS:
            raise ValueError(f"it makes {len(text):,} letters of them")
    except Exception as error:  # a template raises what it likes, by way of the library that runs it
        raise UserError(f"the chat template of the tokenizer refuses it ({one_line(error)})") from error
    assert isinstance(text, str)  # neither tokens nor a list: it is one conversation, not tokenized
    return text


@lru_cache(maxsize=16)
def _dated(template: str) -> str:
    """Return a template with a clock of its own, which stands still: else a run would be another one every day."""
    if "strftime_now" not in template:
        return template
    codes = [f"%{flag}{letter}" for letter in "aAbBcdDeFHIjmMpSTuwxXyY" for flag in ("", "-")]
    filled = {code: TODAY.strftime(code) for code in codes if code in template}
    filters = "".join(f"|replace({code!r}, {value!r})" for code, value in filled.items())
    # The empty text keeps a line break at the template's start, which would be cut off behind a block.
    return f'{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}{{{{ "" }}}}{template}'


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` after some time; only in the main thread, and not on Windows, which has no such signal."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it takes more than {seconds} seconds")

    handler, timer = signal.signal(signal.SIGALRM, stop), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
