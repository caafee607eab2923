"""Published sets of VTAB in other forms than the layout in circulation: shards, torchvision's folders, the hub."""

from __future__ import annotations

import io
import os
import pickle
import re
import sys
import tarfile

import huggingface_hub
import PIL.Image
import pyarrow
import pytest
from pyarrow import parquet

from support.pictures import SPLITS, png, refusal, say_that_vtab_has
from support.toys import split_of
from zipeft.tasks.vtab import shard_images
from zipeft.tasks.vtab.sets import SETS
from zipeft.tasks.vtab.shard_files import find_shards
from zipeft.tasks.vtab.shard_images import Rows, encoded_images, read_items
from zipeft.tasks.vtab.task import VTAB


@pytest.fixture(autouse=True)
def published(monkeypatch):
    say_that_vtab_has(monkeypatch, test=9)


# --- shards -----------------------------------------------------------------------------------------------------------


def examples(split, count, classes):
    """Return images that no other split has, and their labels."""
    shade = 40 if split == "train" else 200
    return [(png((index % 256, index // 256, shade)), (3 * index) % classes) for index in range(count)]


def write_tar(path, content, start=0):
    with tarfile.open(path, "w") as bundle:
        for index, (image, label) in enumerate(content, start):
            for suffix, member in (("png", image), ("cls", f"{label}".encode())):
                info = tarfile.TarInfo(f"s{index:07}.{suffix}")
                info.size = len(member)
                bundle.addfile(info, io.BytesIO(member))


def write_tars(root, classes=10, train=1005, test=9):
    """Write the training images into 11 shards, so that their numbers do not sort as text."""
    for split, count, each in (("train", train, 100), ("test", test, 100)):
        (root / split).mkdir(parents=True)
        content = examples(split, count, classes)
        for number, start in enumerate(range(0, count, each)):
            write_tar(root / split / f"{number}.tar", content[start : start + each], start)
        (root / split / "nshards.txt").write_text(str(-(-count // each)))
    return root


def write_parquet(root, classes=10, column="image", wrap=True):
    (root / "data").mkdir(parents=True)
    for split, count in (("train", 1005), ("test", 9)):
        content = examples(split, count, classes)
        half = count // 2
        for number, part in enumerate((content[:half], content[half:])):
            images = [{"bytes": image, "path": None} if wrap else image for image, _ in part]
            labels = [label for _, label in part]
            table = pyarrow.table({column: images, "cls" if column == "webp" else "label": labels})
            parquet.write_table(table, root / "data" / f"{split}-0000{number}-of-00002.parquet", row_group_size=100)
    return root


def assert_matched(data, classes=10, label=lambda number: number):
    """Check that every image has the label that it was written with."""
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 9]
    seen = []
    for split in SPLITS:
        part = split_of(data, split)
        for image, target in zip(part.examples, part.targets, strict=True):
            low, high, shade = image.getpixel((0, 0))
            index = low + 256 * high
            assert target == label((3 * index) % classes)
            assert shade == (200 if split == "test" else 40)
            seen.append((index, shade))
    assert len(set(seen)) == 1009
    assert "not VTAB's own 1,000 images" in data.note


def test_tar_shards_are_read(tmp_path):
    root = write_tars(tmp_path / "wds_vtab-svhn")
    assert [path.name for path in find_shards(root)["train"]] == [f"{number}.tar" for number in range(11)]
    data = VTAB(data_dir=tmp_path).load("svhn")
    assert_matched(data)
    assert data.source == "folder wds_vtab-svhn"
    assert VTAB(data_dir=tmp_path, split_seed=1).load("svhn").train.names != data.train.names
    assert len(VTAB(data_dir=tmp_path, test_examples=4).load("svhn").test) == 4
    write_tar(root / "test" / "0.tar", examples("test", 9, 9))
    assert VTAB(data_dir=tmp_path).load("svhn").checksum != data.checksum


def test_labels_of_dsprites_on_the_hub_are_binned(tmp_path):
    write_tars(tmp_path / "wds_vtab-dsprites_label_orientation", classes=40)
    data = VTAB(data_dir=tmp_path).load("dsprites-orientation")
    assert_matched(data, 40, lambda number: int(number // 2.5))
    assert len(data.classes) == 16


def test_labels_of_dsprites_that_are_classes_already_are_refused(tmp_path):
    write_tars(tmp_path / "dsprites_loc", classes=16)
    message = refusal(VTAB(data_dir=tmp_path).load, "dsprites-location")
    assert "dsprites_loc has no label above 15: they seem to be VTAB's 16 classes already" in message


@pytest.mark.parametrize(("column", "wrap"), [("image", True), ("webp", True), ("img", False)])
def test_parquet_is_read(tmp_path, column, wrap):
    write_parquet(tmp_path / "eurosat", column=column, wrap=wrap)
    assert_matched(VTAB(data_dir=tmp_path).load("eurosat"))


def test_parquet_that_does_not_fit_in_memory_stays_on_disk(tmp_path, monkeypatch):
    root, read, group = write_parquet(tmp_path / "eurosat"), [], parquet.ParquetFile.read_row_group
    in_memory = VTAB(data_dir=tmp_path).load("eurosat")
    items = [item for path in find_shards(root)["train"] for item in read_items(path, "eurosat")]
    expected = encoded_images(items)
    assert isinstance(expected, dict)
    monkeypatch.setattr("zipeft.training.dataset.MEMORY_SHARE", 0)
    monkeypatch.setattr(
        parquet.ParquetFile, "read_row_group", lambda self, n, **options: read.append(n) or group(self, n, **options)
    )
    rows = encoded_images(items)
    assert isinstance(rows, Rows)
    assert read == []
    assert list(rows) == [expected[index] for index in range(len(items))]
    assert read == [*range(6), *range(6)]  # two shards of 502 and 503 rows: each row group once
    assert len(pickle.dumps(rows)) < len(pickle.dumps(items)) + 1000  # what was read last goes to no worker
    assert [rows[index] for index in (700, 3, 1004)] == [expected[index] for index in (700, 3, 1004)]
    on_disk = VTAB(data_dir=tmp_path).load("eurosat")
    assert_matched(on_disk)
    assert (on_disk.checksum, on_disk.note) == (in_memory.checksum, in_memory.note)


def test_missing_and_short_shards_are_refused(tmp_path):
    root = write_tars(tmp_path / "svhn")
    (root / "train/3.tar").unlink()
    assert "has 10 of 11 shards of train: add the others" in refusal(VTAB(data_dir=root).load, "svhn")
    other = write_parquet(tmp_path / "eurosat")
    (other / "data/test-00000-of-00002.parquet").unlink()
    assert "has 1 of 2 shards of test" in refusal(VTAB(data_dir=other).load, "eurosat")
    few = write_tars(tmp_path / "dmlab", classes=6, train=999)
    assert "has 999 training images; VTAB takes 1,000" in refusal(VTAB(data_dir=few).load, "dmlab")
    (few / "test/0.tar").unlink()
    assert "has no shards of test" in refusal(VTAB(data_dir=few).load, "dmlab")


def test_a_part_of_the_test_images_is_no_set_and_more_are_noted(tmp_path, monkeypatch):
    write_tars(tmp_path / "svhn")
    write_parquet(tmp_path / "eurosat")
    say_that_vtab_has(monkeypatch, test=10)
    for name in ("svhn", "eurosat"):
        assert f"has 9 test images; VTAB's {name} has 10: get the whole set" in refusal(
            VTAB(data_dir=tmp_path).load, name
        )
    say_that_vtab_has(monkeypatch, test=8)
    assert "9 test images where VTAB has 8" in VTAB(data_dir=tmp_path).load("svhn").note


@pytest.mark.parametrize("text", [None, "", "two", "²"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_tars_whose_number_is_not_said_are_refused(tmp_path, split, text):
    root = write_tars(tmp_path / "svhn")
    path = root / split / "nshards.txt"
    path.unlink() if text is None else path.write_text(text)
    assert f"{path} does not say how many shards of {split} there are" in refusal(VTAB(data_dir=root).load, "svhn")


def test_a_tar_that_was_cut_off_between_two_images_is_refused(tmp_path):
    root = write_tars(tmp_path / "svhn")
    path = root / "train/3.tar"
    with tarfile.open(path) as bundle:
        end = bundle.getmembers()[100].offset
    path.write_bytes(path.read_bytes()[:end])
    assert "train/3.tar cannot be read as a tar file (its end is missing)" in refusal(VTAB(data_dir=root).load, "svhn")


def empty_header(content, at):
    content[at : at + tarfile.BLOCKSIZE] = b"\0" * tarfile.BLOCKSIZE


def damaged_header(content, at):
    content[at + 148 : at + 156] = b"7777777\0"  # its checksum


def another_behind(content, _at):
    content += bytes(content)


@pytest.mark.parametrize("damage", [empty_header, damaged_header, another_behind])
def test_a_tar_that_goes_on_where_reading_stops_is_refused(tmp_path, damage):
    root = write_tars(tmp_path / "svhn")
    path = root / "train/3.tar"
    with tarfile.open(path) as bundle:
        at = bundle.getmembers()[100].offset
    content = bytearray(path.read_bytes())
    damage(content, at)
    path.write_bytes(content)
    message = refusal(VTAB(data_dir=root).load, "svhn")
    assert "train/3.tar cannot be read as a tar file (it is damaged at byte " in message


def test_a_tar_with_two_images_of_one_name_is_refused(tmp_path):
    root = write_tars(tmp_path / "svhn")
    with tarfile.open(root / "test/0.tar", "a") as bundle:
        bundle.addfile(tarfile.TarInfo("s0000003.png"))
    assert "test/0.tar has two images or labels named s0000003: remove one" in refusal(VTAB(data_dir=root).load, "svhn")


def test_test_images_that_are_in_training_too_are_noted_and_a_copy_of_training_is_refused(tmp_path):
    root = write_tars(tmp_path / "svhn")
    data = VTAB(data_dir=root).load("svhn")
    shared = [
        split_of(data, "train").examples[0].getpixel((0, 0)),
        split_of(data, "validation").examples[0].getpixel((0, 0)),
    ]
    write_tar(root / "test/0.tar", [*((png(colour), 1) for colour in shared), *examples("test", 7, 10)])
    assert "; 2 test images also in train or validation, byte for byte" in VTAB(data_dir=root).load("svhn").note
    (root / "test/0.tar").write_bytes((root / "train/0.tar").read_bytes())
    message = refusal(VTAB(data_dir=root).load, "svhn")
    assert re.search(
        r"svhn: \d+ of 100 test images are also in train or validation, byte for byte: give other", message
    )


@pytest.mark.parametrize("label", [1.7, float("inf"), True, None, "1" * 5000, b"1"])
def test_a_label_that_is_no_whole_number_is_refused(tmp_path, label):
    root = write_parquet(tmp_path / "eurosat")
    path = root / "data/test-00000-of-00002.parquet"
    parquet.write_table(pyarrow.table({"image": [png((1, 2, 3))], "label": [label]}), path)
    message = refusal(VTAB(data_dir=root).load, "eurosat")
    assert f"{path} gives row 0 the label {str(label)[:20]!r}, which eurosat does not have" in message


def test_a_cell_that_holds_no_image_is_named_or_left_out(tmp_path):
    root = write_parquet(tmp_path / "eurosat")
    path = root / "data/test-00000-of-00002.parquet"
    parquet.write_table(pyarrow.table({"image": ["text"] * 4, "label": [1] * 4}), path)
    part = split_of(VTAB(data_dir=root).load("eurosat"), "test")
    assert "test-00000-of-00002.parquet/row 0 does not decode" in refusal(part.examples.__getitem__, 0)
    assert len(VTAB(data_dir=root, skip_broken=True).load("eurosat").test) == 5


def test_pages_of_images_that_are_damaged_are_refused(tmp_path):
    """The footer and the labels are whole: it is found only when the images are read."""
    root = write_parquet(tmp_path / "eurosat")
    path = root / "data/train-00000-of-00002.parquet"
    with parquet.ParquetFile(path) as file:
        start = file.metadata.row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)
    message = refusal(VTAB(data_dir=root).load, "eurosat")
    assert f"{path} cannot be read as parquet (" in message


def tar_with(path, **members):
    with tarfile.open(path, "w") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                bundle.addfile(info)
            else:
                info.size = len(content)
                bundle.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a__png": b"x", "a__cls": b"10"}, "gives a the label '10', which svhn does not have"),
        ({"a__png": b"x", "a__cls": b"cat"}, "gives a the label 'cat'"),
        ({"a__png": b"x", "a__cls": b"-1"}, "gives a the label '-1'"),
        ({"a__png": b"x"}, "has a without a label"),
        ({"a__cls": b"1"}, "has a without an image"),
        ({"a__png": None, "a__cls": b"1"}, "has a.png, which is a link or device"),
    ],
)
def test_a_shard_that_does_not_fit_is_refused(tmp_path, members, said):
    root = write_tars(tmp_path / "svhn")
    tar_with(root / "test/0.tar", **members)
    assert f"{root / 'test/0.tar'} {said}" in refusal(VTAB(data_dir=root).load, "svhn")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    root = write_tars(tmp_path / "svhn")
    (root / "train/4.tar").write_bytes(b"no tar" * 200)
    assert "train/4.tar cannot be read as a tar file" in refusal(VTAB(data_dir=root).load, "svhn")
    other = write_parquet(tmp_path / "eurosat")
    (other / "data/test-00000-of-00002.parquet").write_bytes(b"no parquet")
    assert "cannot be read as parquet" in refusal(VTAB(data_dir=other).load, "eurosat")
    named = write_parquet(tmp_path / "dtd", column="picture")
    assert "has no column image or img" in refusal(VTAB(data_dir=named).load, "dtd")


def with_header(path, name, size=None, kind=tarfile.REGTYPE, pax=None):
    """Let a tar begin with a member whose header says of itself what is not true."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.pax_headers = kind, size if size is not None else 512, pax or {}
    content = path.read_bytes()
    header = info.tobuf(tarfile.PAX_FORMAT)
    path.write_bytes(header + b"\0" * (512 if size is None else 0) + content)


SPARSE = {
    "0.0": {"GNU.sparse.size": "9", "GNU.sparse.numblocks": "1", "GNU.sparse.offset": "0", "GNU.sparse.numbytes": "9"},
    "0.1": {"GNU.sparse.map": "0,512", "GNU.sparse.size": "512"},
    "0.1, no numbers": {"GNU.sparse.map": "zero", "GNU.sparse.size": "512"},
    "1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9", "GNU.sparse.name": "x.png"},
    "size, no number": {"GNU.sparse.size": "many"},
    "1.0, no numbers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "many"},
}


def refused_tar(tmp_path, **header):
    path = tmp_path / "0.tar"
    write_tar(path, examples("test", 3, 10))
    with_header(path, "x.png", **header)
    return refusal(list, shard_images._tar(path))


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_members_of_a_tar_are_refused(tmp_path, kind):
    message = refused_tar(tmp_path, pax=SPARSE[kind])
    assert (
        "0.tar has x.png, which is a sparse file: get" in message or "0.tar cannot be read as a tar file (" in message
    )


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [10**13, 10**7, 2**63])
def test_sizes_in_a_tar_are_not_believed(tmp_path, kind, size):
    assert "0.tar cannot be read as a tar file (" in refused_tar(tmp_path, size=size, kind=kind)


def test_a_size_that_no_image_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_images, "LARGEST", 10)
    assert "0.tar cannot be read as a tar file (x.png claims to have 512 bytes)" in refused_tar(tmp_path)


def test_shards_in_folders_of_systems_are_passed_over(tmp_path):
    for name in ("train/0.tar", "train/@eaDir/0.tar", "test/0.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for split in ("train", "test"):
        (tmp_path / split / "nshards.txt").write_text("1")
    assert find_shards(tmp_path)["train"] == [tmp_path / "train/0.tar"]


def test_a_broken_image_in_a_shard_is_named_or_left_out(tmp_path):
    root = write_tars(tmp_path / "svhn")
    write_tar(root / "test" / "0.tar", [(b"broken", 1), *examples("test", 8, 10)])
    part = split_of(VTAB(data_dir=root).load("svhn"), "test")
    assert "test/0.tar/s0000000 does not decode (it is no image" in refusal(part.examples.__getitem__, 0)
    assert len(VTAB(data_dir=root, skip_broken=True).load("svhn").test) == 8
    write_tar(root / "test" / "0.tar", [(b"broken %d" % index, 1) for index in range(9)])
    message = refusal(VTAB(data_dir=root, skip_broken=True).load, "svhn")
    assert message == "no test image of 9 decodes: get the set again"


# --- torchvision ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs among its files")
def test_torchvision_is_given_nothing_but_files(tmp_path):
    (tmp_path / "dtd" / "dtd" / "images").mkdir(parents=True)
    os.mkfifo(tmp_path / "dtd" / "dtd" / "images" / "x.png")
    assert "x.png is no file, but a FIFO or a device: remove it" in refusal(VTAB(data_dir=tmp_path).load, "dtd")


def test_torchvisions_folder_is_read(tmp_path):
    base = tmp_path / "dtd" / "dtd"
    for label, colour in (("banded", "red"), ("dotted", "blue"), ("waffled", "green")):
        (base / "images" / label).mkdir(parents=True)
        for split, size in (("train", (3, 3)), ("test", (3, 4))):
            PIL.Image.new("RGB", size, colour).save(base / "images" / label / f"{split}.png")
    (base / "labels").mkdir()
    for split, count in (("train", 1002), ("test", 9)):
        lines = [f"{('banded', 'dotted', 'waffled')[index % 3]}/{split}.png" for index in range(count)]
        (base / "labels" / f"{split}1.txt").write_text("\n".join(lines))
    data = VTAB(data_dir=tmp_path).load("dtd")
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 9]
    colours = [(255, 0, 0), (0, 0, 255), (0, 128, 0)]
    part = split_of(data, "validation")
    assert all(part.examples[place].getpixel((0, 0)) == colours[part.targets[place]] for place in range(0, 200, 9))
    assert data.source == "torchvision DTD in folder dtd"
    PIL.Image.new("RGB", (3, 3), "black").save(base / "images/banded/train.png")
    assert VTAB(data_dir=tmp_path).load("dtd").checksum != data.checksum
    for split in ("train", "test"):
        (base / f"images/dotted/{split}.png").write_bytes(b"broken")
    message = refusal(VTAB(data_dir=tmp_path).load, "dtd")
    assert re.search(r", image train \d+ does not decode \(cannot identify", message)
    whole = VTAB(data_dir=tmp_path, skip_broken=True).load("dtd")
    assert len(whole.test) == 6
    assert set(whole.train.targets) == {0, 2}
    (base / "labels/test1.txt").write_text("\n".join(["banded/train.png"] * 9))
    message = refusal(VTAB(data_dir=tmp_path, skip_broken=True).load, "dtd")
    assert "dtd: 9 of 9 test images are also in train or validation" in message
    (base / "labels/test1.txt").unlink()
    assert "has no test data of dtd that torchvision can read" in refusal(VTAB(data_dir=tmp_path).load, "dtd")


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_the_hub_gives_the_published_sets(hub):
    snapshot, asked = hub
    task = VTAB(source="hub")
    assert task.datasets() == tuple(name for name in SETS if name != "sun397")
    assert not asked
    write_tars(snapshot)
    data = task.load("oxford_iiit_pet")
    assert_matched(data)
    assert data.source == "hub clip-benchmark/wds_vtab-pets@0123456"
    options = {"repo_type": "dataset", "revision": None, "allow_patterns": ["train/*", "test/*"]}
    assert asked == [("clip-benchmark/wds_vtab-pets", options)]


def test_a_commit_that_is_on_record_is_asked_for(hub):
    snapshot, asked = hub
    write_tars(snapshot, classes=2)
    VTAB(source="hub").load("patch_camelyon")
    assert asked[0][1]["revision"] == SETS["camelyon"].revision == "502695fe1a141108650e3c5b91c8b5e0ff84ed49"


def test_what_the_hub_does_not_give_is_said_in_one_line(hub, monkeypatch):
    snapshot, _ = hub
    snapshot.mkdir()
    message = refusal(VTAB(source="hub").load, "svhn")
    assert "the hub did not give clip-benchmark/wds_vtab-svhn (it has no such files)" in message

    def fail(*_, **__):
        raise RuntimeError("no such\n  revision")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refusal(VTAB(source="hub").load, "svhn")
    assert (
        "(RuntimeError: no such revision): connect, or put it into a folder svhn of --data-dir, with train800.txt"
        in message
    )
