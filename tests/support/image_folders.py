"""Folders of small images, and what is read of them."""

from __future__ import annotations

import json
import sys

import pytest

from support.pictures import save_distinct
from zipeft.tasks.folder import Folder

unlinkable = pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")


def class_folder(root, counts, start=0):
    """Fill ``root/<class>/`` with so many images each, all of different content."""
    for label, count in counts.items():
        for index in range(start, start + count):
            save_distinct(root / label / f"{index:03}.png", (label, index))
    return root


def load(root, **options):
    task = Folder(data_dir=root, **options)
    return task.load(*task.datasets())


def split_files(root, **contents):
    root.mkdir(exist_ok=True)
    for name, content in contents.items():
        (root / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return root
