"""Asking an endpoint that speaks OpenAI's chat protocol, with patience for what may pass."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.errors import UserError
from zipeft.text.files import one_line
from zipeft.words import counted

try:
    import openai
    import tenacity
except ImportError as error:
    raise UserError(f"zipeft judge needs {error.name}: pip install 'zipeft[judge]'") from None

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

BACKOFF = 1.0
"""Seconds before the second attempt; each further pause is twice as long, and a random part of this longer."""

LONGEST_PAUSE = 60.0
"""Seconds that a pause grows to."""

LONGEST_WAIT = 600.0
"""Seconds that a server may ask to wait; one that asks for more is given up."""

LONGEST_CONNECT = 15.0
"""Seconds that a connection may take: a machine that is not there need not be waited for as long as a reply."""

LONGEST_QUOTE = 300
"""Characters of a server's own words in a message."""

SECRET = 8
"""Characters from which on a key is taken for a secret, nowhere to be shown. A server that needs no key is mostly given
a shorter word, which may well be one of a reply, too."""


class Reply(NamedTuple):
    """What the judge wrote, which model the server says it was, and tokens; "" and ``None`` where it does not tell."""

    text: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None


class EndpointFailure(Exception):
    """There is no reply to be had; the text says in one phrase why, with the endpoint as its subject."""


class Nonsense(Exception):
    """What came back is no reply; the text says what it is."""


class Client:
    """An endpoint; to be used as an asynchronous context, and by any number of tasks at once.

    ``retries`` is how often a request is sent again after a lost connection, a time-out, status 429 or 5xx, or an
    answer that is no chat completion. Pauses grow exponentially, and are never shorter than what ``Retry-After`` says.
    """

    def __init__(self, endpoint: str, key: str, timeout: float, retries: int) -> None:
        self._timeout, self._retries = timeout, retries
        self._secret = key if len(key) >= SECRET else None
        # The client insists on a key; a server of one's own mostly wants none. Its own retries would multiply ours.
        options: dict[str, Any] = {"base_url": endpoint, "api_key": key or "none", "max_retries": 0}
        try:
            patience = openai.Timeout(timeout, connect=min(timeout, LONGEST_CONNECT))
            self._openai = openai.AsyncOpenAI(**options, timeout=patience)
        except (ImportError, ValueError) as error:  # of a proxy that it cannot use
            raise UserError(f"{endpoint} cannot be asked ({one_line(error)}): check the proxy's variables") from None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._openai.close()

    async def ask(self, request: Mapping[str, Any]) -> Reply:
        """Return the reply to a request, a body of ``chat/completions``. Raises ``EndpointFailure``."""
        attempts = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._retries + 1),
            retry=tenacity.retry_if_exception(_may_pass),
            wait=_pause,
            reraise=True,
        )
        try:
            return await attempts(self._once, request)
        except (openai.APIError, Nonsense) as error:
            tries = f" ({counted(self._retries + 1, 'attempt')})" if _may_pass(error) else ""
            raise EndpointFailure(self._without_key(self._phrase(error)) + tries) from None

    async def _once(self, request: Mapping[str, Any]) -> Reply:
        try:
            completion = await self._openai.chat.completions.create(**request)
        except (ValueError, RecursionError) as error:  # from parsing JSON, which it only claims to be
            raise Nonsense(f"sent JSON that cannot be read ({_quote(str(error))})") from None
        reply = _reply(completion)
        return reply._replace(text=self._without_key(reply.text), model=self._without_key(reply.model))

    def _phrase(self, error: Exception) -> str:
        if isinstance(error, openai.APITimeoutError):
            return f"did not reply in time ({self._timeout:g} s)"
        if isinstance(error, openai.APIConnectionError):
            return f"could not be reached ({_quote(str(error.__cause__ or error)) or type(error.__cause__).__name__})"
        if isinstance(error, openai.APIStatusError):
            wait = _retry_after(error) or 0.0
            return f"refused with status {error.status_code} ({_said(error)}){f', for {wait:g} s' if wait else ''}"
        return _quote(str(error))

    def _without_key(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text


# --- what is a reply --------------------------------------------------------------------------------------------------


def _reply(completion: ChatCompletion | Any) -> Reply:
    """Take a reply out of what the server sent, which the client does not check. Raises ``Nonsense``."""
    try:
        choice = completion.choices[0]
        text = choice.message.content
    except (AttributeError, TypeError, LookupError):
        raise Nonsense(f"sent no chat completion but {_described(completion)}") from None
    if not isinstance(text, str) or not text.strip():
        reason = getattr(choice, "finish_reason", None)
        hint = ": raise --max-tokens" if reason == "length" else ""
        raise Nonsense(f"sent an empty reply (finish_reason {reason!r}){hint}")
    model = getattr(completion, "model", None)
    usage = getattr(completion, "usage", None)
    tokens = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(text, model if isinstance(model, str) else "", *map(_count, tokens))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _described(body: Any) -> str:
    """Return in a few words what a body is that is no chat completion."""
    text = body if isinstance(body, str) else json.dumps(getattr(body, "model_extra", None) or body, default=repr)
    return _quote(text) or "nothing"


def _said(error: openai.APIStatusError) -> str:
    """Return what the server says of its refusal."""
    body: Any = error.body
    if isinstance(body, Mapping):
        body = next((body[name] for name in ("message", "detail", "error") if body.get(name)), body)
    return _quote(body if isinstance(body, str) else json.dumps(body, default=repr)) or "without a word"


def _quote(text: str) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text[: 10 * LONGEST_QUOTE].split())
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]}..."


# --- patience ---------------------------------------------------------------------------------------------------------


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, openai.APIStatusError):
        passing = error.status_code == 429 or error.status_code >= 500
        return passing and (_retry_after(error) or 0.0) <= LONGEST_WAIT
    return isinstance(error, openai.APIConnectionError | Nonsense)


def _pause(state: tenacity.RetryCallState) -> float:
    """Return how many seconds to wait before the next attempt."""
    backoff = tenacity.wait_exponential(BACKOFF, LONGEST_PAUSE)(state) + tenacity.wait_random(0, BACKOFF)(state)
    error = state.outcome.exception() if state.outcome else None
    return max(backoff, _retry_after(error) or 0.0)


def _retry_after(error: BaseException | None) -> float | None:
    """Return how many seconds a server asks to wait; it says so in seconds or by a date (RFC 9110, 10.2.3)."""
    value = error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else seconds
