"""VTAB-1k: its records, tables and means, and the embedded sets."""

from __future__ import annotations

import base64
import json
from collections import Counter
from statistics import fmean

import numpy as np
import pytest

from support.pictures import SPLITS, png, refusal
from support.toys import split_of
from zipeft.api.settings import override
from zipeft.registry import methods, tasks
from zipeft.sources.package_index import sha256_of
from zipeft.tasks.vtab import counting, embedded
from zipeft.tasks.vtab import sets as vtab_sets
from zipeft.tasks.vtab.data import shuffled
from zipeft.tasks.vtab.published import AVERAGES, GROUP_MEANS, SCORES, TABLES
from zipeft.tasks.vtab.sets import SETS
from zipeft.tasks.vtab.task import VTAB

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
    assert task.resize == "stretch"
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
    assert sorted(SCORES.columns) == sorted(SETS)


@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ("Full (VPT)", {"cifar100": "68.9", "caltech101": "87.7", "svhn": "87.4", "sun397": "38.8"}),
        ("NOAH 0.43M", {"camelyon": "84.4", "retinopathy": "75.8", "clevr-count": "82.8", "clevr-distance": "68.9"}),
        ("PACE", {"dmlab": "54.9"}),
        (
            "Zero-initialised attention (LLaMA-Adapter)",
            {"dsprites-location": "80.7", "dsprites-orientation": "49.0", "smallnorb-azimuth": "30.6",
             "smallnorb-elevation": "33.6", "kitti-distance": "79.7", "dtd": "70.3", "flowers102": "98.4",
             "pets": "89.8", "eurosat": "95.3", "resisc45": "85.0"},
        ),
    ],
)  # fmt: skip
def test_published_scores_stand_in_their_own_columns(method, scores):
    assert scores.items() <= dict(zip(TABLES[0].columns, TABLES[0].rows[method], strict=True)).items()


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (vtab_sets.count_label, {3: 0, 10: 7}),
        (vtab_sets.clevr_distance_label, {1.0: 0, 8.0: 0, 8.01: 1, 8.5: 1, 9.2: 3, 10.0: 4, 10.01: 5, 50.0: 5}),
        (vtab_sets.kitti_distance_label, {(): 3, (1.0,): 0, (30.0, 8.0): 0, (10.0,): 1, (20.0,): 1, (20.5, 90.0): 2}),
        (vtab_sets.location_label, {0: 0, 1: 0, 2: 1, 31: 15}),
        (vtab_sets.orientation_label, {0: 0, 2: 0, 3: 1, 4: 1, 5: 2, 39: 15}),
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
        ("VPT-deep (LLaMA-Adapter)", "VPT-deep"),
        ("Zero-initialised attention (LLaMA-Adapter)", "Zero-initialised attention"),
    ],
)  # fmt: skip
def test_printed_means_of_groups_are_those_of_the_printed_scores(row, printed):
    names = ("natural", "specialised", "structured")
    computed = [mean_of(TABLES[0].rows[row], group(name)) for name in names]
    assert [float(mean) for mean in GROUP_MEANS.rows[printed]] == pytest.approx(
        computed, abs=0.03
    )  # scores are printed to 0.1
    assert float(TABLES[1].rows[printed][3]) == pytest.approx(fmean(map(float, GROUP_MEANS.rows[printed])), abs=0.0051)


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
        ("embedded natural", mean(natural)), ("embedded structured", mean(structured)),
        ("mean of embedded groups", (mean(natural) + mean(structured)) / 2), ("mean of embedded sets", mean(EMBEDDED)),
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
            assert len(counting.scene(0, index)) == int(data.classes[part.targets[place]])
    assert min(Counter(data.train.targets).values()) > 60  # of 100 a class
    assert len(VTAB().load("drawn-count").test) == 5000


def test_scenes_are_deterministic_and_no_two_are_alike():
    data, other = VTAB().load("drawn-count"), VTAB(split_seed=1).load("drawn-count")
    drawn = [split_of(data, split).examples[place].tobytes() for split in SPLITS for place in range(12)]
    assert len(set(drawn)) == len(drawn)
    assert drawn[:2] == [VTAB().load("drawn-count").train.examples[place].tobytes() for place in range(2)]
    assert other.train.examples[0].tobytes() not in drawn
    assert other.checksum != data.checksum
    objects = {seed: {solid for index in range(9) for solid in counting.scene(seed, index)} for seed in (0, 1)}
    assert not objects[0] & objects[1]


def test_no_object_is_hidden_or_cut_off():
    for index in range(60):
        solids = counting.scene(0, index)
        assert [solid.y for solid in solids] == sorted(solid.y for solid in solids)
        for place, solid in enumerate(solids):
            others = solids[:place] + solids[place + 1 :]
            assert counting.clearance(solid, others) >= counting.CLEARANCE
            assert solid.radius <= solid.x <= 1 - solid.radius
            assert solid.radius <= solid.y <= 1 - 1.25 * solid.radius


def test_every_object_shows_in_its_colour():
    image = np.asarray(counting.draw(0, 3)).astype(int)
    for solid in counting.scene(0, 3):
        x, y = round(solid.x * 128), round(solid.y * 128)
        near = image[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
        assert np.ptp(solid.colour) == 0 or np.corrcoef(near, solid.colour)[0, 1] > 0.9


# --- embedded sets from carriers, with small stand-ins ----------------------------------------------------------------


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
    monkeypatch.setattr("zipeft.tasks.bigbench_archive.benchmark_files", lambda *paths: [tmp_path / "task.json"])
    monkeypatch.setattr("zipeft.sources.package_archive.member", lambda carrier, path: digits)
    monkeypatch.setattr("zipeft.tasks.bigbench_archive.CIFAR_SHA256", sha256_of(tmp_path / "task.json"))
    monkeypatch.setattr(embedded, "MNIST_SHA256", sha256_of(digits))
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
    content = bytearray((carriers / file).read_bytes())
    content[len(content) // 2] ^= 1
    (carriers / file).write_bytes(content)
    for use in (VTAB().load, embedded.fetch):
        assert f"{file} is damaged (SHA-256 " in refusal(use, name)


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
    assert embedded.fetch(name).startswith(f"ready: {total:,} images in carrier")
