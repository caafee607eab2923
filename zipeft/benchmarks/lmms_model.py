"""A vision-language model as lmms-eval takes one (pip install 'zipeft[lmms]').

A task of lmms-eval asks with a text of its own and an image; the words that zipeft's tasks put around a question stand
around that text, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms

from zipeft.api.data import Picture
from zipeft.benchmarks.respondent import Respondent
from zipeft.errors import UserError
from zipeft.images.reading import to_rgb
from zipeft.vqa.question import VisualQuestion

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance
    from PIL.Image import Image

DRAWING = ("temperature", "top_p")


class VisionLanguage(lmms):  # type: ignore[misc]  # lmms-eval has no types
    """Answers the requests of lmms-eval's tasks. ``max_new_tokens`` of the respondent is the most that a task gets."""

    def __init__(self, respondent: Respondent) -> None:
        super().__init__()
        self.respondent = respondent

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Return for each continuation of a question its loss, and whether it is what the model writes.

        The loss is the negative log-probability of its tokens and of the end behind them: a task of lmms-eval takes
        the option of the least loss. Each pair stands in a ``GenerationResult``: of anything else but a text lmms-eval
        0.7.3 keeps what ``str`` makes of it.
        """
        asked: dict[VisualQuestion, list[int]] = defaultdict(list)
        continuations = []
        for place, request in enumerate(requests):
            text, continuation, *_ = request.args
            if callable(continuation):
                continuation = continuation(self._row(request))
            continuations.append(str(continuation).removeprefix(" "))
            asked[self._question(request, text)].append(place)
        questions = [
            question._replace(options=tuple(continuations[place] for place in places))
            for question, places in asked.items()
        ]
        choices = self.respondent.choices(questions, letters=False)
        found: dict[int, GenerationResult] = {}
        for places, choice in zip(asked.values(), choices, strict=True):
            for place, log_prob in zip(places, choice.log_probs, strict=True):
                found[place] = GenerationResult((-log_prob, choice.written == continuations[place].strip()))
        return [found[place] for place in range(len(continuations))]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Return what the model writes to each request, up to where its task has it end."""
        alike: dict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            alike[repr(sorted(request.args[1].items()))].append(place)
        found: dict[int, str] = {}
        for places in alike.values():
            wanted = requests[places[0]].args[1]
            most = min(int(wanted.get("max_new_tokens", LONGEST)), self.respondent.max_new_tokens)
            respondent = replace(self.respondent, max_new_tokens=most, sampling=_sampling(wanted))
            written = respondent.written([self._question(requests[place], requests[place].args[0]) for place in places])
            found.update((place, _cut(text, wanted)) for place, text in zip(places, written, strict=True))
        return [found[place] for place in range(len(requests))]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        raise UserError(f"{requests[0].task_name} asks in several rounds, which zipeft's models do not answer")

    def _question(self, request: Instance, text: str) -> VisualQuestion:
        """Return a request's question, without options. Raises ``UserError`` where it has several images."""
        _, _, visual, number, task, split = request.args
        place = f"{task}, {split} {number}"
        count = len(visual(self._row(request)) or ())
        if count > 1:
            raise UserError(f"{place} has {count} images, of which zipeft's models are shown one: leave the task out")

        def read() -> Image:  # anew: all images of a task at once may be more than the memory takes
            return to_rgb(visual(self._row(request))[0])

        return VisualQuestion(text, (), Picture(place, read) if count else None, name=place)

    def _row(self, request: Instance) -> Mapping[str, Any]:
        *_, number, task, split = request.args
        return self.task_dict[task][split][number]


LONGEST = 1024
"""Tokens of an answer for a task that does not say how many."""


def _sampling(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of ``generate`` of transformers for a task's: it draws, or takes beams, only if it asks for it."""
    beams = {"num_beams": wanted["num_beams"]} if wanted.get("num_beams", 1) > 1 else {}
    if not wanted.get("do_sample", wanted.get("temperature", 0) > 0):
        return beams
    return {"do_sample": True, **{name: wanted[name] for name in DRAWING if name in wanted}, **beams}


def _cut(text: str, wanted: Mapping[str, Any]) -> str:
    """Return a text up to the first of the marks that a task has it end at."""
    marks = wanted.get("until") or ()
    for mark in [marks] if isinstance(marks, str) else marks:
        text = text.partition(mark)[0] if mark else text
    return text
