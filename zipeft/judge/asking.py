"""Which requests a comparison takes, and sending those that have no reply yet."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.errors import UserError
from zipeft.judge.answers import Contest, Pair
from zipeft.judge.journal import Journal
from zipeft.judge.prompts import PROTOCOLS, prompt
from zipeft.judge.verdicts import Verdict
from zipeft.words import counted

if TYPE_CHECKING:
    from tqdm import tqdm

    from zipeft.judge.client import Client

ATTEMPTS = 2
"""How often the judge is asked for a verdict that can be read, the second time with a reminder of the form."""

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


def key_of(request: Mapping[str, Any]) -> str:
    """Return the hash of a request: of model, settings, and the prompt with its words, the question and the answers."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def hear(judge: Judge, pair: Pair, order: Order, replies: Mapping[str, Mapping[str, Any]]) -> Hearing:
    """Return what is there of a comparison. Replies are kept as they came; what they say is found out here."""
    heard: list[Mapping[str, Any]] = []
    for attempt in range(ATTEMPTS):
        record = replies.get(key_of(judge.request(pair, order, attempt)))
        if record is None:
            return Hearing(heard, None, False)
        heard.append(record)
        if verdict := PROTOCOLS[judge.protocol].read(record["reply"]):
            return Hearing(heard, verdict, True)
    return Hearing(heard, None, True)


@dataclass(frozen=True)
class Session:
    """A judge at an endpoint, before whom two files' answers are brought, and the journal of what it says."""

    judge: Judge
    contest: Contest
    journal: Journal
    endpoint: str

    def open_comparisons(self) -> list[Comparison]:
        """Return what has no verdict yet; where both answers are the same, both orders are one request."""
        found = {}
        for pair in self.contest.pairs:
            for order in ORDERS:
                if not hear(self.judge, pair, order, self.journal.replies).done:
                    found.setdefault(key_of(self.judge.request(pair, order, 0)), (pair, order))
        return list(found.values())

    async def ask_all(self, client: Client, comparisons: Sequence[Comparison], workers: int, bar: tqdm) -> None:
        """Bring each comparison to its end, ``workers`` at a time. Raises ``UserError`` where the endpoint fails."""
        waiting = iter(comparisons)

        async def work() -> None:
            for pair, order in waiting:
                await self._settle(client, pair, order)
                bar.update()

        async with client:
            tasks = [asyncio.create_task(work()) for _ in range(workers)]
            try:
                await asyncio.gather(*tasks)
            finally:  # where one fails or the user interrupts, none is left that uses the client while it closes
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self, client: Client, pair: Pair, order: Order) -> None:
        from zipeft.judge.client import EndpointFailure

        while not (hearing := hear(self.judge, pair, order, self.journal.replies)).done:
            attempt = len(hearing.replies)
            request = self.judge.request(pair, order, attempt)
            try:
                reply = await client.ask(request)
            except EndpointFailure as failure:
                kept = counted(len(self.journal.replies), "reply is", "replies are")
                raise UserError(
                    f"question {pair.id!r}: {self.endpoint} {failure}; {kept} in {self.journal.path}, "
                    "and the same command goes on from there"
                ) from None
            self.journal.add(key_of(request), self._record(pair, order, attempt, reply._asdict()))

    def _record(self, pair: Pair, order: Order, attempt: int, reply: dict[str, Any]) -> dict[str, Any]:
        """Return what is kept of a reply; but for the reply itself it is for the reader's eyes."""
        verdict = PROTOCOLS[self.judge.protocol].read(reply["text"])
        return {
            "question_id": pair.id,
            "first": self.contest.names[order[0]],
            "second": self.contest.names[order[1]],
            "protocol": self.judge.protocol,
            "attempt": attempt + 1,
            "winner": verdict and verdict.winner,
            "scores": verdict and verdict.scores,
            "reply": reply["text"],
            "model": self.judge.model,
            "answered_as": reply["model"],
            "temperature": self.judge.temperature,
            "max_tokens": self.judge.max_tokens,
            "prompt_tokens": reply["prompt_tokens"],
            "completion_tokens": reply["completion_tokens"],
            "endpoint": self.endpoint,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
