"""What a page says of one backbone and task, block by block. Every format shows the same blocks in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zipeft.formatting import count, counted, listing
from zipeft.leaderboard import costs, secondary_scores, trivial
from zipeft.leaderboard.answers import answers
from zipeft.leaderboard.blocks import Block, Bullets, Figure, Heading, Paragraph
from zipeft.leaderboard.examples_file import Examples
from zipeft.leaderboard.legend import BOLD, caveats, legend
from zipeft.leaderboard.provenance import provenance
from zipeft.leaderboard.published import published
from zipeft.leaderboard.ranking import Row
from zipeft.leaderboard.sections import Section, section_differences
from zipeft.leaderboard.tables import cost_table, main_table
from zipeft.results import PROTOCOL_FIELDS, Failure, Result
from zipeft.results.differences import brief, flatten


@dataclass(frozen=True)
class Group:
    """A section of a page with its rows. ``heading`` names it there."""

    heading: str
    section: Section
    rows: Sequence[Row]


@dataclass(frozen=True)
class Page:
    """All that is on a page. ``name`` is that of its files, ``failures`` are runs that failed, ``left_out`` counts
    files that could not be read, ``links`` maps the ``id()`` of every result to the address of its file, and
    ``examples`` are test examples of the data sets."""

    name: str
    groups: Sequence[Group]
    links: Mapping[int, str]
    figures: Sequence[Figure] = ()
    failures: Sequence[Failure] = ()
    left_out: int = 0
    examples: Sequence[Examples] = ()

    @property
    def title(self) -> str:
        return title(self.groups[0].section.results[0])

    @property
    def blocks(self) -> list[Block]:
        """The page's content under its title."""
        return list(_blocks(self))


def title(result: Result) -> str:
    """Return the title of a page and of its plots."""
    return f"{result.backbone.name} on {result.task.name}"


def heading(number: int, index: int) -> str:
    """Return the name of one of a number of sections on their page."""
    return f"Results {index + 1} of {number}" if number > 1 else "Results"


def _blocks(page: Page) -> Iterator[Block]:
    for group in page.groups:
        yield from _group(page.groups[0], group, page.examples)
    yield from _missing(page)
    if page.figures:
        yield Heading("Plots")
        yield from page.figures
    yield from published(page.groups[0].rows)
    yield from provenance([group.section.results for group in page.groups], page.links)


# The results.


def _group(first: Group, group: Group, examples: Sequence[Examples]) -> Iterator[Block]:
    results = group.section.results
    yield Heading(group.heading)
    if group is not first:
        different = "; ".join(section_differences(first.section, group.section))
        yield Paragraph(f"Not comparable with {first.heading}, and not ranked with it: {different}.")
    yield Paragraph(_summary(results))
    yield main_table(group.rows)
    yield Paragraph(" ".join([*legend(group.rows), BOLD, *_unranked(group.rows), *trivial.meaning(group.rows)]))
    if limits := caveats(group.rows):
        yield Paragraph(" ".join(limits))
    if others := secondary_scores.other_table(group.rows):
        yield Heading("Other scores", 3)
        yield others
        yield Paragraph(secondary_scores.meaning(group.rows))
    yield from answers(group.rows, examples)
    yield Heading("What it costs", 3)
    yield cost_table(group.rows)
    yield Paragraph(" ".join(costs.meaning(results)))
    yield Heading("What was compared", 3)
    yield Paragraph(_setting(results, group.rows))
    yield _data(results)
    if group.section.superseded:
        yield Paragraph(f"Results superseded by newer ones of the same run: {group.section.superseded}.")


def _summary(results: Sequence[Result]) -> str:
    """Return in a line what the table below compares."""
    datasets = sorted({result.task.dataset for result in results})
    methods = counted(len({result.method.name for result in results}), "method")
    seeds = counted(len({result.seed for result in results}), "seed")
    model = f"{results[0].backbone.name} {brief(results[0].backbone.checkpoint)}"
    preset = brief(results[0].protocol["preset"])
    return f"{methods} on {listing(datasets)}, {seeds}; {model}, {preset} preset."


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
        f"{'Seed' if len(seeds) == 1 else 'Seeds'} {_numbers(seeds)}{_fewer_seeds(rows, seeds)}.",
    ]
    return " ".join(words)


def _settings(settings: Mapping[str, Any]) -> str:
    return "".join(f", {name} {brief(value)}" for name, value in flatten(settings).items())


def _numbers(values: Sequence[int]) -> str:
    return listing(list(map(str, values)))


def _fewer_seeds(rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """Return the rows that lack seeds on some data set."""
    fewer = [row for row in rows if row.mean and list(row.seeds) != list(seeds)]
    said = [f"{row.label} has {_numbers(row.seeds)} on all data sets" for row in fewer]
    return f" ({'; '.join(said)})" if said else ""


def _data(results: Sequence[Result]) -> Bullets:
    items = []
    for name, task in sorted({result.task.dataset: result.task for result in results}.items()):
        sizes = f"{task.sizes.train} training, {task.sizes.validation} validation and {task.sizes.test} test examples"
        source = f"{task.source}, SHA-256 {brief(task.checksum)}"
        classes = f"{task.classes} classes; " if task.classes else ""
        items.append((name, f": {classes}{sizes}; {source}. {task.note}"))
    return Bullets(items)


def _unranked(rows: Sequence[Row]) -> list[str]:
    datasets = {name for row in rows for name in row.scores}
    missing = {row.label: sorted(datasets - set(row.scores)) for row in rows if row.mean is None}
    said = [f"{label} ({'no ' + listing(gaps) if gaps else 'no seed on all sets'})" for label, gaps in missing.items()]
    return [f"Below the ranked rows, without a mean: {listing(said)}."] if said else []


def _missing(page: Page) -> Iterator[Block]:
    """Yield what is not in the tables."""
    if page.left_out:
        files, are = counted(page.left_out, "result file"), "is" if page.left_out == 1 else "are"
        yield Paragraph(f"{files} could not be read and {are} left out; zipeft validate says why.")
    if page.failures:
        yield Paragraph("Runs that failed, and have no result:")
        yield Bullets(
            sorted((f"{f.method.name} on {f.task.dataset}", f", seed {f.seed}: {f.reason}") for f in page.failures)
        )
