"""Files that say which image is in which split."""

from __future__ import annotations

import unicodedata

import pytest

from support.image_folders import class_folder, split_files
from support.pictures import refusal, save
from zipeft.images.folders import read_class_folders, read_split_files


@pytest.mark.parametrize("base", [".", "images"])
def test_split_files_name_images_and_classes(tmp_path, base):
    for index in range(4):
        save(tmp_path / base / f"{index}.png", (index, 0, 0))
    split_files(tmp_path, train={"0.png": 1, "1.png": "2"}, val={"2.png": 2}, test={"3.png": "1"})
    listing = read_split_files(tmp_path, ("images", "."))
    labels = {split: [file.label for file in files] for split, files in listing.splits.items()}
    assert labels == {"train": ["1", "2"], "validation": ["2"], "test": ["1"]}
    assert listing.splits["test"][0].path == tmp_path / base / "3.png"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        (b"\xff\xfe".decode("latin-1"), "is not valid JSON"),
        ([1], "is not a JSON object"),
        ({}, "or is empty"),
        ({"0.png": None}, "gives 0.png the class None"),
        ({"0.png": True}, "gives 0.png the class True"),
        ({"0.png": 1.5}, "gives 0.png the class 1.5"),
        ({"0.png": ""}, "gives 0.png the class ''"),
        ({"0.png": [1]}, "gives 0.png the class [1]"),
        ({"gone.png": 1}, "names gone.png, which is not in"),
        ({"": 1}, "names , which is not in"),
        ({"a\0b.png": 1}, "which is not in"),
        ({"x" * 5000: 1}, "which is not in"),
    ],
)
def test_bad_split_files_are_named(tmp_path, content, said):
    save(tmp_path / "0.png")
    split_files(tmp_path, train=content, test={"0.png": 1})
    message = refusal(read_split_files, tmp_path, (".", "images"))
    assert "train.json" in message
    assert said in message


def test_split_files_may_have_a_byte_order_mark_and_any_letters(tmp_path):
    save(tmp_path / "Übersee.png")
    for name in ("train", "test"):
        (tmp_path / f"{name}.json").write_text('{"Übersee.png": 1}', "utf-8-sig")
    assert read_split_files(tmp_path, (".",)).splits["test"][0].path.name == "Übersee.png"


@pytest.mark.parametrize(("listed", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_split_files_name_images_in_any_form_of_unicode(tmp_path, listed, there):
    save(tmp_path / "images" / unicodedata.normalize(there, "Dürer") / unicodedata.normalize(listed, "é.png"))
    path = unicodedata.normalize(listed, "Dürer/é.png")
    split_files(tmp_path, train={path: "ü"}, test={path: unicodedata.normalize("NFD", "ü")})
    splits = read_split_files(tmp_path, (".", "images")).splits
    assert splits["train"][0].path.is_file()
    assert {file.label for files in splits.values() for file in files} == {"ü"}


def test_split_files_may_come_from_windows(tmp_path):
    save(tmp_path / "images" / "a" / "0.png")
    split_files(tmp_path, train={"a\\0.png": 1}, test={"images\\a\\0.png": 1})
    for files in read_split_files(tmp_path, (".", "images")).splits.values():
        assert files[0].path == tmp_path / "images" / "a" / "0.png"


def test_missing_split_files_are_named(tmp_path):
    save(tmp_path / "0.png")
    split_files(tmp_path, train={"0.png": 1})
    assert f"{tmp_path / 'test.json'} does not exist" in refusal(read_split_files, tmp_path, (".",))


def test_a_listing_without_splits_has_one_split(tmp_path):
    listing = read_class_folders(class_folder(tmp_path / "d", {"a": 2, "b": 1}))
    assert [file.label for file in listing.splits["all"]] == ["a", "a", "b"]
