"""CoOp's data sets in a folder: which there are, how they are read, and which images seeds take."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections import Counter
from dataclasses import replace

import pytest

from support.coop_trees import CLASSES, SIZES, entries, load, make_imagenet, make_set, refused, taken
from support.pictures import SPLITS, refusal, save, save_distinct
from support.toys import split_of
from zipeft.registry import tasks
from zipeft.sources.named_sets import plain
from zipeft.tasks.coop.base2novel import BaseToNovelTask
from zipeft.tasks.coop.fewshot import FewShot
from zipeft.tasks.coop.sets import SETS


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / "caltech-101")


# --- which sets there are ---------------------------------------------------------------------------------------------


COOP_FOLDERS = {
    "imagenet": "imagenet", "caltech-101": "caltech101", "oxford_pets": "oxford-pets",
    "stanford_cars": "stanford-cars", "oxford_flowers": "oxford-flowers-102", "food-101": "food101",
    "fgvc_aircraft": "fgvc-aircraft", "sun397": "sun397", "dtd": "dtd", "eurosat": "eurosat", "ucf101": "ucf101",
}  # fmt: skip


def test_all_of_coops_folders_are_known_and_no_name_is_two_sets(tmp_path):
    for folder in (*COOP_FOLDERS, "something else"):
        (tmp_path / folder).mkdir()
    assert FewShot(data_dir=tmp_path).there() == list(COOP_FOLDERS.values())
    for folder, name in COOP_FOLDERS.items():
        assert FewShot(data_dir=tmp_path / folder).there() == [name]
    names = [known for name, one in SETS.items() for known in {plain(name), *one.folders}]
    assert len(names) == len(set(names))
    assert all(name == plain(name) for one in SETS.values() for name in one.folders)


def test_sets_are_taken_by_name(tmp_path):
    for folder in ("caltech-101", "dtd", "eurosat"):
        make_set(tmp_path / folder, base="images")
    task = FewShot(data_dir=tmp_path, sets=("EuroSAT", "Caltech-101"), shots=(1, 2))
    assert task.datasets() == ("eurosat-1shot", "eurosat-2shot", "caltech101-1shot", "caltech101-2shot")
    assert "did you mean 'dtd'" in refusal(FewShot(data_dir=tmp_path, sets=("dtb",)).datasets)
    assert "no data set 'dtd'" in refusal(task.load, "dtd-1shot")
    (tmp_path / "Caltech101").mkdir()
    assert "two folders of caltech101, Caltech101 and caltech-101" in refusal(task.datasets)
    assert "does not hold a folder named imagenet" in refusal(FewShot(data_dir=tmp_path / "dtd" / "images").datasets)


def test_a_folder_without_a_split_file_is_refused(tmp_path):
    save(tmp_path / "dtd" / "images" / "a.png")
    assert "no split_zhou_*.json: add CoOp's split file" in refusal(load, tmp_path / "dtd")
    for name in "ab":
        (tmp_path / "dtd" / f"split_zhou_{name}.json").write_text("{}")
    assert "both split_zhou_a.json and split_zhou_b.json" in refusal(load, tmp_path / "dtd")


# --- split files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["101_ObjectCategories", "images", "."])
def test_a_split_file_is_read(tmp_path, base):
    data = load(make_set(tmp_path / "caltech-101", base=base), shots=6)
    assert list(data.classes) == ["sea horse", "ant", "bee", "cat", "dog"]
    for split, key in zip(SPLITS, SIZES, strict=True):
        part = split_of(data, split)
        assert Counter(part.targets) == dict.fromkeys(range(5), SIZES[key])
        for image, target, name in zip(part.examples, part.targets, part.names, strict=True):
            folder, file = name.split("/")[-2:]
            assert (folder, file.split()[0]) == (CLASSES[target], key)
            assert image.mode == "RGB"
    assert data.source == "folder caltech-101"
    assert "has 5 classes where 100 are published and 30 train where 4,128 are published" in data.note


def test_published_sizes_go_without_saying(root, monkeypatch):
    sizes = tuple(5 * size for size in SIZES.values())
    monkeypatch.setitem(SETS, "caltech101", replace(SETS["caltech101"], classes=5, sizes=sizes))
    assert "published" not in load(root).note
    monkeypatch.setitem(SETS, "caltech101", replace(SETS["caltech101"], classes=5, sizes=(30, 25, 21)))
    assert "split_zhou_Caltech101.json has 20 test where 21 are published" in load(root).note


def test_names_decide_the_checksum(root):
    before, path = load(root), root / "split_zhou_Caltech101.json"
    path.write_text(path.read_text().replace('"ant"', '"emmet"'))
    after = load(root)
    assert (after.classes[1], after.train.names) == ("emmet", before.train.names)
    assert after.checksum != before.checksum
    assert load(root).checksum == after.checksum


def changed(**parts):
    """Return a split file's content in which some splits are other ones, or have further entries."""
    content = entries()
    for split, items in parts.items():
        content[split] = content[split] + items if isinstance(items, list) else items(content[split])
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "has no list 'train'"),
        (changed(val=lambda items: []), "has no list 'val', or an empty one"),
        (changed(val=lambda items: {}), "has no list 'val', or an empty one"),
        (changed(val=[["x.png", "1", "ant"]]), 'val 26 is ["x.png", "1", "ant"]: give [path, label from 0, class'),
        (changed(val=[["x.png", True, "ant"]]), "val 26 is"),
        (changed(val=[["x.png", -1, "ant"]]), "val 26 is"),
        (changed(val=[["x.png", 1, " _"]]), "val 26 is"),
        (changed(val=[["x.png", 1]]), "val 26 is"),
        (changed(test=["x.png"]), "test 21 is"),
        (changed(test=[["x.png", 1, "emmet"]]), "gives label 1 two names, 'ant' and 'emmet'"),
        (changed(train=[["x.png", 5, "ant"]]), "gives the labels 1 and 5 one name, 'ant'"),
        (changed(train=[["x.png", 5, "sea horse"]]), "gives the labels 0 and 5 one name, 'sea horse'"),
        (changed(train=[["x.png", 6, "emu"]]), "has 6 labels, but none is 5: number the classes from 0"),
        (changed(val=[["x.png", 5, "emu"]]), "no training image of class 'emu'"),
        (changed(train=[["ant/test 0.png", 1, "ant"]]), "has ant/test 0.png both in train and in test"),
        (changed(train=[["ant/train 0.png", 1, "ant"]]), "has ant/train 0.png twice in train"),
        (changed(test=[["gone.png", 1, "ant"]]), "names gone.png, which is not in"),
        (changed(test=[["gone.png", 1, "ant"]]), "(1 of 21 test images are missing): add the images"),
        (changed(train=[["gone.png", 1, "ant"]]), "(1 of 31 train images are missing)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_split_file_is_said(root, content, said):
    message = refused(root, content)
    assert said in message
    assert "split_zhou_Caltech101.json" in message


def test_a_split_file_that_is_no_json_is_refused(root):
    for content in (b"{", b"\xff\xfe\x00", b"[" * 100_000):
        (root / "split_zhou_Caltech101.json").write_bytes(content)
        assert "split_zhou_Caltech101.json is not valid JSON" in refusal(load, root)


def test_a_split_file_from_windows_is_read(root):
    before, content = load(root), entries()
    for items in content.values():
        for item in items:
            item[0] = item[0].replace("/", "\\")
    (root / "split_zhou_Caltech101.json").write_text(json.dumps(content))
    after = load(root)
    assert (after.checksum, after.train.names, after.note) == (before.checksum, before.train.names, before.note)
    content["test"].append(["ant/train 0.png", 1, "ant"])
    assert "has ant/train 0.png both in train and in test" in refused(root, content)


@pytest.mark.parametrize(("listed", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_compared_whatever_their_form_in_unicode(tmp_path, listed, there):
    """Archives from macOS write an accent as a letter of its own."""
    names = ["café", "Übersee", "ant", "dog"]
    data = [
        load(make_set(tmp_path / form / "caltech-101", entries([unicodedata.normalize(form, name) for name in names])))
        for form in (listed, there)
    ]
    assert data[0].classes == data[1].classes == names
    root = tmp_path / there / "caltech-101"
    content = entries([unicodedata.normalize(listed, name) for name in names])
    content["val"][0][2] = unicodedata.normalize(there, "café")
    (root / "split_zhou_Caltech101.json").write_text(json.dumps(content))
    mixed = load(root)
    assert (mixed.classes, mixed.train.names, mixed.checksum) == (names, data[1].train.names, data[1].checksum)
    assert {image.mode for image in mixed.train.examples} == {"RGB"}
    paths = [unicodedata.normalize(there, item[0]) for item in content["train"][-8:]]
    (root / "split_fewshot").mkdir()
    (root / "split_fewshot" / "shot_2-seed_1.json").write_text(json.dumps({"train": paths}))
    assert taken(load(root), 1)[0] == {f"101_ObjectCategories/{unicodedata.normalize(there, path)}" for path in paths}
    twice = unicodedata.normalize(there, content["train"][0][0])
    assert "both in train and in test" in refused(root, content | {"test": [[twice, 0, "café"], *content["test"]]})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs among its files")
def test_what_is_no_file_is_not_waited_for(root):
    (root / "split_fewshot").mkdir()
    os.mkfifo(root / "split_fewshot" / "shot_2-seed_1.json")
    assert "shot_2-seed_1.json cannot be read (it is a FIFO, not a file)" in refusal(load, root)
    (root / "split_fewshot" / "shot_2-seed_1.json").unlink()
    (root / "101_ObjectCategories/ant/train 0.png").unlink()
    os.mkfifo(root / "101_ObjectCategories/ant/train 0.png")
    assert "names ant/train 0.png, which is not in" in refusal(load, root)


@pytest.mark.parametrize("path", ["x" * 300 + ".png", "a\0b.png", "x/" * 3000 + "0.png"])
def test_a_path_that_cannot_be_is_missing(root, path):
    message = refused(root, changed(test=[[path, 1, "ant"]]))
    assert ", which is not in" in message
    assert len(message) < 400 + 2 * len(str(root))


def test_broken_images_are_left_out_or_refused(root):
    (root / "101_ObjectCategories/ant/train 0.png").write_bytes(b"no image")
    with_it = load(root)
    assert "does not decode" in refusal(lambda: list(with_it.train.examples))
    without = load(root, skip_broken=True)
    assert len(without.train) == len(with_it.train) - 1
    assert len(list(without.train.examples)) == len(without.train)


# --- layouts without a split file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [("images/train", "images/val"), ("train", "val")])
def test_imagenet_is_tested_on_its_validation_data(tmp_path, places):
    data = load(make_imagenet(tmp_path / "imagenet", places))
    assert list(data.classes) == ["fish", "dog", "cat"]  # in the order of the folders, whatever that of the names
    assert {name.rsplit("/", 2)[0] for name in split_of(data, "test").names} == {places[1]}
    for split in (data.train, split_of(data, "test")):
        assert [int(name.split("/")[-2].removeprefix("n")) for name in split.names] == split.targets
    assert Counter(data.validation.targets) == {0: 1, 1: 1, 2: 1}
    assert len(data.train) == 33
    assert "test: the published validation data, as in CoOp" in data.note
    other = load(tmp_path / "imagenet", split_seed=1)
    assert other.validation.names != data.validation.names


def test_what_a_list_trains_on_is_never_cut_for_validation(tmp_path):
    root = make_imagenet(tmp_path / "imagenet")
    free = sorted(load(root).train.names)[:2]  # what no validation data were cut from, of the first class
    images = [f"images/train/n{index:04}/{image}.JPEG" for index in range(3) for image in range(12)]
    listed = [name for name in images if name.rsplit("/", 1)[1] not in {path.rsplit("/", 1)[1] for path in free}]
    path = root / "split_fewshot" / "shot_10-seed_1.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"train": listed}))
    data = load(root, 10)
    assert taken(data, 1)[0] == set(listed)
    assert len(data.validation) == 3
    path.write_text(json.dumps({"train": listed, "val": data.validation.names}))
    assert "lists validation images, of which" in refusal(load, root)


def test_what_is_wrong_with_class_folders_is_said(tmp_path):
    root = make_imagenet(tmp_path / "imagenet")
    names = (root / "classnames.txt").read_text()
    for content, said in (
        (names + "n0001 dog", "line 4 names the folder n0001 again"),
        (names + "n0003", "line 4 is 'n0003': give a class folder, a space and a name"),
        (names + "n0003 emu", "no training image of class 'emu'"),
        (names.replace("n0001 dog\n", ""), "has a class folder n0001 that classnames.txt does not name"),
    ):
        (root / "classnames.txt").write_text(content)
        assert said in refusal(load, root)
    (root / "classnames.txt").write_bytes(b"n0001 \xff")
    assert "not UTF-8" in refusal(load, root)
    (root / "classnames.txt").write_text(names)
    (root / "images/val").rename(root / "images/validation")
    assert "neither images/val nor val" in refusal(load, root)


def test_files_of_class_folders_that_are_no_images_are_counted(tmp_path):
    root = make_imagenet(tmp_path / "imagenet")
    (root / "images/train/n0001/8.heic").touch()
    (root / "images/val/@eaDir").mkdir()
    assert "1 file in images/train left out, which are no images that Pillow decodes (1 .heic)" in load(root).note


def test_two_classes_of_imagenet_may_have_one_name(tmp_path):
    """CLIP's own list of names has two such pairs."""
    data = load(make_imagenet(tmp_path / "imagenet", names=("missile", "dog", "missile")))
    assert list(data.classes) == ["missile", "dog", "missile"]
    assert "1 name of classnames.txt that several classes have (missile)" in data.note


def test_aircraft_come_with_lists_of_their_own(tmp_path):
    root, variants = tmp_path / "fgvc_aircraft", ["F-16A/B", "Cessna 172"]
    lines = {"train": 6, "val": 2, "test": 3}
    (root / "images").mkdir(parents=True)
    (root / "variants.txt").write_text("\n".join(variants) + "\n")
    for split, size in lines.items():
        numbers = [f"{split}{index}" for index in range(size)]
        for number in numbers:
            save_distinct(root / "images" / f"{number}.jpg", number)
        listed = [f"{number} {variants[index % 2]}" for index, number in enumerate(numbers)]
        (root / f"images_variant_{split}.txt").write_text("\n".join(listed) + "\n")
    data = load(root)
    assert list(data.classes) == variants
    assert [len(split_of(data, split)) for split in SPLITS] == [6, 2, 3]
    assert dict(zip(data.train.names, data.train.targets, strict=True))["images/train3.jpg"] == 1
    (root / "images_variant_val.txt").write_text("val0 Boeing\n")
    assert "images_variant_val.txt, line 1 names no variant of variants.txt, but 'Boeing'" in refusal(load, root)
    (root / "variants.txt").unlink()
    assert "variants.txt does not exist" in refusal(load, root)


# --- other domains ----------------------------------------------------------------------------------------------------


def shifted(tmp_path, *names):
    return FewShot(data_dir=tmp_path, sets=("imagenet",), shifted=names).load("imagenet-2shot")


def test_test_data_of_other_domains_have_the_same_classes(tmp_path):
    make_imagenet(tmp_path / "imagenet")
    make_imagenet(tmp_path / "imagenet-sketch", ("images",), each=(2,))
    numbered = make_imagenet(tmp_path / "imagenetv2", ("matched",), each=(4,))
    for index in range(3):
        (numbered / "matched" / f"n{index:04}").rename(numbered / "matched" / str(index))
    plain_data, data = shifted(tmp_path), shifted(tmp_path, "ImageNet_Sketch", "imagenetv2")
    assert {name: len(split) for name, split in data.shifted.items()} == {"ImageNet_Sketch": 6, "imagenetv2": 12}
    assert data.checksum != plain_data.checksum
    for task_data, name in ((data, "imagenetv2"), (data, "ImageNet_Sketch")):
        split = split_of(_as_test(task_data, name), "test")
        assert [int(label.split("/")[-2].removeprefix("n")) for label in split.names] == split.targets
        assert len(list(split.examples)) == len(split.names)
    save(numbered / "matched/1/new.png")
    assert shifted(tmp_path, "ImageNet_Sketch", "imagenetv2").checksum != data.checksum


def _as_test(data, name):
    """Return the data set as if a shifted split had been its test split."""
    from types import SimpleNamespace

    return SimpleNamespace(test=data.shifted[name])


def test_other_domains_without_the_same_classes_are_refused(tmp_path):
    make_imagenet(tmp_path / "imagenet")
    other = make_imagenet(tmp_path / "imagenet-r", ("images",), names=("fish", "wolf", "cat"), each=(2,))
    assert "other classes than" in refusal(shifted, tmp_path, "imagenet-r")
    assert "(first 'wolf' where that has 'dog')" in refusal(shifted, tmp_path, "imagenet-r")
    (other / "classnames.txt").write_text((tmp_path / "imagenet/classnames.txt").read_text())
    for image in (other / "images/n0002").iterdir():
        image.unlink()
    assert "images of 2 of the 3 classes alone" in refusal(shifted, tmp_path, "imagenet-r")
    assert "has no folder imagenet-a, which shifted names" in refusal(shifted, tmp_path, "imagenet-a")
    (tmp_path / "imagenet-a").mkdir()
    assert "classnames.txt does not exist" in refusal(shifted, tmp_path, "imagenet-a")
    (tmp_path / "imagenet-a/classnames.txt").write_text("n0001 dog\n")
    assert "has no class folders that classnames.txt names" in refusal(shifted, tmp_path, "imagenet-a")


def test_a_split_file_can_be_that_of_another_domain(tmp_path):
    make_set(tmp_path / "caltech-101")
    make_set(tmp_path / "drawn", base="images")
    task = FewShot(data_dir=tmp_path, shifted=("drawn",))
    data = task.load("caltech101-1shot")
    assert len(data.shifted["drawn"]) == 20
    (tmp_path / "drawn/images/ant/test 0.png").write_bytes(b"no image")
    kept = FewShot(data_dir=tmp_path, shifted=("drawn",), skip_broken=True).load("caltech101-1shot")
    assert len(kept.shifted["drawn"]) == 19
    assert "1 image of drawn that did not decode left out" in kept.note
    (tmp_path / "drawn/images/ant/test 0.png").unlink()
    assert "(1 of 20 test images are missing)" in refusal(
        FewShot(data_dir=tmp_path, shifted=("drawn",)).load, "caltech101-1shot"
    )


def test_tasks_are_found_by_name():
    assert tasks.get("fewshot") is FewShot
    assert tasks.get("base2novel") is BaseToNovelTask
