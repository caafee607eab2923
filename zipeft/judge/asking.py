"""Which requests a comparison takes, and sending those that have no reply yet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.judge.contest import Contest, Pair
from zipeft.judge.journal import Journal, key_of
from zipeft.judge.prompts import PROTOCOLS, prompt
from zipeft.judge.replies import FILTERED, Reply
from zipeft.judge.verdicts import Verdict

if TYPE_CHECKING:
    from tqdm import tqdm

    from zipeft.judge.client import Client

ATTEMPTS = 2
"""How often the judge is asked for a verdict that can be read, the second time with a reminder of the form."""

PATIENCE = 8
"""After how many requests without an answer a judge that has answered none is taken to answer none."""

Order = tuple[int, int]
"""Which file's answer is shown first, and which second."""

ORDERS: tuple[Order, Order] = ((0, 1), (1, 0))

Comparison = tuple[Pair, Order]


@dataclass(frozen=True)
class Judge:
    """Who judges and how: all that decides a reply beside what is judged. ``None`` leaves a field to the server."""

    model: str
    protocol: str
    temperature: float | None
    max_tokens: int | None

    def request(self, pair: Pair, order: Order, attempt: int) -> dict[str, Any]:
        """Return the body of a request. All is in one message of the user: not every model knows a system's."""
        first, second = order
        shown = pair.answers[first], pair.answers[second]
        text = prompt(PROTOCOLS[self.protocol], pair.question, shown, again=attempt > 0)
        body = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        settings = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return body | {name: value for name, value in settings.items() if value is not None}


class Hearing(NamedTuple):
    """What the judge has said on a pair in one order. Without a verdict it is unreadable once it is ``done``."""

    replies: list[Mapping[str, Any]]
    verdict: Verdict | None
    done: bool


def hear(judge: Judge, pair: Pair, order: Order, journal: Journal) -> Hearing:
    """Return what is there of a comparison. Replies are kept as they came; what they say is found out here."""
    heard: list[Mapping[str, Any]] = []
    for attempt in range(ATTEMPTS):
        record = journal.reply(judge.request(pair, order, attempt))
        if record is None:
            return Hearing(heard, None, False)
        heard.append(record)
        if verdict := PROTOCOLS[judge.protocol].read(record["reply"]):
            return Hearing(heard, verdict, True)
        if not record["reply"]:  # a reminder of the form is no answer to a refusal
            break
    return Hearing(heard, None, True)


@dataclass(frozen=True)
class Session:
    """A judge at an endpoint, before whom two files' answers are brought, and the journal of what it says.

    What the judge does not answer is kept as well, once it has answered something. Until then the fault may be one of
    all requests, such as a setting that the server does not know.
    """

    judge: Judge
    contest: Contest
    journal: Journal
    endpoint: str
    _held: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def open_comparisons(self) -> list[Comparison]:
        """Return what has no verdict yet; where both answers are the same, both orders are one request."""
        found: dict[str, Comparison] = {}
        for pair in self.contest.pairs:
            for order in ORDERS:
                if not hear(self.judge, pair, order, self.journal).done:
                    found.setdefault(key_of(self.judge.request(pair, order, 0)), (pair, order))
        return list(found.values())

    async def ask_all(self, client: Client, comparisons: Sequence[Comparison], workers: int, bar: tqdm[Any]) -> None:
        """Bring each comparison to its end, ``workers`` at a time. Raises ``UserError`` where the endpoint fails."""
        waiting = iter(comparisons)

        async def work() -> None:
            for pair, order in waiting:
                await self._settle(client, pair, order)
                bar.update()

        async with client:
            tasks = [asyncio.create_task(work()) for _ in range(min(workers, len(comparisons)))]
            try:
                await asyncio.gather(*tasks)
            finally:  # where one fails or the user interrupts, none is left that uses the client while it closes
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if self._held:
            raise self._unanswered()

    async def _settle(self, client: Client, pair: Pair, order: Order) -> None:
        from zipeft.judge.client import EndpointFailure

        while not (hearing := hear(self.judge, pair, order, self.journal)).done:
            attempt = len(hearing.replies)
            request = self.judge.request(pair, order, attempt)
            try:
                reply = await client.ask(request)
            except EndpointFailure as failure:
                raise self._end(pair.id, str(failure)) from None
            self._keep(key_of(request), self._record(pair, order, attempt, reply))
            if not reply.text:
                return

    def _keep(self, key: str, record: dict[str, Any]) -> None:
        if record["finish_reason"] == FILTERED:  # that is one of the question
            return self.journal.add(key, record)
        self._held.append((key, record))
        if record["reply"] or self._has_answered():
            while self._held:
                self.journal.add(*self._held.pop(0))
        elif len(self._held) >= PATIENCE:
            raise self._unanswered()
        return None

    def _has_answered(self) -> bool:
        asked = {"model": self.judge.model, "temperature": self.judge.temperature, "max_tokens": self.judge.max_tokens}
        asked |= {"endpoint": self.endpoint}
        replies = self.journal.replies.values()
        return any(each["reply"] and all(each.get(name) == asked[name] for name in asked) for each in replies)

    def _unanswered(self) -> UserError:
        _, first = self._held[0]
        number = counted(len(self._held), "request")
        why = f"{first['refusal']}, and has answered none of {number}"
        return self._end(first["question_id"], f"{why} (--max-tokens none and --temperature none send no such setting)")

    def _end(self, question: str, why: str) -> UserError:
        kept = counted(len(self.journal.replies), "reply is", "replies are")
        return UserError(
            f"question {question!r}: {self.endpoint} {why}; {kept} in {self.journal.path}, "
            "and the same command goes on from there"
        )

    def _record(self, pair: Pair, order: Order, attempt: int, reply: Reply) -> dict[str, Any]:
        """Return what is kept of a reply; but for the reply itself and its end it is for the reader's eyes."""
        verdict = PROTOCOLS[self.judge.protocol].read(reply.text)
        return {
            "question_id": pair.id,
            "first": self.contest.names[order[0]],
            "second": self.contest.names[order[1]],
            "protocol": self.judge.protocol,
            "attempt": attempt + 1,
            "winner": verdict and verdict.winner,
            "scores": verdict and verdict.scores,
            "reply": reply.text,
            "finish_reason": reply.finish_reason,
            "refusal": reply.refusal,
            "model": self.judge.model,
            "answered_as": reply.answered_as,
            "temperature": self.judge.temperature,
            "max_tokens": self.judge.max_tokens,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "endpoint": self.endpoint,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
