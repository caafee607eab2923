"""Small data sets in CoOp's layout, for the tests of few-shot tasks."""

from __future__ import annotations

import json

from support.pictures import refusal, save_distinct
from zipeft.tasks.coop.fewshot import FewShot

CLASSES = ("sea_horse", "ant", "bee", "cat", "dog")
SIZES = {"train": 6, "val": 5, "test": 4}


def entries(classes=CLASSES, sizes=SIZES):
    """Return the content of a split file: so many images a class in each split, in an order that mixes the classes."""
    return {
        split: [
            [f"{name}/{split} {index}.png", label, name] for index in range(size) for label, name in enumerate(classes)
        ]
        for split, size in sizes.items()
    }


def make_set(root, content=None, base="101_ObjectCategories", split_file="split_zhou_Caltech101.json"):
    """Write a split file and the images that it names, in the folder ``base``; return the folder of the set."""
    content = entries() if content is None else content
    for items in content.values():
        for path, *_ in items:
            save_distinct(root / base / path, path)
    (root / split_file).write_text(json.dumps(content))
    return root


def make_imagenet(root, places=("images/train", "images/val"), names=("fish", "dog", "cat"), each=(12, 3)):
    """Write class folders with images, and ``classnames.txt`` in an order of its own; return the folder of the set."""
    folders = [f"n{index:04}" for index in range(len(names))]
    for place, size in zip(places, each, strict=True):
        for folder in folders:
            for index in range(size):
                save_distinct(root / place / folder / f"{index}.JPEG", (place, folder, index))
    lines = [f"{folder} {name}" for folder, name in zip(folders, names, strict=True)]
    (root / "classnames.txt").write_text("\n".join(reversed(lines)) + "\n")
    return root


def load(root, shots=2, **settings):
    task = FewShot(data_dir=root, **settings)
    (name,) = task.there()
    return task.load(f"{name}-{shots}shot")


def refused(root, content):
    (root / "split_zhou_Caltech101.json").write_text(json.dumps(content))
    return refusal(load, root)


def taken(data, seed):
    """Return the names of what a seed trains and validates on."""
    train, validation = data.draw(seed)
    return {data.train.names[index] for index in train}, {data.validation.names[index] for index in validation}
