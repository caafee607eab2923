"""Folders of images, one for each class: what is found, left out and counted."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections import Counter

import pytest

from support.image_folders import class_folder, load, unlinkable
from support.pictures import names, refusal, save, save_distinct
from support.toys import split_of
from zipeft.images.folders import image_files
from zipeft.tasks.folder import Folder


def test_a_folder_without_splits_is_split(tmp_path):
    root = class_folder(tmp_path / "pets", {"cat": 20, "dog": 10})
    data = load(root)
    assert (data.name, data.source, list(data.classes)) == ("pets", "folder pets", ["cat", "dog"])
    per_class = {split: Counter(split_of(data, split).targets) for split in names(data)}
    assert per_class == {"train": {0: 12, 1: 6}, "validation": {0: 4, 1: 2}, "test": {0: 4, 1: 2}}
    assert "split 60/20/20 by class with seed 0" in data.note
    assert "18 train, 6 validation, 6 test" in data.note
    together = [name for part in names(data).values() for name in part]
    assert sorted(together) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


def test_small_classes_are_split_as_documented(tmp_path):
    data = load(class_folder(tmp_path / "d", {"one": 1, "two": 2, "three": 3, "many": 30}))
    splits = {split: Counter(data.classes[target] for target in split_of(data, split).targets) for split in names(data)}
    counts = {label: [splits[split][label] for split in splits] for label in ("one", "two", "three", "many")}
    assert counts == {"one": [1, 0, 0], "two": [1, 0, 1], "three": [1, 1, 1], "many": [18, 6, 6]}


def test_the_same_settings_give_the_same_splits_and_other_seeds_others(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 20, "b": 20})
    first, again, other = load(root), load(root), load(root, split_seed=1)
    assert (names(first), first.checksum) == (names(again), again.checksum)
    assert names(first) != names(other)
    assert first.checksum != other.checksum
    assert Counter(first.train.targets) == Counter(other.train.targets)


@pytest.mark.parametrize("folder", ["val", "valid", "validation", "Val", "dev"])
def test_given_splits_are_kept(tmp_path, folder):
    for start, split in enumerate(["train", folder, "test"]):
        class_folder(tmp_path / split, {"a": 2, "b": 3}, start=10 * start)
    data = load(tmp_path)
    assert [len(data.train), len(data.validation), len(data.test)] == [5, 5, 5]
    assert all(name.startswith(f"{folder}/") for name in data.validation.names)
    assert data.train.targets == [0, 0, 1, 1, 1]
    assert data.note == "all 2 classes; images: 5 train, 5 validation, 5 test"


def test_validation_is_cut_from_train_where_it_is_missing(tmp_path):
    class_folder(tmp_path / "train", {"a": 30, "b": 4, "c": 1})
    class_folder(tmp_path / "test", {"a": 2, "b": 2}, start=100)
    data = load(tmp_path)
    assert Counter(data.validation.targets) == {0: 3, 1: 1}
    assert Counter(data.train.targets) == {0: 27, 1: 3, 2: 1}
    assert len(data.test) == 4
    assert "validation cut from the given training images, 10% of each class with seed 0" in data.note


def test_what_is_no_image_is_passed_over(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 5, "b": 5})
    save(root / "a" / "deeper" / "still" / "x.JPG")
    save(root / "a" / ".hidden.png")
    save(root / "a" / ".thumbnails" / "x.png")
    save(root / "__MACOSX" / "a" / "x.png")
    for path in (root / ".DS_Store", root / "a" / "Thumbs.db", root / "a" / "notes.txt", root / "a" / "._000.png"):
        path.write_text("x")
    data = load(root)
    found = [name for part in names(data).values() for name in part]
    assert len(found) == 11
    assert "a/deeper/still/x.JPG" in found


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "lost+found", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "#recycle", "__MACOSX"],
)
def test_what_systems_put_beside_the_images_is_hidden(tmp_path, name):
    """Synology's thumbnails, for one, are copies of images: in a class of their own, and beside those of each class."""
    root = class_folder(tmp_path / "d", {"a": 5, "b": 5})
    plain = load(root)
    save(root / name / "SYNOPHOTO_THUMB_M.jpg")
    save(root / "a" / name / "000.png" / "SYNOPHOTO_THUMB_M.jpg")
    assert (names(load(root)), load(root).note) == (names(plain), plain.note)


def test_whatever_pillow_decodes_is_taken_and_all_else_counted(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 5, "b": 5})
    for name in ("a/1.tga", "a/2.JPE", "b/3.pcx", "b/4.sgi"):
        save_distinct(root / name, name)
    for name in ("a/1.heic", "b/2.HEIC", "b/deeper/notes.txt", "README", "b/Thumbs.db"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x")
    data = load(root)
    assert sum(len(part) for part in names(data).values()) == 14
    assert "3 files in d left out, which are no images that Pillow decodes (2 .heic, 1 .txt)" in data.note
    for number in range(6):
        (root / "a" / f"x.kind{number}").touch()
    assert "(2 .heic, 1 .kind0, 1 .kind1, 1 .kind2, 1 .kind3 and 3 other kinds)" in load(root).note


def test_a_class_of_files_that_are_no_images_is_noted(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 5, "b": 5})
    (root / "c").mkdir()
    (root / "c" / "1.heic").touch()
    assert "1 folder without images in d left out (c)" in load(root).note
    assert "1 file in d left out, which are" in load(root).note
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".heic"))
    assert "holds no images: expected <class>/*.jpg in it; 11 files in d left out" in refusal(load, root)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_compared_whatever_their_form_in_unicode(tmp_path, form):
    """Archives from macOS write an accent as a letter of its own."""
    train, test = {"NFC": ("NFC", "NFD"), "NFD": ("NFD", "NFC")}[form]
    for start, (split, of) in enumerate([("train", train), ("val", test), ("test", test)]):
        counts = {unicodedata.normalize(of, name): 3 for name in ("café", "tür")}
        class_folder(tmp_path / split, counts, start=10 * start)
    data = load(tmp_path)
    assert list(data.classes) == ["café", "tür"]
    assert all(unicodedata.is_normalized("NFC", name) for name in data.classes)
    assert Counter(split_of(data, "test").targets) == {0: 3, 1: 3}
    if len({entry.name for entry in (tmp_path / "train").iterdir()}) == 2:
        (tmp_path / "train" / unicodedata.normalize(test, "café")).mkdir(exist_ok=True)
        if len(list((tmp_path / "train").iterdir())) == 3:  # a disk of macOS has but one of the two
            assert "has two folders café, of which one" in refusal(load, tmp_path)


def test_stray_folders_and_images_are_noted(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 5, "b": 5})
    save(root / "overview.png")
    (root / "annotations").mkdir()
    note = load(root).note
    assert "1 image outside the class folders of d left out" in note
    assert "1 folder without images in d left out (annotations)" in note


def test_a_stray_image_does_not_hide_the_splits(tmp_path):
    class_folder(tmp_path / "train", {"a": 5, "b": 5})
    class_folder(tmp_path / "test", {"a": 5, "b": 5}, start=50)
    save(tmp_path / "train" / "overview.png")
    assert list(load(tmp_path).classes) == ["a", "b"]


def test_a_class_may_be_called_train(tmp_path):
    assert list(load(class_folder(tmp_path / "d", {"train": 5, "bus": 5})).classes) == ["bus", "train"]


def test_order_is_by_code_point_and_numbers_by_value(tmp_path):
    assert list(load(class_folder(tmp_path / "d", {"b": 4, "B": 4, "é": 4, "a": 4})).classes) == ["B", "a", "b", "é"]
    assert list(load(class_folder(tmp_path / "n", {"10": 4, "9": 4, "100": 4})).classes) == ["9", "10", "100"]


@unlinkable
def test_links_are_followed_but_not_in_circles(tmp_path):
    root = class_folder(tmp_path / "d", {"a": 5, "b": 5})
    class_folder(tmp_path / "elsewhere", {"c": 4})
    (root / "c").symlink_to(tmp_path / "elsewhere" / "c")
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "nowhere").symlink_to(root / "a" / "nowhere")
    assert [len(image_files(root / label)) for label in "abc"] == [5, 5, 4]
    assert list(load(root).classes) == ["a", "b", "c"]


@unlinkable
def test_a_linked_data_folder_keeps_the_links_name(tmp_path):
    class_folder(tmp_path / "real", {"a": 5, "b": 5})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert load(tmp_path / "link").name == "link"


def test_the_data_folder_may_be_here(tmp_path, monkeypatch):
    monkeypatch.chdir(class_folder(tmp_path / "pets", {"a": 5, "b": 5}))
    assert load(".").name == "pets"


def test_no_missing_empty_or_one_class_folder(tmp_path):
    assert "--data-dir" in refusal(Folder().datasets)
    assert "does not exist" in refusal(load, tmp_path / "none")
    assert "is not a folder" in refusal(load, save(tmp_path / "x.png"))
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refusal(load, tmp_path / "empty")
    (tmp_path / "text" / "a").mkdir(parents=True)
    (tmp_path / "text" / "a" / "x.txt").write_text("x")
    assert "holds no images" in refusal(load, tmp_path / "text")
    save(tmp_path / "flat" / "x.png")
    assert "no class folders" in refusal(load, tmp_path / "flat")
    assert "one class only, 'a'" in refusal(load, class_folder(tmp_path / "one", {"a": 9}))
    assert "too few images" in refusal(load, class_folder(tmp_path / "few", {"a": 2, "b": 2}))


def test_missing_and_doubled_splits_are_named(tmp_path):
    class_folder(tmp_path / "train", {"a": 3, "b": 3})
    assert "no images in test/<class>/" in refusal(load, tmp_path)
    assert "is then split" in refusal(load, tmp_path)
    class_folder(tmp_path / "test", {"a": 3, "c": 3}, start=10)
    assert "class 'c' in test (test/c/010.png) but not in train" in refusal(load, tmp_path)
    for name in ("val", "valid"):
        class_folder(tmp_path / name, {"a": 3}, start=20)
    assert "both val and valid" in refusal(load, tmp_path)
    class_folder(tmp_path / "other" / "test", {"a": 3, "b": 3})
    assert "no images in train/<class>/" in refusal(load, tmp_path / "other")
    for split in ("train", "test"):
        save(tmp_path / "flat" / split / "x.png")
    assert "train and test without class folders" in refusal(load, tmp_path / "flat")


def test_a_data_set_has_one_name_on_all_systems(tmp_path):
    root = class_folder(tmp_path / unicodedata.normalize("NFD", "bäume"), {"a": 5, "b": 5})
    assert load(root).name == unicodedata.normalize("NFC", "bäume")
    assert Folder(data_dir=root).load(root.name).name == load(root).name


def test_a_folder_of_another_name_is_refused(tmp_path):
    task = Folder(data_dir=class_folder(tmp_path / "pets", {"a": 5, "b": 5}))
    assert "'pets', not 'cub'" in refusal(task.load, "cub")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    root, scan = class_folder(tmp_path / "d", {"a": 5, "b": 5}), os.scandir

    def scandir(path):
        if os.path.basename(path) == "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert f"{root / 'a'} cannot be read (Permission denied)" in refusal(load, root)
