"""The tables of docs/gated-recipe.md, made of the trials that the sweeps beside it have left."""

from __future__ import annotations

import sys
from functools import cache
from statistics import mean

from tabulate import tabulate

from support import ROOT
from zipeft.results import Trial, read_records

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = ROOT / "docs" / "gated-recipe"
HEADERS = ("", "settings", "trains", "best", "mean", "each trial: score at rate, rate of the head")


@cache
def trials() -> list[Trial]:
    """Return all trials. Raises ``ValueError`` for a file that is no record."""
    found, broken = read_records([FOLDER / "trials"])
    if broken:
        raise ValueError(f"{FOLDER}: {broken}")
    return [each for each in found.values() if isinstance(each, Trial)]


def table(dataset: str) -> str:
    """Return the table of a data set: the variant of the best mean over its trials first."""
    own: dict[tuple[str, str], list[Trial]] = {}
    for trial in sorted((each for each in trials() if each.task.dataset == dataset), key=lambda each: each.index):
        own.setdefault(_variant(trial), []).append(trial)
    lines = []
    for (name, settings), group in own.items():
        scores = [100 * each.validation[each.task.metric] for each in group]
        rates = [each.method.settings for each in group]
        each = ", ".join(
            f"{score:.1f} at {rate['learning_rate']:.2g}, {rate['head_learning_rate']:.2g}"
            for score, rate in zip(scores, rates, strict=True)
        )
        numbers = f"{group[0].cost.trainable_parameters:,}", f"{max(scores):.1f}", f"{mean(scores):.1f}"
        lines.append((-mean(scores), [name, settings, *numbers, each]))
    lines.sort()
    align = ("left", "left", "right", "right", "right", "left")
    return tabulate([line for _, line in lines], HEADERS, tablefmt="pipe", colalign=align, disable_numparse=True)


def _variant(trial: Trial) -> tuple[str, str]:
    """Return the name of a trial's variant in its sweep file, and what that sets."""
    for name, settings in _variants(trial.task.name).items():
        method, own = settings["method"], {key: value for key, value in settings.items() if key != "method"}
        if trial.method.name == method and own and own.items() <= dict(trial.method.settings).items():
            return name.replace("-", " "), ", ".join(f"`{key}={_text(value)}`" for key, value in own.items())
    return f"`{trial.method.name}`", ""


@cache
def _variants(task: str) -> dict[str, dict[str, object]]:
    return tomllib.loads((FOLDER / f"{task}.toml").read_text("utf-8"))["variant"]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
