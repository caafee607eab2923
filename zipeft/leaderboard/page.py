"""The leaderboard page of one backbone and task, in markdown. The same results always give the same text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from zipeft.errors import UserError
from zipeft.leaderboard.comparison import Row, Section, section_differences, summary_rows
from zipeft.leaderboard.tables import count, escape, legend, listing, markdown_table, table
from zipeft.results import PROTOCOL_FIELDS, Result
from zipeft.results.environment import Environment
from zipeft.results.identity import brief, flatten
from zipeft.task import PublishedTable

CAVEATS = (
    "The interval covers what the seed changes (initial values, order of the data), not the choice of the test "
    "examples. With few seeds a test finds only large differences, so ≈ says that no difference was shown, not that "
    "there is none; the tests are not corrected for their number."
)
COSTS = (
    "Parameters and adapter file are those of one run, a range where data sets differ; the file holds the head too. "
    "Training time is the mean of a run: optimiser steps and activations of frozen blocks, without evaluation. Memory "
    "is the highest peak of a run, all of the process or device counted."
)
PLOT = (
    "Means over data sets with their intervals. Coloured: no other method has at least the same mean with at most as "
    "many parameters, apart from the head. Points with nearly the same number are drawn side by side."
)
PUBLISHED = "## Published elsewhere, on other data and another backbone: not comparable with the rows above"


def markdown(name: str, sections: Sequence[Section], links: Mapping[int, str]) -> str:
    """Return the page called ``name``. ``links`` maps the ``id()`` of every result to the address of its file."""
    first = sections[0].results[0]
    parts = [f"# {escape(title(first))}"]
    for index, section in enumerate(sections):
        parts += _section(sections, index, section)
    parts += ["## Scores against trainable parameters", f"![Scores against parameters]({quote(name)}.svg)", PLOT]
    parts += _published(first.task.name)
    parts += _provenance([result for section in sections for result in section.results], links)
    return "\n\n".join(parts) + "\n"


def title(result: Result) -> str:
    """Return the title of a page and of its plot."""
    return f"{result.backbone.name} on {result.task.name}"


def heading(sections: Sequence[Section], index: int) -> str:
    """Return the name of a section on its page."""
    return f"Results {index + 1} of {len(sections)}" if len(sections) > 1 else "Results"


# The results.


def _section(sections: Sequence[Section], index: int, section: Section) -> list[str]:
    rows = summary_rows(section.results)
    parts = [f"## {heading(sections, index)}"]
    if index:
        different = "; ".join(map(escape, section_differences(sections[0], section)))
        parts.append(f"Not comparable with {heading(sections, 0)}, and not ranked with it: {different}.")
    notes = [*map(escape, legend(rows)), *_unranked(rows), CAVEATS, COSTS, *_hardware_note(section.results)]
    if section.superseded:
        notes.append(f"Results superseded by newer ones of the same run: {section.superseded}.")
    return [*parts, _setting(section.results, rows), _data(section.results), table(rows, "pipe"), " ".join(notes)]


def _setting(results: Sequence[Result], rows: Sequence[Row]) -> str:
    """Return what was compared, in words."""
    backbone, task, protocol = results[0].backbone, results[0].task, results[0].protocol
    sources = " or ".join(sorted({result.backbone.source for result in results}))
    others = {key: value for key, value in protocol.items() if key not in PROTOCOL_FIELDS}
    ordered = {name: protocol[name] for name in PROTOCOL_FIELDS if name != "preset"} | dict(sorted(others.items()))
    seeds = sorted({result.seed for result in results})
    words = [
        f"Backbone: {backbone.name}, checkpoint {brief(backbone.checkpoint)}, {count(backbone.parameters)} parameters, "
        f"source: {sources}, SHA-256 {brief(backbone.checksum)}{_settings(backbone.settings)}.",
        f"Task: {task.name}{_settings(task.settings)}.",
        f"Protocol: {brief(protocol['preset'])} preset{_settings(ordered)}.",
        f"{'Seed' if len(seeds) == 1 else 'Seeds'} {listing(list(map(str, seeds)))}{_fewer_seeds(rows, seeds)}.",
    ]
    return escape(" ".join(words))


def _settings(settings: Mapping[str, Any]) -> str:
    return "".join(f", {name} {brief(value)}" for name, value in flatten(settings).items())


def _fewer_seeds(rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """Return the rows that lack seeds on some data set."""
    fewer = {row.label: sorted(row.by_seed) for row in rows if row.mean and sorted(row.by_seed) != list(seeds)}
    said = [f"{label} has {listing(list(map(str, own)))} on all data sets" for label, own in fewer.items()]
    return f" ({'; '.join(said)})" if said else ""


def _data(results: Sequence[Result]) -> str:
    lines = []
    for name, task in sorted({result.task.dataset: result.task for result in results}.items()):
        sizes = f"{task.sizes.train} training, {task.sizes.validation} validation and {task.sizes.test} test examples"
        source = f"{task.source}, SHA-256 {brief(task.checksum)}"
        lines.append(f"- **{escape(name)}**: {escape(f'{task.classes} classes; {sizes}; {source}. {task.note}')}")
    return "\n".join(lines)


def _unranked(rows: Sequence[Row]) -> list[str]:
    datasets = {name for row in rows for name in row.scores}
    missing = {row.label: sorted(datasets - set(row.scores)) for row in rows if row.mean is None}
    said = [f"{label} ({'no ' + listing(gaps) if gaps else 'no seed on all sets'})" for label, gaps in missing.items()]
    return [f"Below the ranked rows, without a mean: {escape(listing(said))}."] if said else []


def _hardware_note(results: Sequence[Result]) -> list[str]:
    machines = {(r.environment.device, r.environment.cpu, r.environment.cores) for r in results}
    note = f"Times and memory were measured on {len(machines)} kinds of hardware, listed below; do not compare them."
    return [note] if len(machines) > 1 else []


# What others published.


def _published(task: str) -> list[str]:
    from zipeft.registry import tasks

    try:
        tables: Sequence[PublishedTable] = tasks.get(task).published
    except UserError:
        return [f"Results that others published are left out: the task plug-in {escape(task)} cannot be loaded here."]
    parts = [PUBLISHED] if tables else []
    for published in tables:
        rows = [[escape(cell) for cell in (method, *values)] for method, values in published.rows.items()]
        parts += [f"**{escape(published.title)}**. Source: {escape(published.source.rstrip('.'))}."]
        parts += [markdown_table(rows, ["method", *map(escape, published.columns)])]
    return parts


# Where the rows come from.


def _provenance(results: Sequence[Result], links: Mapping[int, str]) -> list[str]:
    settings = {f"{r.method.name}{_settings(r.method.settings)}" for r in results}
    commands = {" ".join(result.environment.command.split()) for result in results}
    return [
        "## Where the rows come from",
        "Settings of the methods:",
        _bullets(settings),
        "Software and hardware:",
        _bullets(_environments(results)),
        "Result files:",
        _files(results, links),
        "## How to make this page again",
        "The runs, then the page from their files:",
        "\n".join(f"    {command}" for command in [*sorted(commands), "python -m zipeft.leaderboard"]),
    ]


def _files(results: Sequence[Result], links: Mapping[int, str]) -> str:
    rows = []
    for result in sorted(results, key=lambda r: (r.method.name, r.task.dataset, r.seed, links[id(r)])):
        commit = result.environment.commit[:10] + (" with changes" if result.environment.dirty else "")
        date = result.when.strftime("%Y-%m-%d %H:%M")
        link = f"[{result.id}]({links[id(result)]})"
        names = [escape(result.method.name), escape(result.task.dataset), str(result.seed)]
        rows.append([*names, link, escape(commit) or "none", date])
    return markdown_table(rows, ["method", "data set", "seed", "result file", "commit of zipeft", "date (UTC)"])


def _environments(results: Sequence[Result]) -> list[str]:
    runs = Counter(_environment(result.environment) for result in results)
    return [f"{text}: {number} run{'s' if number > 1 else ''}" for text, number in runs.items()]


def _environment(used: Environment) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(used.versions.items()))
    return f"{versions}; {used.device}, {used.cpu}, {used.cores} cores"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in sorted(lines))
