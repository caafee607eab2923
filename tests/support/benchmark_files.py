"""Files of MME and MMBench with drawn images, for tests."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import PIL.Image

from support.pictures import save

YES_NO = ("Is it red? Please answer yes or no.\tYes", "Is it blue? Please answer yes or no.\tNo")


def save_mme(folder: Path, images: Mapping[str, int], apart: Sequence[str] = ()) -> Path:
    """Write so many images of each subtask, each with a yes and a no; of those ``apart`` in folders for both."""
    for subtask, count in images.items():
        own = folder / subtask
        of_images, of_texts = (own / "images", own / "questions_answers_YN") if subtask in apart else (own, own)
        for number in range(count):
            save(of_images / f"{number:04}.png", color=(40 * number % 256, 10, 90))
            of_texts.mkdir(exist_ok=True)
            (of_texts / f"{number:04}.txt").write_text("\n".join(YES_NO) + "\n", "utf-8")
    return folder


def encoded(color: str = "red") -> str:
    """Return an image of one colour in base64."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 6), color).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def row(index: int, options: Sequence[str] = ("cat", "dog", "fox"), answer: str = "A", **values: str) -> dict[str, str]:
    """Return a row of MMBench's table."""
    own = {"index": str(index), "question": "What is it?", "hint": "", "answer": answer, "image": encoded()}
    own |= {"category": "object", "l2-category": "coarse_perception", "split": "dev"}
    return own | dict.fromkeys("ABCD", "") | dict(zip("ABCD", options, strict=False)) | values


def save_mmbench(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write a table as a spreadsheet does: tabs between cells, quotes where a cell has a tab or a line break."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
