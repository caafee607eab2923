"""Test examples on a page, with the answers of three methods beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zipeft.api.method import FORMS
from zipeft.formatting import DASH, listing
from zipeft.leaderboard.blocks import Answered, Block, Gallery, Heading, Paragraph
from zipeft.leaderboard.examples_file import Examples
from zipeft.leaderboard.ranking import Row
from zipeft.results import Result

METHODS = 3
BLIND = "_blind"

Seed = Mapping[str, Result]
"""By the labels of rows, their results on one data set from one seed."""


def answers(rows: Sequence[Row], examples: Sequence[Examples]) -> Iterator[Block]:
    """Yield the blocks of each data set's examples that are of the same content as the rows' results."""
    for each in examples:
        found = _results(rows, each)
        if not found:
            continue
        seed = next(iter(found.values())).seed
        yield Heading(f"Test images of {each.dataset}, and answers", 3)
        yield Paragraph(
            f"The options that {listing(list(found))} found likeliest, seed {seed}, of test questions that were drawn "
            f"by chance. Images: {each.showcase.credit}."
        )
        yield Gallery([_answered(found, each, index) for index in range(len(each.showcase.examples))])


def shown_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose answers are shown: the best method that is there blind too, this form of it, and the best
    of the other methods; where none is there blind, the three best. ``rows`` come best first."""
    names = {row.label: row.results[0].method.name for row in rows}
    blind = {names[row.label]: row for row in rows if names[row.label].endswith(BLIND)}
    own = [row for row in rows if names[row.label].rpartition("_")[2] not in FORMS]
    first = next((row for row in own if names[row.label] + BLIND in blind), None)
    if first is None:
        return list(rows[:METHODS])
    others = [row for row in own if row is not first]
    return [first, blind[names[first.label] + BLIND], *others[: METHODS - 2]]


def _results(rows: Sequence[Row], examples: Examples) -> Seed:
    """Return the results that are shown: of the first seed that all rows have; none where there is no such seed."""
    of_content = {
        row.label: {
            result.seed: result
            for result in row.results
            if (result.task.dataset, result.task.checksum) == (examples.dataset, examples.checksum)
        }
        for row in rows
    }
    chosen = shown_rows([row for row in rows if of_content[row.label]])
    shared = set.intersection(*(set(of_content[row.label]) for row in chosen)) if chosen else set()
    return {row.label: of_content[row.label][min(shared)] for row in chosen} if shared else {}


def _answered(found: Seed, examples: Examples, number: int) -> Answered:
    shown = examples.showcase.examples[number]
    given = []
    for label, result in found.items():
        answer = result.predictions[shown.index] if shown.index < len(result.predictions) else None
        words = shown.options[answer] if isinstance(answer, int) and 0 <= answer < len(shown.options) else DASH
        given.append((label, words, answer == shown.right))
    return Answered(shown.image, shown.asked, shown.options[shown.right], given)
