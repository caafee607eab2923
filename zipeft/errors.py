"""The one exception that a user is meant to see, and what helps to word it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]",
)
"""Control characters, marks that change the direction of text, and lone surrogates."""


class UserError(Exception):
    """A mistake in the input, in one line that says what to do.

    The command line prints it on stderr without a traceback and exits with status 2.
    """


class ReaderGone(BaseException):
    """Nobody reads the output any more, as after ``| head``; the command ends silently.

    It is no ``Exception``, so that it does not count as a failure of a run.
    """


class CannotWrite(UserError):
    """A file cannot be written, for reasons unrelated to its content."""


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError`` with a message unless the condition holds; for the settings of plug-ins, in
    ``__post_init__``, whose ``ValueError`` the command line shows as a ``UserError``."""
    if not condition:
        raise ValueError(message)


def one_line(error: BaseException, limit: int | None = 160) -> str:
    """Return what an error says, on one line of at most ``limit`` characters; its kind if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"


def described(error: BaseException, limit: int = 160) -> str:
    """Return an error's kind and what it says, as in "KeyError: 'x'", on one line: what a library says may mean little
    without the kind."""
    kind, text = type(error).__name__, one_line(error, limit)
    return kind if text == kind else f"{kind}: {text}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'vit'?" for a word that is close to a known one, else ""."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def printable(text: str) -> str:
    """Return a text that is safe to show on a terminal: control characters become escape codes."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
