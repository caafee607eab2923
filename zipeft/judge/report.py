"""What a comparison came to, as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zipeft.formatting import DASH, counted, percent
from zipeft.judge.asking import Judge
from zipeft.judge.contest import Contest
from zipeft.judge.statistics import AGREES, LOSS, TO_FIRST, TO_SECOND, TO_TIE, UNREADABLE, WIN, Summary, Tally
from zipeft.judge.verdicts import TIE
from zipeft.leaderboard.render.markdown import escape


def tables(judge: Judge, contest: Contest, summary: Summary) -> str:
    """Return the report as markdown that also reads well on a terminal."""
    a, b = map(escape, contest.names)
    found = [f"A: {a}, B: {b}", _outcomes(summary)]
    if summary.categories:
        found.append(_categories(summary))
    return "\n\n".join([*found, _judge(judge, contest, summary)])


def as_json(judge: Judge, contest: Contest, summary: Summary) -> dict[str, Any]:
    """Return the numbers of the report; rates are fractions, ``None`` where there is nothing to count."""
    return {
        "a": contest.names[0],
        "b": contest.names[1],
        **_tally(summary.total),
        "win_rate_interval": summary.interval,
        "left_out": contest.left_out,
        "categories": {name: _tally(tally) for name, tally in summary.categories.items()},
        "order": {
            "agree": summary.positions[AGREES],
            "flipped_to_first": summary.positions[TO_FIRST],
            "flipped_to_second": summary.positions[TO_SECOND],
            "tie_in_one_order": summary.positions[TO_TIE],
        },
        "judge": {
            "model": judge.model,
            "protocol": judge.protocol,
            "temperature": judge.temperature,
            "max_tokens": judge.max_tokens,
            "answered_as": summary.models,
            "endpoints": summary.endpoints,
        },
        "replies": summary.replies,
        "unreadable_replies": summary.unreadable_replies,
        "refusals": summary.refusals,
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "replies_without_usage": summary.without_usage,
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "questions": tally.questions,
        "wins": tally.outcomes[WIN],
        "ties": tally.outcomes[TIE],
        "losses": tally.outcomes[LOSS],
        "unreadable": tally.outcomes[UNREADABLE],
        "win_rate": tally.win_rate,
    }


# --- tables -----------------------------------------------------------------------------------------------------------


def _outcomes(summary: Summary) -> str:
    total = summary.total
    rows = [
        [name, str(total.outcomes[outcome]), _share(total.outcomes[outcome], total.questions)]
        for name, outcome in (("A wins", WIN), ("tie", TIE), ("B wins", LOSS), ("unreadable", UNREADABLE))
    ]
    interval = "({}, {})".format(*map(percent, summary.interval)) if summary.interval else ""
    rate = f"{_rate(total)} {interval}".strip()
    rows.append(["win rate of A", str(total.questions - total.outcomes[UNREADABLE]), rate])
    legend = (
        "Who wins in both orders wins; where the orders do not agree it is a tie. The win rate counts ties as half and "
        "leaves out what is unreadable; in parentheses its 95 % bootstrap interval over questions."
    )
    return f"{_table(['', 'questions', '%'], rows)}\n\n{legend}"


def _categories(summary: Summary) -> str:
    rows = [
        [
            escape(name) or DASH,
            *(str(tally.outcomes[outcome]) for outcome in (WIN, TIE, LOSS, UNREADABLE)),
            _rate(tally),
        ]
        for name, tally in summary.categories.items()
    ]
    return _table(["category", "A wins", "tie", "B wins", "unreadable", "win rate of A, %"], rows)


def _judge(judge: Judge, contest: Contest, summary: Summary) -> str:
    positions, readable = summary.positions, summary.positions.total()
    flips = readable - positions[AGREES]
    tokens = f"{summary.prompt_tokens:,} in prompts, {summary.completion_tokens:,} in replies"
    if summary.without_usage:
        tokens += f"; the server did not tell those of {counted(summary.without_usage, 'reply', 'replies')}"
    rows = [
        ["judge", f"{escape(judge.model)}, protocol {judge.protocol}"],
        ["answered as", escape(", ".join(summary.models)) or DASH],
        ["at", escape(", ".join(summary.endpoints))],
        [
            "verdict changes with the order",
            f"{flips} of {readable}" + (f" ({percent(flips / readable)} %)" if readable else ""),
        ],
        ["... for the answer shown first", str(positions[TO_FIRST])],
        ["... for the answer shown second", str(positions[TO_SECOND])],
        ["... from or to a tie", str(positions[TO_TIE])],
        ["unreadable replies", f"{summary.unreadable_replies} of {summary.replies}"],
        ["tokens", tokens],
    ]
    if summary.refusals:
        told = f"{len(summary.refusals)}, such as {escape(summary.refusals[0])}"
        rows.insert(-1, ["... without an answer", told])
    if contest.left_out:
        rows.append(["questions left out", f"{contest.left_out}, which are not in all files"])
    return _table(["", ""], rows, numeric=False)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: bool = True) -> str:
    from tabulate import tabulate

    align = ["left", *(["right" if numeric else "left"] * (len(headers) - 1))]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else DASH


def _rate(tally: Tally) -> str:
    return DASH if tally.win_rate is None else percent(tally.win_rate)
