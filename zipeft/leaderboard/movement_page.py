"""What moved between two sets of results, as blocks of a page and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from zipeft.formatting import DASH, counted, listing, percent
from zipeft.leaderboard import costs
from zipeft.leaderboard.blocks import Block, Bullets, Cell, Column, Heading, Paragraph, Table
from zipeft.leaderboard.machines import machine
from zipeft.leaderboard.movement import EQUAL, HIGHER, LOWER, MEAN, NOISE, UNKNOWN, Move, Movement, Unpaired
from zipeft.results import Result

MEANING = (
    "Scores are percent, means over the seeds that both have or, where they have none in common, over all. The "
    "difference is after minus before, with its 95 % interval over seeds and test examples in common; p is corrected "
    f"for the number of rows by Holm's method. A row is {HIGHER} or {LOWER} where p is below 5 %, {EQUAL} where all "
    f'predictions and scores are the same to the last digit, and "{UNKNOWN}" where fewer seeds are shared than a board '
    "ranks by."
)

COSTS_MEANING = (
    "Costs are those of the same runs, before and after, with the ratio in parentheses. Times and memory of different "
    "machines are not compared."
)


def page(movement: Movement, names: tuple[str, str]) -> Iterator[Block]:
    """Yield the blocks of a page; ``names`` are those of the two sets of results."""
    yield Paragraph(f"Before: {names[0]}; after: {names[1]}. {summary(movement)}")
    if movement.moves:
        yield Heading("Scores")
        yield _scores(movement.moves)
        yield Paragraph(MEANING)
        if chosen := [(f"{m.label} on {m.dataset}", f": {m.chosen}") for m in movement.moves if m.chosen]:
            yield Paragraph("What the searches chose otherwise (before / after):")
            yield Bullets(chosen)
        yield Heading("Costs")
        yield _costs([move for move in movement.moves if move.dataset != MEAN])
        yield Paragraph(COSTS_MEANING)
    for name, rows in zip(names, (movement.only_before, movement.only_after), strict=True):
        if rows:
            yield Heading(f"Only in {name}")
            yield Bullets([(_row(each), _because(each)) for each in rows])


def summary(movement: Movement) -> str:
    """Return how many rows moved, in a sentence."""
    moves = [move for move in movement.moves if move.dataset != MEAN]
    found = Counter(move.verdict for move in moves)
    said = [f"{found[verdict]} {verdict}" for verdict in (EQUAL, NOISE, HIGHER, LOWER) if found[verdict]]
    said += [f"{found[UNKNOWN]} with {UNKNOWN}"] if found[UNKNOWN] else []
    both = f"Rows in both: {len(moves)}{f' ({listing(said)})' if said else ''}"
    return f"{both}; only before: {len(movement.only_before)}; only after: {len(movement.only_after)}."


def moved(movement: Movement) -> bool:
    """Whether a score moved beyond noise."""
    return any(move.verdict in (HIGHER, LOWER) for move in movement.moves)


def as_json(movement: Movement, names: tuple[str, str]) -> dict[str, Any]:
    """Return all of it for other programs, scores as fractions."""
    alone = (movement.only_before, movement.only_after)
    return {
        "before": names[0],
        "after": names[1],
        "rows": [_move_json(move) for move in movement.moves],
        "only_before": [_about(each.results[0], each.label) | {"why": each.why} for each in alone[0]],
        "only_after": [_about(each.results[0], each.label) | {"why": each.why} for each in alone[1]],
    }


# A row.


def _scores(moves: Sequence[Move]) -> Table:
    headers = ("board", "data set", "method", "seeds", "before", "after", "difference", "p", "")
    columns = [Column(header, numeric=header in headers[3:8]) for header in headers]
    return Table(columns, [_score_cells(move) for move in moves], "Scores")


def _score_cells(move: Move) -> list[Cell]:
    before, after = move.scores
    gap, interval = DASH, move.gap.interval() if move.gap else None
    if move.gap:
        gap = f"{100 * move.gap.mean:+.1f}"
    between = f"({100 * interval[0]:+.1f}, {100 * interval[1]:+.1f})" if interval else ""
    p = DASH if move.p is None else "< 0.001" if move.p < 0.001 else f"{move.p:.3f}"
    verdict = Cell(move.verdict, best=move.verdict in (HIGHER, LOWER))
    cells = [_board(move.before[0]), move.dataset, move.label, str(len(move.seeds)), percent(before), percent(after)]
    return [*map(Cell, cells), Cell(gap, between), Cell(p), verdict]


def _costs(moves: Sequence[Move]) -> Table:
    headers = ["board", "data set", "method", *(" ".join(quantity.header.split()) for quantity in costs.MAIN)]
    columns = [Column(header, numeric=index > 2) for index, header in enumerate(headers)]
    rows = [
        [Cell(_board(m.before[0])), Cell(m.dataset), Cell(m.label), *(_cost(each, m) for each in costs.MAIN)]
        for m in moves
    ]
    return Table(columns, rows, "Costs")


def _cost(quantity: costs.Quantity, move: Move) -> Cell:
    before, after = quantity.number(move.before), quantity.number(move.after)
    texts = f"{quantity.text(move.before)} / {quantity.text(move.after)}"
    if quantity.of_machine and not _same_machine(move):
        return Cell(texts, "(other machine)")
    ratio = f"(×{after / before:.2f})" if before and after is not None and before != after else ""  # noqa: RUF001
    return Cell(texts, ratio)


def _same_machine(move: Move) -> bool:
    machines = {machine(result) for result in (*move.before, *move.after)}
    return len(machines) == 1


def _board(result: Result) -> str:
    return f"{result.backbone.name} on {result.task.name}, {result.protocol['preset']}"


def _row(each: Unpaired) -> str:
    result = each.results[0]
    return f"{_board(result)}: {each.label} on {result.task.dataset}"


def _because(each: Unpaired) -> str:
    seeds = f": {counted(len(each.results), 'seed')}"
    return f"{seeds}; not comparable with the nearest of the other: {each.why}" if each.why else seeds


def _move_json(move: Move) -> dict[str, Any]:
    before, after = move.scores
    interval = move.gap.interval() if move.gap else None
    return {
        **_about(move.before[0], move.label),
        "dataset": move.dataset,
        "seeds": list(move.seeds),
        "before": before,
        "after": after,
        "difference": move.gap.mean if move.gap else None,
        "interval": list(interval) if interval else None,
        "p": move.p,
        "verdict": move.verdict,
        "chosen": move.chosen,
        "same_machine": _same_machine(move),
        "costs": {each.name: [each.number(move.before), each.number(move.after)] for each in costs.ALL},
    }


def _about(result: Result, label: str) -> dict[str, Any]:
    return {
        "backbone": result.backbone.name,
        "task": result.task.name,
        "dataset": result.task.dataset,
        "metric": result.task.metric,
        "method": label,
        "comparability": result.comparability,
    }
