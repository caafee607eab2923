"""Folders in ScienceQA's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.pictures import save

Problem = dict[str, Any]

SUBJECTS = ("natural science", "social science", "language science")


def problem(number: int, **fields: Any) -> Problem:
    """Return a problem as the published file has it, in words that the toys tell apart.

    Of three in a row one is of each subject; every second one is on an image, two of four have a hint, and grades go
    from 1 to 12.
    """
    words = " ".join(("the", "a", "very", "end")[number // 4**place % 4] for place in range(3))
    return {
        "question": f"was it {number} {words}",
        "choices": ["good", "bad", "so"][: 2 + number % 2],
        "answer": number % 2,
        "hint": f"the film {number}" if number % 4 < 2 else "",
        "image": "image.png" if number % 2 else None,
        "task": "closed choice",
        "grade": f"grade{number % 12 + 1}",
        "subject": SUBJECTS[number % 3],
        "lecture": "a lecture that gives it away",
        "solution": "a solution that gives it away",
        "caption": "a caption",
        **fields,
    }


def splits(train: int = 12, val: int = 6, test: int = 12) -> dict[str, list[str]]:
    """Return the ids of each split, in a row, as pid_splits.json has them: with parts of splits beside these."""
    ids = [str(number) for number in range(1, train + val + test + 1)]
    found = {"train": ids[:train], "val": ids[train : train + val], "test": ids[train + val :]}
    return {**found, "trainval": found["train"] + found["val"], "minitest": found["test"][:2]}


def write_folder(
    root: Path, problems: dict[str, Problem] | None = None, ids: dict[str, list[str]] | None = None, images: str = ""
) -> Path:
    """Write a folder, with an image of a colour of its own for every problem that names one, and return it.

    ``images`` names a folder in which the images are.
    """
    ids = ids or splits()
    named = {number: split for split in ("train", "val", "test") for number in ids[split]}
    problems = {number: problem(int(number)) for number in named} if problems is None else problems
    root.mkdir(parents=True, exist_ok=True)
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps(ids))
    for number, content in problems.items():
        if number in named and isinstance(content, dict) and content.get("image") == "image.png":
            save(root / images / named[number] / number / "image.png", color=color_of(number))
    return root


def color_of(number: str) -> tuple[int, int, int]:
    """Return the colour of a problem's image."""
    return int(number) % 256, 100, 200
