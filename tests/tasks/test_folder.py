"""Labelled image files on disk: class folders, split files, broken and doubled images, and the task that takes them."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter

import pytest

from support.image_folders import class_folder, load, split_files, unlinkable
from support.pictures import names, refusal, save
from support.toys import split_of
from zipeft import registry
from zipeft.api import settings
from zipeft.images import assembly as image_data
from zipeft.images.folders import read_split_files
from zipeft.tasks.folder import Folder

# --- broken, doubled, changed files -----------------------------------------------------------------------------------


def test_broken_images_are_left_out_on_request_and_counted(tmp_path, caplog):
    root = class_folder(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "bad.png").write_text("no image")
    (root / "b" / "empty.jpg").touch()
    data = load(root, skip_broken=True)
    assert sum(len(part) for part in names(data).values()) == 20
    assert "2 images that did not decode left out" in data.note
    assert {record.getMessage().partition(" does")[0] for record in caplog.records} == {
        str(root / "a" / "bad.png"),
        str(root / "b" / "empty.jpg"),
    }


def test_broken_images_end_a_run_that_did_not_ask_for_that(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "bad.png").write_text("no image")
    data = load(root)
    split = next(split for split, there in names(data).items() if "a/bad.png" in there)
    index = names(data)[split].index("a/bad.png")
    assert "bad.png does not decode" in refusal(lambda: split_of(data, split).examples[index])


@unlinkable
def test_a_dead_link_is_a_broken_image(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert "gone.png does not decode (No such file or directory)" in refusal(load, root)
    assert "1 image that did not decode left out" in load(root, skip_broken=True).note


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs among its files")
@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
@pytest.mark.parametrize("limit", [image_data.CONTENT_LIMIT, 10])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, monkeypatch, kind, limit):
    monkeypatch.setattr(image_data, "CONTENT_LIMIT", limit)
    root = class_folder(tmp_path / "d", {"a": 10, "b": 10})
    if kind == "a FIFO":
        os.mkfifo(root / "a" / "x.png")
    else:
        (root / "a" / "x.png").symlink_to("/dev/zero")
    if limit > 10:
        assert f"x.png does not decode (it is {kind}, not a file)" in refusal(load, root)
    assert "1 image that did not decode left out" in load(root, skip_broken=True).note


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs among its files")
def test_a_data_folder_that_is_something_else_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "pipe is not a folder but a FIFO: check --data-dir" in refusal(load, tmp_path / "pipe")
    assert "zero is not a folder but a device" in refusal(load, "/dev/zero")
    assert "is not a folder but a file" in refusal(load, save(tmp_path / "x.png"))
    split_files(tmp_path / "f", test={"0.png": 1})
    os.mkfifo(tmp_path / "f" / "train.json")
    assert "train.json cannot be read (it is a FIFO, not a file)" in refusal(read_split_files, tmp_path / "f", (".",))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs among its files")
@pytest.mark.parametrize("task", ["fewshot", "fgvc", "glue", "instruct", "labelling", "squad", "vtab"])
def test_every_task_says_what_its_data_folder_is(tmp_path, task):
    os.mkfifo(tmp_path / "pipe")
    for name, said in (
        ("pipe", "is not a folder but a FIFO"),
        ("x" * 300, "does not exist"),
        ("a\0b", "does not exist"),
    ):
        assert f"{said}: check --data-dir" in refusal(registry.tasks.get(task)(data_dir=tmp_path / name).datasets)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 100_000, "a\0b", "x/" * 3000])
def test_a_data_folder_that_cannot_be_is_refused_in_a_short_line(name):
    message = refusal(load, name)
    assert "does not exist: check --data-dir" in message
    assert len(message) < 300


# --- parts ------------------------------------------------------------------------------------------------------------


def test_so_many_images_are_taken_by_class(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 40, "b": 20})
    whole = load(root)
    part = load(root, train_examples=9, validation_examples=6, test_examples=3)
    assert [Counter(split_of(part, split).targets) for split in names(part)] == [
        {0: 6, 1: 3}, {0: 4, 1: 2}, {0: 2, 1: 1}
    ]  # fmt: skip
    for split, there in names(part).items():
        assert set(there) < set(names(whole)[split])
    assert "images: 9 of 36 train, 6 of 12 validation, 3 of 12 test, the part chosen by class with seed 0" in part.note
    assert part.checksum != whole.checksum
    fewer, other = load(root, train_examples=6), load(root, train_examples=9, split_seed=1)
    assert set(names(fewer)["train"]) < set(names(part)["train"])
    assert names(other)["train"] != names(part)["train"]
    assert load(root, train_examples=1000).checksum == whole.checksum


def test_a_part_has_all_classes(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 50, "rare": 5})
    assert "train_examples is 3, of which none is of class 'rare': give more (there are 2 classes)" in refusal(
        load, root, train_examples=3
    )
    for split in ("train", "validation", "test"):
        assert f"{split}_examples is -1" in refusal(settings.override, Folder, {f"{split}_examples": "-1"})


def test_a_part_is_recorded(tmp_path):
    task = Folder(data_dir=tmp_path, train_examples=4)
    assert settings.as_json(task)["train_examples"] == 4
    assert "train_examples" not in task.unrecorded


# --- doubled and changed files ----------------------------------------------------------------------------------------


def test_images_of_train_in_test_are_counted(tmp_path, caplog):
    class_folder(tmp_path / "train", {"a": 10, "b": 10})
    class_folder(tmp_path / "test", {"a": 5, "b": 5}, start=100)
    (tmp_path / "test" / "b" / "copy.png").write_bytes((tmp_path / "train" / "a" / "003.png").read_bytes())
    assert "1 test image also in train or validation, byte for byte" in load(tmp_path).note
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "train/a/003.png" in caplog.text


def test_the_checksum_covers_content_up_to_a_limit_and_names_always(tmp_path, monkeypatch):
    root = class_folder(tmp_path / "d", {"a": 10, "b": 10})
    before = load(root).checksum
    path = root / "a" / "000.png"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    assert load(root).checksum != before
    monkeypatch.setattr(image_data, "CONTENT_LIMIT", 10)
    same_sizes = load(root).checksum
    path.write_bytes(content)
    assert load(root).checksum == same_sizes
    path.rename(root / "a" / "renamed.png")
    assert load(root).checksum != same_sizes


def test_the_checksum_does_not_depend_on_where_the_folder_is(tmp_path):
    checksums = {load(class_folder(tmp_path / place / "d", {"a": 9, "b": 9})).checksum for place in ("here", "there")}
    assert len(checksums) == 1
