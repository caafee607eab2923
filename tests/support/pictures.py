"""Small images and folders of them, for the tests of image tasks."""

from __future__ import annotations

import io
import random
import zlib
from dataclasses import replace

import PIL.Image
import pytest

from support.toys import split_of
from zipeft.errors import UserError
from zipeft.tasks.vtab.sets import SETS

SPLITS = ("train", "validation", "test")


def save(path, color="red", size=(8, 6), mode="RGB", **options):
    """Write an image of one colour; the format is that of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, size, color).save(path, **options)
    return path


def save_noisy(path, color="red", size=(8, 6)):
    """Write an image of mostly one colour, with a pattern of its own that depends on the path alone."""
    image = PIL.Image.new("RGB", size, color)
    grain = random.Random(str(path.name))
    for x in range(size[0]):
        image.putpixel((x, grain.randrange(size[1])), (grain.randrange(256),) * 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def save_distinct(path, key):
    """Write an image whose colour, and so its content, depends on ``key`` alone."""
    seed = zlib.crc32(str(key).encode())
    return save(path, color=(seed % 256, seed // 256 % 256, seed // 65536 % 256))


def refusal(action, *arguments, **options):
    """Return the message of the ``UserError``, which is one line."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(data):
    return {split: list(split_of(data, split).names) for split in SPLITS}


def png(colour, mode="RGB", size=(4, 4)):
    """Return an image of one colour as bytes of a PNG file."""
    buffer = io.BytesIO()
    PIL.Image.new(mode, size, colour).save(buffer, "png")
    return buffer.getvalue()


def say_that_vtab_has(monkeypatch, test: int) -> None:
    """Let the published number of test images be ``test`` for every set of VTAB: what tests make is small."""
    for name, published in SETS.items():
        monkeypatch.setitem(SETS, name, replace(published, test=test))
