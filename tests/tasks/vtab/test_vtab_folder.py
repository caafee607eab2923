"""VTAB-1k in the layout in circulation: read exactly, and every list that does not fit refused."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from support.pictures import SPLITS, refusal, say_that_vtab_has
from support.toys import split_of
from zipeft.tasks.vtab.sets import SETS
from zipeft.tasks.vtab.task import VTAB

LISTS = {"train800.txt": 800, "val200.txt": 200, "test.txt": 30}


@pytest.fixture(autouse=True)
def published(monkeypatch):
    say_that_vtab_has(monkeypatch, test=LISTS["test.txt"])


def lines_of(name, count, classes):
    return [f"images/{name.removesuffix('.txt')}/{index:06}.png {(7 * index) % classes}" for index in range(count)]


def write_lists(root, classes):
    """Write the lists as VTAB's exporters do: the images of the union are there a second time."""
    lists = {name: lines_of(name, count, classes) for name, count in LISTS.items()}
    labels = [line.split()[1] for name in ("train800.txt", "val200.txt") for line in lists[name]]
    lists["train800val200.txt"] = [f"images/train800val200/{i:06}.png {label}" for i, label in enumerate(labels)]
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder of Caltech 101 with 1,030 tiny images, no two alike, and 1,000 copies."""
    root = tmp_path_factory.mktemp("vtab") / "caltech101"
    number = 0
    for name, count in LISTS.items():
        folder = root / "images" / name.removesuffix(".txt")
        folder.mkdir(parents=True)
        for index in range(count):
            PIL.Image.new("RGB", (2, 2), (number % 256, number // 256, 99)).save(folder / f"{index:06}.png")
            number += 1
    union = root / "images/train800val200"
    union.mkdir()
    for index in range(1000):
        source = f"train800/{index:06}.png" if index < 800 else f"val200/{index - 800:06}.png"
        (union / f"{index:06}.png").hardlink_to(root / "images" / source)
    write_lists(root, 102)
    return root


@pytest.fixture
def folder(original, tmp_path):
    """The same with lists and test images of its own; the folders of the others are links."""
    root = tmp_path / "data" / "caltech101"
    (root / "images").mkdir(parents=True)
    for path in original.glob("*.txt"):
        shutil.copy(path, root)
    for path in (original / "images").iterdir():
        if path.name != "test":
            (root / "images" / path.name).symlink_to(path)
    shutil.copytree(original / "images/test", root / "images/test")
    return root


def load(folder, **settings):
    return VTAB(data_dir=folder, **settings).load(folder.name)


def test_the_layout_is_read_exactly(folder):
    data = load(folder)
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 30]
    assert list(data.classes) == [str(index) for index in range(102)]
    number = 0
    for split, name in zip(SPLITS, LISTS, strict=True):
        part = split_of(data, split)
        assert [f"{path} {label}" for path, label in zip(part.names, part.targets, strict=True)] == lines_of(
            name, LISTS[name], 102
        )
        for image in part.examples:
            assert np.asarray(image)[0, 0].tolist() == [number % 256, number // 256, 99]
            number += 1
    assert data.source == "folder caltech101"
    assert "where VTAB has" not in data.note
    assert "byte for byte" not in data.note
    assert load(folder).checksum == data.checksum


def test_a_part_of_the_test_images_can_be_taken(folder):
    part, more = (split_of(load(folder, test_examples=count), "test") for count in (8, 12))
    assert len(part) == 8
    assert set(part.names) < set(more.names) < set(split_of(load(folder), "test").names)
    assert len(load(folder, test_examples=500).test) == 30


def test_lists_may_have_names_in_another_form_or_with_backslashes(folder):
    before, path = load(folder), folder / "test.txt"
    (folder / "images/test/000003.png").rename(folder / "images/test" / unicodedata.normalize("NFD", "é.png"))
    lines = path.read_text().replace("images/test/000003.png", unicodedata.normalize("NFC", "images/test/é.png"))
    path.write_text(lines.replace("images/test/000004", "images\\test\\000004"))
    test = split_of(load(folder), "test")
    assert (test.examples[3].getpixel((0, 0)), test.targets) == ((1003 % 256, 1003 // 256, 99), test.targets)
    assert test.names[4] == "images/test/000004.png"
    assert len(before.test) == len(test)
    path.write_text(path.read_text() + "images/test/é.png 3\nimages/test/é.png 3\n".replace("é", "e\u0301"))
    assert "again, after line 4: remove one" in refusal(load, folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs among its files")
def test_what_is_no_file_is_not_waited_for(folder):
    (folder / "val200.txt").unlink()
    os.mkfifo(folder / "val200.txt")
    assert "val200.txt cannot be read (it is a FIFO, not a file)" in refusal(load, folder)
    shutil.copy(folder / "train800.txt", folder / "test.txt")
    (folder / "images/test/000003.png").unlink()
    os.mkfifo(folder / "images/test/000003.png")
    (folder / "test.txt").write_text("images/test/000003.png 1\n")
    (folder / "val200.txt").unlink()
    (folder / "val200.txt").write_text("\n".join(lines_of("val200.txt", 200, 102)))
    assert "names images/test/000003.png, which is not in" in refusal(load, folder)


def test_the_content_of_every_image_is_part_of_the_checksum(folder):
    before = load(folder).checksum
    path = folder / "images/test/000003.png"
    path.unlink()
    PIL.Image.new("RGB", (2, 2), "white").save(path)
    assert load(folder).checksum != before


def test_classes_that_training_lacks_are_kept_and_counted(folder):
    """VTAB's own 800 images of SUN397 are of 309 classes."""
    path = folder / "train800.txt"
    path.write_text(path.read_text().replace(" 101\n", " 100\n"))
    (folder / "train800val200.txt").unlink()
    data = load(folder)
    assert len(data.classes) == 102
    assert 101 in split_of(data, "validation").targets
    assert "102 classes; only 101 of them have training images" in data.note


def test_test_images_that_are_in_training_byte_for_byte_are_counted(folder):
    path = folder / "images/test/000003.png"
    path.unlink()
    shutil.copy(folder / "images/train800/000009.png", path)
    assert "1 test image also in train or validation, byte for byte" in load(folder).note


def test_the_union_may_name_the_same_paths_and_may_be_missing(folder):
    union = folder / "train800val200.txt"
    before = load(folder).checksum
    union.write_text((folder / "train800.txt").read_text() + (folder / "val200.txt").read_text())
    assert load(folder).checksum == before
    union.unlink()
    assert load(folder).checksum == before


def edit(path, line, text):
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("file", "line", "text", "said"),
    [
        ("train800.txt", 5, "images/gone.png 3", "line 5 names images/gone.png, which is not in"),
        ("test.txt", 2, "images/gone.png 3", "line 2 names images/gone.png, which is not in"),
        ("val200.txt", 7, "images/val200/000006.png cat", "line 7 has the label 'cat': give a whole number from 0 to"),
        ("val200.txt", 7, "images/val200/000006.png 102", "line 7 has the label '102'"),
        ("val200.txt", 7, f"images/val200/000006.png {'1' * 5000}", f"line 7 has the label '{'1' * 20}': give"),
        ("val200.txt", 7, "images/val200/000006.png -1", "line 7 has the label '-1'"),
        ("test.txt", 7, "images/test/000006.png 1.5", "line 7 has the label '1.5'"),
        ("test.txt", 7, "images/test/000006.png", "line 7 is 'images/test/000006.png': give a path and a label"),
        ("test.txt", 7, "../caltech101/images/test/000006.png 1", "line 7 names ../caltech101/images/test/000006.png"),
        ("test.txt", 7, "/etc/hostname 1", "line 7 names /etc/hostname, which is not in the set's folder"),
        ("test.txt", 7, "images/test/000002.png 1", "line 7 lists images/test/000002.png again, after line 3"),
        ("test.txt", 7, "./images/val200/000002.png 1", "line 7 lists images/val200/000002.png, as val200.txt does"),
        ("val200.txt", 7, "images/train800/000002.png 1", "line 7 lists images/train800/000002.png, as train800.txt"),
        ("train800val200.txt", 7, "images/test/000002.png 1", "line 7 lists images/test/000002.png with the label 1"),
        ("train800val200.txt", 1, "images/train800val200/000000.png 1", "line 1 lists images/train800val200/000"),
    ],
)  # fmt: skip
def test_a_line_that_does_not_fit_is_refused_by_file_and_line(folder, file, line, text, said):
    edit(folder / file, line, text)
    message = refusal(load, folder)
    assert message.startswith(f"{folder / file}, {said}")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("test.txt", "", "test.txt lists no images: get it again"),
        ("train800.txt", "\n \n", "train800.txt lists no images: get it again"),
        ("val200.txt", b"\xff\xfe", "val200.txt is not UTF-8: convert it"),
        ("val200.txt", None, "val200.txt does not exist: add it"),
    ],
)
def test_a_list_that_is_none_is_refused(folder, file, content, said):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in refusal(load, folder)


@pytest.mark.parametrize(
    ("file", "said"), [("train800.txt", "has 799 images, not 800"), ("val200.txt", "has 199 images, not 200")]
)
def test_a_list_that_was_cut_off_is_refused(folder, file, said):
    lines = (folder / file).read_text().splitlines()
    (folder / file).write_text("\n".join(lines[:-1]))
    assert said in refusal(load, folder)


def test_a_test_list_that_was_cut_off_is_refused_and_a_longer_one_noted(folder, monkeypatch):
    say_that_vtab_has(monkeypatch, test=31)
    assert f"{folder / 'test.txt'} has 30 test images; VTAB's caltech101 has 31: get the whole" in refusal(load, folder)
    say_that_vtab_has(monkeypatch, test=29)
    assert "30 test images where VTAB has 29" in load(folder).note


@pytest.mark.parametrize("link", ["hardlink_to", "symlink_to"])
@pytest.mark.parametrize(
    ("file", "image", "same"),
    [
        ("test.txt", "images/test/000003.png", "images/train800/000009.png, as train800.txt"),
        ("test.txt", "images/test/000003.png", "images/val200/000009.png, as val200.txt"),
    ],
)
def test_a_link_into_training_is_refused_by_its_line(folder, file, image, same, link):
    (folder / image).unlink()
    getattr(folder / image, link)((folder / same.partition(",")[0]).resolve())
    message = refusal(load, folder)
    assert message.startswith(f"{folder / file}, line 4 lists {image}, which is the same file as {same} does")


def test_a_union_that_lacks_images_is_refused(folder):
    lines = (folder / "train800val200.txt").read_text().splitlines()
    (folder / "train800val200.txt").write_text("\n".join(lines[:-2]))
    assert "lacks 2 images of train800.txt and val200.txt" in refusal(load, folder)


def test_broken_images_end_the_run_or_are_left_out(folder):
    path = folder / "images/test/000003.png"
    path.unlink()
    path.write_bytes(b"no image")
    assert "000003.png does not decode" in refusal(split_of(load(folder), "test").examples.__getitem__, 3)
    data = load(folder, skip_broken=True)
    assert len(data.test) == 29
    assert "images/test/000003.png" not in split_of(data, "test").names
    assert "1 image that did not decode left out" in data.note


def test_a_copy_of_the_training_images_is_no_test_data(folder):
    for index in range(30):
        shutil.copy(folder / f"images/train800/{index:06}.png", folder / f"images/test/copy{index:06}.png")
    lines = lines_of("test.txt", 30, 102)
    (folder / "test.txt").write_text("\n".join(line.replace("test/", "test/copy") for line in lines))
    assert "30 of 30 test images are also in train or validation, byte for byte" in refusal(load, folder)


def test_a_folder_that_keeps_one_out_is_named(folder, monkeypatch):
    entered = Path.stat

    def stat(path, **options):
        if "images" in path.parts and path.parts[-1] != "images":
            raise PermissionError(13, "Permission denied", str(path))
        return entered(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert refusal(load, folder).endswith(
        "images/train800/000000.png cannot be read (Permission denied): check its permissions"
    )


@pytest.mark.parametrize(
    ("folder_name", "name"),
    [
        ("caltech101", "caltech101"), ("cifar", "cifar100"), ("dtd", "dtd"), ("oxford_flowers102", "flowers102"),
        ("oxford_iiit_pet", "pets"), ("svhn", "svhn"), ("sun397", "sun397"), ("patch_camelyon", "camelyon"),
        ("eurosat", "eurosat"), ("resisc45", "resisc45"), ("diabetic_retinopathy", "retinopathy"),
        ("clevr_count", "clevr-count"), ("clevr_dist", "clevr-distance"), ("dmlab", "dmlab"),
        ("kitti", "kitti-distance"), ("dsprites_loc", "dsprites-location"), ("dsprites_ori", "dsprites-orientation"),
        ("smallnorb_azi", "smallnorb-azimuth"), ("smallnorb_ele", "smallnorb-elevation"),
    ],
)  # fmt: skip
def test_folders_go_by_the_names_in_circulation(tmp_path, folder_name, name):
    (tmp_path / "data" / folder_name).mkdir(parents=True)
    assert VTAB(data_dir=tmp_path / "data").datasets() == (name,)
    assert VTAB(data_dir=tmp_path / "data" / folder_name).datasets() == (name,)


def test_several_sets_in_one_folder_come_in_the_order_of_vtab(tmp_path):
    for name in ("svhn", "cifar", "other", "smallnorb_ele"):
        (tmp_path / name).mkdir()
    assert VTAB(data_dir=tmp_path).datasets() == ("cifar100", "svhn", "smallnorb-elevation")
    assert VTAB(data_dir=tmp_path, sets=("smallNORB_ele", "SVHN")).datasets() == ("smallnorb-elevation", "svhn")
    assert "did you mean 'cifar100'" in refusal(VTAB(data_dir=tmp_path, sets=("cifar10",)).datasets)
    (tmp_path / "cifar-100").mkdir()
    assert "two folders of cifar100, cifar and cifar-100: keep one" in refusal(VTAB(data_dir=tmp_path).datasets)


def test_a_folder_without_sets_and_a_set_without_images_are_refused(tmp_path):
    assert "does not hold a folder of a set of VTAB" in refusal(VTAB(data_dir=tmp_path).datasets)
    (tmp_path / "resisc45").mkdir()
    message = refusal(VTAB(data_dir=tmp_path).load, "resisc45")
    assert "has neither train800.txt, val200.txt, test.txt nor tar or parquet files" in message


def test_no_name_stands_for_two_sets():
    names = [name for record in SETS.values() for name in record.folders]
    assert len(set(names)) == len(names)
