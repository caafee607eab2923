"""What others published on VTAB-1k with a ViT-B/16 pretrained on ImageNet-21k, and how its scores are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from zipeft.api.published_results import read_published
from zipeft.api.task import Average, PublishedTable
from zipeft.tasks.vtab.embedded import GROUPS as EMBEDDED_GROUPS
from zipeft.tasks.vtab.sets import GROUPS, SETS

MEMBERS = {group: tuple(name for name in SETS if SETS[name].group == group) for group in GROUPS}

MEANS = ("mean of groups", "mean of the 19")


def averages_of(groups: Mapping[str, Sequence[str]], of_groups: str, overall: str) -> tuple[Average, ...]:
    """Return the mean of each group, ``of_groups``, that of the groups, and ``overall``, that of all sets alike."""
    names = [name for members in groups.values() for name in members]
    grouped = {name: 1 / len(members) / len(groups) for members in groups.values() for name in members}
    return (
        *(Average(group, dict.fromkeys(members, 1 / len(members))) for group, members in groups.items()),
        Average(of_groups, grouped),
        Average(overall, dict.fromkeys(names, 1 / len(names))),
    )


AVERAGES = (
    *averages_of(MEMBERS, *MEANS),
    *averages_of(
        {f"embedded {group}": names for group, names in EMBEDDED_GROUPS.items()},
        "mean of embedded groups",
        "mean of embedded sets",
    ),
)
"""Those of the embedded sets have names of their own: a page may hold both."""


def _with_means(table: PublishedTable) -> PublishedTable:
    """Return the table of the 19 scores with the means that they give: papers print one or the other, and do not
    always say which."""
    rows = {}
    for method, scores in table.rows.items():
        by_set = dict(zip(table.columns, map(float, scores), strict=True))
        means = [sum(weight * by_set[name] for name, weight in mean.weights.items()) for mean in AVERAGES[3:5]]
        rows[method] = (*scores, *(f"{mean:.2f}" for mean in means))
    return replace(table, columns=(*table.columns, *MEANS), rows=rows)


def _with_mean(table: PublishedTable) -> PublishedTable:
    """Return the table of the groups' means with the mean of these."""
    rows = {method: (*means, f"{fmean(map(float, means)):.2f}") for method, means in table.rows.items()}
    return replace(table, columns=(*table.columns, MEANS[0]), rows=rows)


SCORES, GROUP_MEANS = read_published(Path(__file__).with_name("published.toml"))
"""The 19 scores of each method, and the means of the groups where no more is printed."""

TABLES = (_with_means(SCORES), _with_mean(GROUP_MEANS))
