"""Asking an endpoint that speaks OpenAI's chat protocol, with patience for what may pass."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

import openai
import tenacity

from zipeft.errors import UserError, one_line
from zipeft.formatting import counted
from zipeft.judge.replies import CUT, FILTERED, REFUSED, Reply

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

LARGEST = 4 << 20
"""Bytes of a response when it is unpacked; the longest reply that a model writes has a tenth of it."""

ENCODINGS = ("", "identity", "gzip", "deflate")
"""How a response may be packed, though it is not asked to be; by another, one packet may become gigabytes at once."""

REFUSALS = (400, 413, 422)
"""Statuses of a server that will not have this request, and may well answer the next one."""

SECRET = 8
"""Characters from which on a key is taken for a secret, nowhere to be shown. A server that needs no key is mostly given
a shorter word, which may well be one of a reply, too."""


class EndpointFailure(Exception):
    """There is no reply to be had; the text says in one phrase why, with the endpoint as its subject."""


class Nonsense(Exception):
    """What came back is no reply; the text says what it is."""


class Empty(Nonsense):
    """What came back is a reply without a text."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.refusal)
        self.reply = reply


class Client:
    """An endpoint; to be used as an asynchronous context, and by any number of tasks at once.

    ``timeout`` is for a reply from its first byte to its last. ``retries`` is how often a request is sent again after a
    lost connection, a time-out, status 429 or 5xx, or an answer that is no chat completion. Pauses grow exponentially,
    and are never shorter than what ``Retry-After`` says.
    """

    def __init__(self, endpoint: str, key: str, timeout: float, retries: int) -> None:
        self._timeout, self._retries = timeout, retries
        self._secret = key if len(key) >= SECRET else None
        try:
            self._openai = openai.AsyncOpenAI(
                base_url=endpoint,
                api_key=key or "none",  # the client insists on one; a server of one's own mostly wants none
                max_retries=0,  # its own would multiply ours
                timeout=openai.Timeout(timeout, connect=min(timeout, LONGEST_CONNECT)),
                default_headers={"Accept-Encoding": "identity"},
                # What the user named gets the prompts and the key, and no place that it points to.
                http_client=_Bounded(follow_redirects=False),
            )
        except (ImportError, ValueError) as error:  # of a proxy that it cannot use
            raise UserError(f"{endpoint} cannot be asked ({one_line(error)}): check the proxy's variables") from None
        except Exception as error:  # of an HTTP library that is not the same one in each openai
            if type(error).__name__ != "InvalidURL":
                raise
            raise UserError(f"--endpoint {endpoint} is no URL ({one_line(error)}): correct it") from None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._openai.close()

    async def ask(self, request: Mapping[str, Any]) -> Reply:
        """Return the reply to a request, a body of ``chat/completions``; without a text if there is none for this one.

        Raises ``EndpointFailure`` if the server cannot be asked anything.
        """
        attempts = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._retries + 1),
            retry=tenacity.retry_if_exception(_may_pass),
            wait=_pause,
            reraise=True,
        )
        try:
            reply: Reply = await attempts(self._once, request)
        except Empty as error:  # each time
            reply = error.reply
        except (openai.APIError, Nonsense) as error:
            if not (isinstance(error, openai.APIStatusError) and error.status_code in REFUSALS):
                tries = f" ({counted(self._retries + 1, 'attempt')})" if _may_pass(error) else ""
                raise EndpointFailure(self._without_key(_phrase(error)) + tries) from None
            filtered = str(error.code).startswith(("content_filter", "content_policy"))
            reply = Reply("", FILTERED if filtered else REFUSED, refusal=_phrase(error))
        return reply._replace(
            text=self._without_key(reply.text),
            answered_as=self._without_key(reply.answered_as),
            refusal=self._without_key(reply.refusal),
        )

    async def _once(self, request: Mapping[str, Any]) -> Reply:
        try:
            completion = await asyncio.wait_for(self._openai.chat.completions.create(**request), self._timeout)
        except (openai.APITimeoutError, asyncio.TimeoutError):
            raise Nonsense(f"did not reply in time ({self._timeout:g} s)") from None
        except openai.APIConnectionError as error:  # which some versions of the client make of any error
            raise error.__cause__ if isinstance(error.__cause__, Nonsense) else error from error.__cause__
        except UnicodeEncodeError as error:  # of the name of a host
            raise Nonsense(f"could not be reached ({_quote(str(error))})") from None
        except (ValueError, RecursionError) as error:  # from parsing JSON, which it only claims to be
            raise Nonsense(f"sent JSON that cannot be read ({_quote(str(error))})") from None
        return _reply(completion)

    def _without_key(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text


class _Bounded(openai.DefaultAsyncHttpxClient):
    """An HTTP client that holds no more than ``LARGEST`` bytes of a response, of one that is a refusal too."""

    async def send(self, request: Any, **options: Any) -> Any:
        response = await super().send(request, **(options | {"stream": True}))
        content = bytearray()
        try:
            if (encoding := response.headers.get("content-encoding", "").lower()) not in ENCODINGS:
                raise Nonsense(f"sent a reply that is packed as {_quote(encoding)}, for which it was not asked")
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > LARGEST:
                    raise Nonsense(f"sent more than {LARGEST >> 20} MiB for one reply")
        finally:
            await response.aclose()
        framing = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in framing]
        return type(response)(response.status_code, headers=headers, content=bytes(content), request=request)


# --- what is a reply --------------------------------------------------------------------------------------------------


def _reply(completion: ChatCompletion | Any) -> Reply:
    """Take a reply out of what the server sent, which the client does not check. Raises ``Nonsense``."""
    try:
        choice = completion.choices[0]
        text = choice.message.content
    except (AttributeError, TypeError, LookupError):
        raise Nonsense(f"sent no chat completion but {_described(completion)}") from None
    if not isinstance(text, str | None):
        raise Nonsense(f"sent no text but {_quote(repr(text))}")
    finish, model = getattr(choice, "finish_reason", None), getattr(completion, "model", None)
    usage = getattr(completion, "usage", None)
    reply = Reply(
        text or "",
        finish_reason=_quote(finish) if isinstance(finish, str) else "",
        answered_as=_quote(model) if isinstance(model, str) else "",
        prompt_tokens=_count(getattr(usage, "prompt_tokens", None)),
        completion_tokens=_count(getattr(usage, "completion_tokens", None)),
    )
    if reply.text.strip():
        return reply
    hint = ": raise --max-tokens" if finish == CUT else ""
    refusal = f"sent an empty reply (finish_reason {_quote(str(finish))}){hint}"
    reply = reply._replace(text="", refusal=refusal)
    if finish in (CUT, FILTERED):  # the same request would end in the same way
        return reply
    raise Empty(reply)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _described(body: Any) -> str:
    """Return in a few words what a body is that is no chat completion."""
    text = body if isinstance(body, str) else json.dumps(getattr(body, "model_extra", None) or body, default=repr)
    return _quote(text) or "nothing"


def _phrase(error: Exception) -> str:
    """Return what an error means, with the endpoint as its subject."""
    if isinstance(error, openai.APIConnectionError):
        return f"could not be reached ({_quote(str(error.__cause__ or error)) or type(error.__cause__).__name__})"
    if isinstance(error, openai.APIStatusError):
        if place := error.response.headers.get("location"):
            return f"points to {_quote(place)} (status {error.status_code}): give the --endpoint that is meant"
        wait = _retry_after(error)
        return f"refused with status {error.status_code} ({_said(error)}){f', for {wait:g} s' if wait else ''}"
    return _quote(str(error))


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
        return passing and _retry_after(error) <= LONGEST_WAIT
    return isinstance(error, openai.APIConnectionError | Nonsense)


def _pause(state: tenacity.RetryCallState) -> float:
    """Return how many seconds to wait before the next attempt."""
    backoff = tenacity.wait_exponential(BACKOFF, LONGEST_PAUSE)(state) + tenacity.wait_random(0, BACKOFF)(state)
    error = state.outcome.exception() if state.outcome else None
    return max(backoff, _retry_after(error))


def _retry_after(error: BaseException | None) -> float:
    """Return how many seconds a server asks to wait, in seconds or by a date (RFC 9110, 10.2.3); 0 if it does not."""
    value = error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return 0.0 if math.isnan(seconds) else max(seconds, 0.0)
