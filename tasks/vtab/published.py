"""What others published on VTAB-1k with a ViT-B/16 pretrained on ImageNet-21k, and how its scores are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from zipeft.api.task import Average, PublishedTable
from zipeft.tasks.vtab.embedded import GROUPS as EMBEDDED_GROUPS
from zipeft.tasks.vtab.sets import GROUPS, SETS

MEMBERS = {group: tuple(name for name in SETS if SETS[name].group == group) for group in GROUPS}

ORDER = (
    *("cifar100", "caltech101", "dtd", "flowers102", "pets", "svhn", "sun397"),
    *MEMBERS["specialised"],
    *MEMBERS["structured"],
)
"""The order of the columns in print, which is that of the rows below."""

MEANS = ("mean of groups", "mean of the 19")

SCORES = {
    "Full (VPT)":
        "68.9 87.7 64.3 97.2 86.9 87.4 38.8 79.7 95.7 84.2 73.9 56.3 58.6 41.7 65.5 57.5 46.7 25.7 29.1",
    "Linear (NOAH)":
        "64.4 85.0 63.2 97.0 86.3 36.6 51.0 78.5 87.5 68.5 74.0 34.3 30.6 33.2 55.4 12.5 20.0 9.6 19.2",
    "Bias (LLaMA-Adapter)":
        "72.8 87.0 59.2 97.5 85.3 59.9 51.4 78.7 91.6 72.9 69.8 61.5 55.6 32.4 55.9 66.6 40.0 15.7 25.1",
    "Adapter (VPT)":
        "74.1 85.7 62.7 97.8 87.2 34.6 50.7 76.3 87.5 73.7 70.9 45.2 41.8 31.2 56.4 31.9 25.4 13.5 22.0",
    "Sidetune (LLaMA-Adapter)":
        "60.7 60.8 53.6 95.5 66.7 34.9 35.3 58.5 87.7 65.2 61.0 27.6 22.6 31.3 51.7 8.2 14.4 9.8 21.8",
    "VPT-deep (LLaMA-Adapter)":
        "78.8 90.8 65.8 98.0 88.3 78.1 49.6 81.8 96.1 83.4 68.4 68.5 60.0 46.5 72.8 73.6 47.9 32.9 37.7",
    "Zero-initialised attention (LLaMA-Adapter)":
        "82.2 92.4 70.3 98.4 89.8 84.9 54.3 83.6 95.3 85.0 73.8 69.3 60.2 51.1 79.7 80.7 49.0 30.6 33.6",
    "Adapter 0.16M (NOAH)":
        "69.2 90.1 68.0 98.8 89.9 82.8 54.3 84.0 94.9 81.9 75.5 80.9 65.3 48.6 78.3 74.8 48.5 29.9 41.6",
    "LoRA 0.29M (NOAH)":
        "67.1 91.4 69.4 98.8 90.4 85.3 54.0 84.9 95.3 84.4 73.6 82.9 69.2 49.8 78.5 75.7 47.1 31.0 44.0",
    "NOAH 0.43M":
        "69.6 92.7 70.2 99.1 90.4 86.1 53.7 84.4 95.4 83.9 75.8 82.8 68.9 49.9 81.7 81.8 48.3 32.8 44.2",
    "AdaptFormer (PACE)":
        "70.8 91.2 70.5 99.1 90.9 86.6 54.8 83.0 95.8 84.4 76.3 81.9 64.3 49.3 80.3 76.3 45.7 31.7 41.1",
    "SSF (PACE)*":
        "69.0 92.6 75.1 99.4 91.8 90.2 52.9 87.4 95.9 87.4 75.5 75.9 62.3 53.3 80.6 77.3 54.9 29.5 37.9",
    "GLoRA (PACE)":
        "76.4 92.9 74.6 99.6 92.5 91.5 57.8 87.3 96.8 88.0 76.0 83.1 67.3 54.5 86.2 83.8 52.9 37.0 41.4",
    "PACE":
        "79.0 94.2 73.6 99.4 92.4 93.7 58.0 87.4 96.4 89.3 77.1 84.9 70.9 54.9 84.3 84.7 57.3 39.3 44.8",
}  # fmt: skip
"""Test accuracy in percent, in ``ORDER``."""

GROUP_MEANS = {
    "Full": ("75.88", "83.36", "47.64"),
    "Adapter": ("70.39", "77.11", "33.43"),
    "Sidetune": ("58.21", "68.12", "23.41"),
    "VPT-shallow (DA-VPT)": ("76.81", "79.68", "46.98"),
    "VPT-deep": ("78.48", "82.43", "54.98"),
    "E2VPT (DA-VPT)": ("80.01", "84.43", "57.39"),
    "Zero-initialised attention": ("81.74", "84.43", "56.75"),
}
"""Means of the groups, in percent, as they are printed."""


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


def _row(scores: str) -> tuple[str, ...]:
    """Return a row with the means that its scores give: papers print one or the other, and do not always say which."""
    by_set = dict(zip(ORDER, map(float, scores.split()), strict=True))
    means = [sum(weight * by_set[name] for name, weight in mean.weights.items()) for mean in AVERAGES[3:5]]
    return (*scores.split(), *(f"{mean:.2f}" for mean in means))


TABLES = (
    PublishedTable(
        title="VTAB-1k, ViT-B/16 pretrained on ImageNet-21k: test accuracy (%)",
        source=(
            "LLaMA-Adapter (arXiv 2303.16199) Tables 6 and 12, NOAH (arXiv 2206.04673) and PACE as named in each row. "
            "Both means are computed from the 19 scores. Published runs train on all 1,000 images once their settings "
            "are chosen, on 800 here; checkpoints (* AugReg) and normalisation differ between papers."
        ),
        columns=(*ORDER, *MEANS),
        rows={method: _row(scores) for method, scores in SCORES.items()},
    ),
    PublishedTable(
        title="VTAB-1k, means of groups as printed (%)",
        source="LLaMA-Adapter (arXiv 2303.16199) Table 6; DA-VPT where named. The last column is computed.",
        columns=(*GROUPS, MEANS[0]),
        rows={method: (*means, f"{fmean(map(float, means)):.2f}") for method, means in GROUP_MEANS.items()},
    ),
)
