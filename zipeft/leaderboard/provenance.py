"""Where a page's rows come from: settings, searches, software and hardware, result files, commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from zipeft.formatting import DASH, counted, listing, percent
from zipeft.leaderboard.blocks import Block, Bullets, Cell, Commands, Heading, Paragraph, Table
from zipeft.leaderboard.labels import chosen, fixed, method_key, method_labels, space, spoken
from zipeft.leaderboard.sections import grouped
from zipeft.leaderboard.tables import text_table
from zipeft.results import Result, Tried
from zipeft.results.environment import Environment


def provenance(sections: Sequence[Sequence[Result]], links: Mapping[int, str]) -> Iterator[Block]:
    """Yield the blocks of a page about the origin of its sections' results; ``links`` as in ``Page``."""
    results = list(chain.from_iterable(sections))
    labels = method_labels(results)
    yield Heading("Where the rows come from")
    yield Paragraph("Settings of the methods:")
    yield _bullets({(labels[method_key(result)], f": {_settings(result)}") for result in results})
    if searched := {said for section in sections for said in _searches(section, labels)}:
        yield Paragraph("What the searches chose, on validation data alone:")
        yield _bullets(searched)
    yield Paragraph("Software and hardware:")
    yield _bullets(("", text) for text in _environments(results))
    yield Paragraph("Result files:")
    yield _files(results, labels, links)
    yield Heading("How to make this page again")
    yield Paragraph("The runs, then the page from their files:")
    commands = {" ".join(result.environment.command.split()) for result in results}
    yield Commands([*sorted(commands), "python -m zipeft.leaderboard"])


def _bullets(items: Iterable[tuple[str, str]]) -> Bullets:
    return Bullets(sorted(items))


def _settings(result: Result) -> str:
    searched = f"searched: {spoken(space(result))}" if result.method.space else ""
    return "; ".join(filter(None, (spoken(fixed(result)), searched))) or "none"


# Searches.


def _searches(results: Sequence[Result], labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield row and data set with the setting that the search chose there, and what it tried."""
    searched = [result for result in results if result.method.space]
    for (key, dataset), runs in grouped(searched, lambda r: (method_key(r), r.task.dataset)).items():
        for said, group in grouped(runs, _search).items():
            seeds = listing([str(seed) for seed in sorted({result.seed for result in group})])
            which = "" if len(group) == len(runs) else f" (seed{'s' if len(group) > 1 else ''} {seeds})"
            yield f"{labels[key]} on {dataset}{which}", f": {said}"


def _search(result: Result) -> str:
    return f"{spoken(chosen(result))}; {_tried(result.search, result.task.metric)}"


def _tried(search: Sequence[Tried], metric: str) -> str:
    """Return how many trials there were, what they scored on validation data, and how many failed."""
    if not search:
        return "its trials are not on record"
    scores = [tried.validation for tried in search if tried.validation is not None]
    failed = len(search) - len(scores)
    parts = [f"best of {counted(len(search), 'trial')} on validation"]
    if scores:
        low, high = percent(min(scores)), percent(max(scores))
        parts.append(f"{metric} {low if low == high else low + DASH + high} %")
    return "; ".join([", ".join(parts), *([f"{counted(failed, 'trial')} failed"] if failed else [])])


# Software, hardware and files.


def _environments(results: Sequence[Result]) -> list[str]:
    runs = Counter(_environment(result.environment) for result in results)
    return [f"{text}: {counted(number, 'run')}" for text, number in runs.items()]


def _environment(used: Environment) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(used.versions.items()))
    return f"{versions}; {used.device}, {used.cpu}, {used.cores} cores"


def _files(results: Sequence[Result], labels: Mapping[str, str], links: Mapping[int, str]) -> Table:
    rows: list[list[str | Cell]] = []
    for result in sorted(results, key=lambda r: (labels[method_key(r)], r.task.dataset, r.seed, links[id(r)])):
        commit = result.environment.commit[:10] + (" with changes" if result.environment.dirty else "")
        date = result.when.strftime("%Y-%m-%d %H:%M")
        file = Cell(result.id, value=result.id, link=links[id(result)])
        label = labels[method_key(result)]
        rows.append([label, result.task.dataset, str(result.seed), file, commit or "none", date])
    headers = ["method", "data set", "seed", "result file", "commit of zipeft", "date (UTC)"]
    return text_table(headers, rows, f"{counted(len(rows), 'result file')}", folded=True)
