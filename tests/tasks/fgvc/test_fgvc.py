"""The fine-grained task: its settings, and published sets in a folder."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest

from support.pictures import SPLITS, refusal, save, save_distinct
from support.toys import split_of
from zipeft.api.settings import override
from zipeft.registry import tasks
from zipeft.tasks.fgvc.task import FGVC, SETS


def class_folders(root, classes=("a", "b"), splits=("train", "val", "test"), each=3):
    for split in splits:
        for label in classes:
            for index in range(each):
                save_distinct(root / split / label / f"{index}.png", (split, label, index))
    return root


# --- the task ---------------------------------------------------------------------------------------------------------


def test_it_is_found_by_name():
    assert tasks.get("fgvc") is FGVC


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task(preset):
    chosen = FGVC.presets[preset]
    task = FGVC(**chosen.task)
    assert task.datasets() == ("icons", "typefaces")
    assert chosen.seeds >= 3
    assert task.resize == ("crop" if preset == "paper" else "stretch")


def test_published_means_are_those_of_the_columns():
    (table,) = FGVC.published
    assert {len(row) for row in table.rows.values()} == {len(table.columns)}
    for method, row in table.rows.items():
        *scores, mean, _ = map(float, row)
        assert np.mean(scores) == pytest.approx(mean, abs=0.06), method


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sets": "icon"}, "no data set 'icon' embedded; did you mean 'icons'? (there: icons, typefaces)"),
        ({"sets": "CUB_200_2011"}, "name its folder with --data-dir"),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
    ],
)
def test_unknown_sets_are_refused(values, said):
    assert said in refusal(override(FGVC, values).datasets)


def test_classes_are_set_as_a_number_or_as_a_part():
    assert override(FGVC, {"classes": "40"}).classes == 40
    assert override(FGVC, {"classes": "0.25"}).classes == 0.25


@pytest.mark.parametrize("classes", [1, -3, 1.0, 1.5, -0.5])
def test_bad_numbers_of_classes_are_refused(classes):
    assert "give a number of 2 or more, a part below 1, or 0 for all" in refusal(FGVC, classes=classes)


def test_unknown_sets_are_not_loaded():
    assert "no data set 'cifar'" in refusal(FGVC().load, "cifar")


# --- published sets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("CUB_200_2011", "cub-200-2011"),
        ("CUB-200-2011", "cub-200-2011"),
        ("cub", "cub-200-2011"),
        ("nabirds", "nabirds"),
        ("NABirds", "nabirds"),
        ("OxfordFlower", "oxford-flowers-102"),
        ("oxford-102", "oxford-flowers-102"),
        ("flowers102", "oxford-flowers-102"),
        ("Oxford Flowers 102", "oxford-flowers-102"),
        ("Stanford-dogs", "stanford-dogs"),
        ("stanford_dogs", "stanford-dogs"),
        ("Stanford-cars", "stanford-cars"),
        ("stanford_cars", "stanford-cars"),
        ("cars", "stanford-cars"),
    ],
)
def test_folders_are_known_by_the_names_people_have(tmp_path, folder, name):
    class_folders(tmp_path / "fgvc data" / folder)
    for place in (tmp_path / "fgvc data", tmp_path / "fgvc data" / folder):
        assert FGVC(data_dir=place).datasets() == (name,)
        assert FGVC(data_dir=place).load(name).source == f"folder {folder}"


def test_several_sets_in_one_folder(tmp_path):
    for folder in ("stanford_cars", "CUB_200_2011", "something else"):
        class_folders(tmp_path / folder)
    assert FGVC(data_dir=tmp_path).datasets() == ("cub-200-2011", "stanford-cars")
    assert FGVC(data_dir=tmp_path, sets=("Stanford-cars", "cars")).datasets() == ("stanford-cars",)
    assert FGVC(data_dir=tmp_path).load("CUB_200_2011").name == "cub-200-2011"
    missing = refusal(FGVC(data_dir=tmp_path, sets=("stanford-cats",)).datasets)
    assert "did you mean 'stanford-cars'? (there: cub-200-2011, stanford-cars)" in missing
    class_folders(tmp_path / "cub")
    assert "two folders of cub-200-2011, CUB_200_2011 and cub" in refusal(FGVC(data_dir=tmp_path).datasets)


def test_a_folder_without_published_sets_is_refused(tmp_path):
    class_folders(tmp_path / "pets")
    assert "use --task folder" in refusal(FGVC(data_dir=tmp_path).datasets)


def test_class_folders_are_read(tmp_path):
    data = FGVC(data_dir=class_folders(tmp_path / "cub")).load("cub")
    assert [len(split_of(data, split)) for split in SPLITS] == [6, 6, 6]
    assert list(data.classes) == ["a", "b"]
    assert "2 classes where the published set has 200" in data.note


def test_the_published_number_of_classes_goes_without_saying(tmp_path):
    classes = [f"{index:03}.breed" for index in range(120)]
    root = class_folders(tmp_path / "dogs", classes, splits=("train", "test"), each=2)
    data = FGVC(data_dir=root).load("dogs")
    assert data.note.startswith("all 120 classes; images: 120 train, 120 validation, 240 test; validation cut from")
    assert "published" not in data.note


def test_a_part_of_the_classes_can_be_taken(tmp_path):
    root = class_folders(tmp_path / "cub", "abcdefgh")
    data = FGVC(data_dir=root, classes=3).load("cub")
    assert len(data.classes) == 3
    assert set(data.train.targets) == set(split_of(data, "test").targets) == {0, 1, 2}
    assert data.note.startswith("3 of 8 classes, chosen with seed 0; ")
    more = FGVC(data_dir=root, classes=5).load("cub")
    assert set(data.classes) < set(more.classes)
    assert data.checksum != more.checksum


@pytest.mark.parametrize(
    ("folder", "base"),
    [
        ("CUB_200_2011", "images"),
        ("nabirds", "images"),
        ("OxfordFlower", "."),
        ("OxfordFlower", "jpg"),
        ("Stanford-dogs", "Images"),
        ("Stanford-cars", "."),
        ("Stanford-cars", "car_ims"),
    ],
)
@pytest.mark.parametrize("first", [0, 1, "1"])
def test_split_files_are_read(tmp_path, folder, base, first):
    root = tmp_path / folder
    contents = {
        split: {
            f"class {label}/{split} {index}.png": str(label) if isinstance(first, str) else label
            for label in range(int(first), int(first) + 11)
            for index in range(each)
        }
        for split, each in (("train", 3), ("val", 1), ("test", 2))
    }
    for split, content in contents.items():
        for path in content:
            save_distinct(root / base / path, path)
        (root / f"{split}.json").write_text(json.dumps(content))
    (dataset,) = FGVC(data_dir=root).datasets()
    data = FGVC(data_dir=root).load(dataset)
    assert [len(split_of(data, split)) for split in SPLITS] == [33, 11, 22]
    assert list(data.classes) == [str(label) for label in range(int(first), int(first) + 11)]
    for split in SPLITS:
        for name, target in zip(split_of(data, split).names, split_of(data, split).targets, strict=True):
            assert name.split("/")[-2] == f"class {data.classes[target]}"
    (root / "val.json").unlink()
    without = FGVC(data_dir=root).load(dataset)
    assert Counter(without.validation.targets) == dict.fromkeys(range(11), 1)
    assert len(without.train) == 22


def test_an_image_that_a_split_file_names_must_be_there(tmp_path):
    save(tmp_path / "cub" / "images" / "a.png")
    (tmp_path / "cub" / "train.json").write_text('{"a.png": 1, "b/gone.png": 2}')
    (tmp_path / "cub" / "test.json").write_text('{"a.png": 1}')
    message = refusal(FGVC(data_dir=tmp_path / "cub").load, "cub")
    assert "train.json names b/gone.png, which is not in" in message
    (tmp_path / "cub" / "train.json").unlink()
    assert "train.json does not exist" in refusal(FGVC(data_dir=tmp_path / "cub").load, "cub")


def test_test_classes_that_train_lacks_are_named(tmp_path):
    for name in "abc":
        save(tmp_path / "cub" / "images" / f"{name}.png")
    (tmp_path / "cub" / "train.json").write_text('{"a.png": 1, "b.png": 2}')
    (tmp_path / "cub" / "test.json").write_text('{"c.png": 0}')
    assert "has class '0' in test (images/c.png) but not in train" in refusal(FGVC(data_dir=tmp_path).load, "cub")


def test_the_archives_as_they_come_have_no_splits(tmp_path):
    save(tmp_path / "CUB_200_2011" / "images" / "001.Albatross" / "x.png")
    save(tmp_path / "OxfordFlower" / "jpg" / "image_00001.png")
    for name in ("cub", "flowers"):
        assert "has no splits: add train.json and test.json" in refusal(FGVC(data_dir=tmp_path).load, name)


def test_every_published_set_has_distinct_names():
    names = [name for published in SETS.values() for name in published.folders]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9]+", name) for name in names)
