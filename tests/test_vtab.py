"""VTAB-1k: its records, tables and means, the embedded sets, and shards of the published ones."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections import Counter
from statistics import fmean

import huggingface_hub
import numpy as np
import PIL.Image
import pyarrow
import pytest
from pictures import SPLITS, refusal
from pyarrow import parquet
from toys import split_of

from zipeft.registry import methods, tasks
from zipeft.settings import override
from zipeft.tasks import _counting, _vtab_embedded, _vtab_sets, _vtab_shards
from zipeft.tasks._vtab_data import shuffled
from zipeft.tasks._vtab_sets import SETS
from zipeft.tasks._vtab_tables import AVERAGES, GROUP_MEANS, ORDER, TABLES
from zipeft.tasks.vtab import VTAB

EMBEDDED = (
    "cifar10-images",
    "mnist-digits",
    "dsprites-redrawn-location",
    "dsprites-redrawn-orientation",
    "drawn-count",
)


# --- the task ---------------------------------------------------------------------------------------------------------


def test_it_is_found_by_name_and_has_five_embedded_sets():
    assert tasks.get("vtab") is VTAB
    assert VTAB().datasets() == EMBEDDED
    assert not set(EMBEDDED) & set(SETS)  # never under a published name
    assert VTAB(sets=("drawn-count",)).datasets() == ("drawn-count",)


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task_and_name_methods(preset):
    chosen = VTAB.presets[preset]
    task = VTAB(**chosen.task)
    assert task.resize == "squash"
    assert all(methods.get(name) for name in chosen.methods)
    assert chosen.seeds == (5 if preset == "paper" else 3)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sets": "drawn-cuont"}, "did you mean 'drawn-count'?"),
        ({"sets": "oxford_iiit_pet"}, "name its folder with --data-dir, or get it with --set vtab.source=hub"),
        (
            {"sets": "sun397", "source": "hub"},
            "no data set 'sun397' on the hub; name its folder with --data-dir (there",
        ),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
        ({"source": "hub", "data_dir": "/data"}, "source is hub and data_dir is set: drop one"),
        ({"test_examples": "-1"}, "test_examples is -1"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(lambda: override(VTAB, values).datasets())


# --- records, tables and means ----------------------------------------------------------------------------------------


def test_there_are_nineteen_sets_in_three_groups():
    assert Counter(record.group for record in SETS.values()) == {"natural": 7, "specialised": 4, "structured": 8}
    assert sorted(ORDER) == sorted(SETS)


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (_vtab_sets.count_label, {3: 0, 10: 7}),
        (_vtab_sets.clevr_distance_label, {1.0: 0, 8.0: 0, 8.01: 1, 8.5: 1, 9.2: 3, 10.0: 4, 10.01: 5, 50.0: 5}),
        (_vtab_sets.kitti_distance_label, {(): 3, (1.0,): 0, (30.0, 8.0): 0, (10.0,): 1, (20.0,): 1, (20.5, 90.0): 2}),
        (_vtab_sets.location_label, {0: 0, 1: 0, 2: 1, 31: 15}),
        (_vtab_sets.orientation_label, {0: 0, 2: 0, 3: 1, 4: 1, 5: 2, 39: 15}),
    ],
)
def test_labels_are_as_vtab_defines_them(function, values):
    assert {value: function(value) for value in values} == values


def mean_of(row, names):
    columns = dict(zip(TABLES[0].columns, row, strict=True))
    return fmean(float(columns[name]) for name in names)


def group(name):
    return [member for member in SETS if SETS[member].group == name]


def test_both_means_of_published_rows_are_those_of_their_scores():
    columns = TABLES[0].columns
    for row in TABLES[0].rows.values():
        assert len(row) == len(columns) == 21
        groups = [mean_of(row, group(name)) for name in ("natural", "specialised", "structured")]
        assert float(row[19]) == pytest.approx(fmean(groups), abs=0.0051)
        assert float(row[20]) == pytest.approx(mean_of(row, SETS), abs=0.0051)


@pytest.mark.parametrize(
    ("row", "printed"),
    [
        ("Full (VPT)", "Full"), ("Adapter (VPT)", "Adapter"), ("Sidetune (LLaMA-Adapter)", "Sidetune"),
        ("VPT-deep", "VPT-deep"), ("Zero-initialised attention (LLaMA-Adapter)", "Zero-initialised attention"),
    ],
)  # fmt: skip
def test_printed_means_of_groups_are_those_of_the_printed_scores(row, printed):
    names = ("natural", "specialised", "structured")
    computed = [mean_of(TABLES[0].rows[row], group(name)) for name in names]
    assert [float(mean) for mean in GROUP_MEANS[printed]] == pytest.approx(
        computed, abs=0.03
    )  # scores are printed to 0.1
    assert float(TABLES[1].rows[printed][3]) == pytest.approx(fmean(map(float, GROUP_MEANS[printed])), abs=0.0051)


def test_averages_are_the_means_computed_by_hand():
    score = {name: float(np.random.RandomState(index).rand()) for index, name in enumerate((*SETS, *EMBEDDED))}

    def mean(names):
        return fmean(score[name] for name in names)

    natural, structured = EMBEDDED[:2], EMBEDDED[2:]
    expected = [
        ("natural", mean(group("natural"))), ("specialised", mean(group("specialised"))),
        ("structured", mean(group("structured"))),
        ("mean of groups", fmean(mean(group(name)) for name in ("natural", "specialised", "structured"))),
        ("mean of the 19", mean(SETS)),
        ("natural", mean(natural)), ("structured", mean(structured)),
        ("mean of groups", (mean(natural) + mean(structured)) / 2), ("mean of sets", mean(EMBEDDED)),
    ]  # fmt: skip
    given = [(each.name, sum(score[name] * weight for name, weight in each.weights.items())) for each in AVERAGES]
    assert [name for name, _ in given] == [name for name, _ in expected]
    assert [value for _, value in given] == pytest.approx([value for _, value in expected])


# --- drawn scenes -----------------------------------------------------------------------------------------------------


def test_scenes_have_as_many_objects_as_their_labels_say():
    data = VTAB(test_examples=20).load("drawn-count")
    assert list(data.classes) == [str(count) for count in range(3, 11)]
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 20]
    for split in SPLITS:
        part = split_of(data, split)
        for place in range(20):
            index = int(part.names[place].split()[1])
            assert len(_counting.scene(0, index)) == int(data.classes[part.targets[place]])
    assert min(Counter(data.train.targets).values()) > 60  # of 100 a class
    assert len(VTAB().load("drawn-count").test) == 5000


def test_scenes_are_deterministic_and_no_two_are_alike():
    data, other = VTAB().load("drawn-count"), VTAB(split_seed=1).load("drawn-count")
    drawn = [split_of(data, split).examples[place].tobytes() for split in SPLITS for place in range(12)]
    assert len(set(drawn)) == len(drawn)
    assert drawn[:2] == [VTAB().load("drawn-count").train.examples[place].tobytes() for place in range(2)]
    assert other.train.examples[0].tobytes() not in drawn
    assert other.checksum != data.checksum
    objects = {seed: {solid for index in range(9) for solid in _counting.scene(seed, index)} for seed in (0, 1)}
    assert not objects[0] & objects[1]


def test_no_object_is_hidden_or_cut_off():
    for index in range(60):
        solids = _counting.scene(0, index)
        assert [solid.y for solid in solids] == sorted(solid.y for solid in solids)
        for place, solid in enumerate(solids):
            others = solids[:place] + solids[place + 1 :]
            assert _counting.clearance(solid, others) >= _counting.CLEARANCE
            assert solid.radius <= solid.x <= 1 - solid.radius
            assert solid.radius <= solid.y <= 1 - 1.25 * solid.radius


def test_every_object_shows_in_its_colour():
    image = np.asarray(_counting.draw(0, 3)).astype(int)
    for solid in _counting.scene(0, 3):
        x, y = round(solid.x * 128), round(solid.y * 128)
        near = image[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
        assert np.ptp(solid.colour) == 0 or np.corrcoef(near, solid.colour)[0, 1] > 0.9


# --- embedded sets from carriers, with small stand-ins ----------------------------------------------------------------


def png(colour, mode="RGB", size=(4, 4)):
    buffer = io.BytesIO()
    PIL.Image.new(mode, size, colour).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def carriers(tmp_path, monkeypatch):
    """Let 1,020 pictures, sorted by class, stand in for CIFAR-10's, and as many digits for MNIST's."""
    labels = sorted(f"class {index % 10}" for index in range(1020))
    records = [
        {
            "input": base64.b64encode(png((index % 256, index // 256, 7))).decode(),
            "target_scores": {f"class {number}": int(label == f"class {number}") for number in range(10)},
        }
        for index, label in enumerate(labels)
    ]
    (tmp_path / "task.json").write_text(json.dumps({"examples": records}))
    rows = [[index % 251, index // 251, *[0] * 782, index * 10 // 1020] for index in range(1020)]
    digits = tmp_path / "digits.csv.gz"
    np.savetxt(digits, rows, "%d", delimiter=",")
    monkeypatch.setattr("zipeft.tasks._bigbench.benchmark_files", lambda *paths: [tmp_path / "task.json"])
    monkeypatch.setattr("zipeft.carriers.member", lambda carrier, path: digits)
    return tmp_path


def test_cifar_is_shuffled_and_every_picture_keeps_its_class(carriers):
    data = VTAB().load("cifar10-images")
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 20]
    assert len(set(data.train.targets)) == 10
    assert data.train.targets != sorted(data.train.targets)
    for split in SPLITS:
        part = split_of(data, split)
        for place in range(0, len(part), 13):
            index = int(part.names[place].split()[1])
            assert part.examples[place].getpixel((0, 0)) == (index % 256, index // 256, 7)
            assert data.classes[part.targets[place]] == f"class {index // 102}"


def test_mnist_keeps_pixels_and_digits_together(carriers):
    data = VTAB(test_examples=5).load("mnist-digits")
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 5]
    for split in SPLITS:
        part = split_of(data, split)
        for place in range(0, len(part), 13):
            index = int(part.names[place].split()[1])
            assert part.examples[place].size == (28, 28)
            assert [part.examples[place].getpixel((x, 0)) for x in (0, 1)] == [index % 251, index // 251]
            assert part.targets[place] == index * 10 // 1020


@pytest.mark.parametrize(("name", "file"), [("cifar10-images", "task.json"), ("mnist-digits", "digits.csv.gz")])
def test_a_damaged_carrier_is_one_line(carriers, name, file):
    (carriers / file).write_bytes(b"[1, 2")
    assert "is damaged (" in refusal(VTAB().load, name)


def test_a_shuffle_stays_what_it_is():
    assert shuffled(8, 0) == [6, 2, 1, 7, 3, 0, 5, 4]  # that of NumPy's RandomState, which is fixed for good


def test_every_kind_of_image_becomes_what_the_backbone_takes(carriers):
    class Identity:
        def image_transform(self, size):
            return np.asarray

    for name in EMBEDDED:
        task = VTAB(image_size=20, test_examples=1)
        assert task.encoder(Identity())(task.load(name).train.examples[0]).shape == (20, 20, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "total"), [("cifar10-images", 10_000), ("mnist-digits", 5000)])
def test_the_real_carriers(name, total):
    data = VTAB().load(name)
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, total - 1000]
    counts = Counter(target for split in SPLITS for target in split_of(data, split).targets)
    assert counts == dict.fromkeys(range(10), total // 10)
    assert data.train.examples[0].size == ((32, 32) if total == 10_000 else (28, 28))
    assert _vtab_embedded.fetch(name).startswith(f"ready: {total:,} images in carrier")


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
    assert [path.name for path in _vtab_shards.find(root)["train"]] == [f"{number}.tar" for number in range(11)]
    data = VTAB(data_dir=tmp_path).load("svhn")
    assert_matched(data)
    assert data.source == "folder wds_vtab-svhn"
    assert "9 test images where VTAB has 26,032" in data.note
    assert VTAB(data_dir=tmp_path, split_seed=1).load("svhn").train.names != data.train.names
    assert len(VTAB(data_dir=tmp_path, test_examples=4).load("svhn").test) == 4
    write_tar(root / "test" / "0.tar", examples("train", 9, 10))
    assert VTAB(data_dir=tmp_path).load("svhn").checksum != data.checksum


def test_labels_of_dsprites_on_the_hub_are_binned(tmp_path):
    write_tars(tmp_path / "wds_vtab-dsprites_label_orientation", classes=40)
    data = VTAB(data_dir=tmp_path).load("dsprites-orientation")
    assert_matched(data, 40, lambda number: int(number // 2.5))
    assert len(data.classes) == 16


@pytest.mark.parametrize(("column", "wrap"), [("image", True), ("webp", True), ("img", False)])
def test_parquet_is_read(tmp_path, column, wrap):
    write_parquet(tmp_path / "eurosat", column=column, wrap=wrap)
    assert_matched(VTAB(data_dir=tmp_path).load("eurosat"))


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


def test_a_broken_image_in_a_shard_is_named_or_left_out(tmp_path):
    root = write_tars(tmp_path / "svhn")
    write_tar(root / "test" / "0.tar", [(b"broken", 1), *examples("test", 3, 10)])
    part = split_of(VTAB(data_dir=root).load("svhn"), "test")
    assert "test/0.tar/s0000000 does not decode (cannot identify" in refusal(part.examples.__getitem__, 0)
    assert len(VTAB(data_dir=root, skip_broken=True).load("svhn").test) == 3


# --- torchvision ------------------------------------------------------------------------------------------------------


def test_torchvisions_folder_is_read(tmp_path):
    base = tmp_path / "dtd" / "dtd"
    for label, colour in (("banded", "red"), ("dotted", "blue"), ("waffled", "green")):
        (base / "images" / label).mkdir(parents=True)
        PIL.Image.new("RGB", (3, 3), colour).save(base / "images" / label / "1.png")
    (base / "labels").mkdir()
    for split, count in (("train", 1002), ("test", 6)):
        lines = [f"{('banded', 'dotted', 'waffled')[index % 3]}/1.png" for index in range(count)]
        (base / "labels" / f"{split}1.txt").write_text("\n".join(lines))
    data = VTAB(data_dir=tmp_path).load("dtd")
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 6]
    colours = [(255, 0, 0), (0, 0, 255), (0, 128, 0)]
    part = split_of(data, "validation")
    assert all(part.examples[place].getpixel((0, 0)) == colours[part.targets[place]] for place in range(0, 200, 9))
    assert data.source == "torchvision DTD in folder dtd"
    PIL.Image.new("RGB", (3, 3), "black").save(base / "images/banded/1.png")
    assert VTAB(data_dir=tmp_path).load("dtd").checksum != data.checksum
    (base / "labels/test1.txt").unlink()
    assert "has no test data of dtd that torchvision can read" in refusal(VTAB(data_dir=tmp_path).load, "dtd")


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Let the hub give what is in a folder; return the folder and what was asked of it."""
    asked, snapshot = [], tmp_path / "0123456789abcdef"

    def snapshot_download(repository, **options):
        asked.append((repository, options))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return snapshot, asked


def test_the_hub_gives_the_published_sets(hub):
    snapshot, asked = hub
    task = VTAB(source="hub")
    assert task.datasets() == tuple(name for name in SETS if name != "sun397")
    assert not asked
    write_tars(snapshot)
    data = task.load("oxford_iiit_pet")
    assert_matched(data)
    assert data.source == "hub clip-benchmark/wds_vtab-pets@0123456"
    assert asked == [
        ("clip-benchmark/wds_vtab-pets", {"repo_type": "dataset", "allow_patterns": ["train/*", "test/*"]})
    ]


def test_what_the_hub_does_not_give_is_said_in_one_line(hub, monkeypatch):
    snapshot, _ = hub
    snapshot.mkdir()
    message = refusal(VTAB(source="hub").load, "svhn")
    assert "the hub did not give clip-benchmark/wds_vtab-svhn (no connection, and it is not in the cache)" in message

    def fail(*_, **__):
        raise RuntimeError("no such\n  revision")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refusal(VTAB(source="hub").load, "svhn")
    assert "(no such revision): connect, or put it into a folder svhn of --data-dir, with train800.txt" in message
