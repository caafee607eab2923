"""What comes back from a judge."""

from __future__ import annotations

from typing import NamedTuple

COMPLETE, CUT, FILTERED, REFUSED = "stop", "length", "content_filter", "refused"
"""Why a reply ends where it does, in the words of the protocol but for the last: the request itself is refused."""


class Reply(NamedTuple):
    """What the judge wrote and why it ends there, which model the server says it was, and tokens; "" and ``None`` where
    it does not tell. Where the judge gives no answer, ``text`` is "" and ``refusal`` says in one phrase why.
    """

    text: str
    finish_reason: str = ""
    answered_as: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    refusal: str = ""
