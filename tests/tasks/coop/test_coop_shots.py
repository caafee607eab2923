"""Which images of a folder in CoOp's layout a seed trains on: those that it draws, or those of a list."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter

import pytest

from support.coop_trees import CLASSES, entries, load, make_set, taken
from support.pictures import refusal
from support.toys import split_of
from zipeft.tasks.coop.base2novel import BaseToNovelTask
from zipeft.tasks.coop.fewshot import FewShot
from zipeft.tasks.coop.icons import sample


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / "caltech-101")


# --- what seeds draw --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2, 4, 6, 16])
def test_a_seed_draws_its_shots_of_every_class(root, shots):
    data = load(root, shots)
    for seed in (0, 1, 2, 1000):
        train, validation = data.draw(seed)
        assert Counter(data.train.targets[index] for index in train) == dict.fromkeys(range(5), min(shots, 6))
        assert Counter(data.validation.targets[index] for index in validation) == dict.fromkeys(range(5), min(shots, 4))
        assert len(set(train)) == len(train)
        assert data.draw(seed) == (train, validation)
    assert data.counts() == (5 * min(shots, 6), 5 * min(shots, 4), 20)
    assert (len({frozenset(taken(data, seed)[0]) for seed in range(4)}) > 1) == (shots < 6)
    assert ("all seeds train on the same images" in data.note) == (shots >= 6)
    assert ("5 classes with fewer images, 6.0 a class on average" in data.note) == (shots > 6)


def uneven(seed):
    """Return a split file's content of classes of 1 to 7 images, in an order that is not that of their labels."""
    stream, content = random.Random(seed), {}
    for split in ("train", "val", "test"):
        content[split] = [
            [f"{name}/{split} {index}.png", label, name]
            for label, name in enumerate(CLASSES)
            for index in range(stream.randint(1, 7))
        ]
        stream.shuffle(content[split])
    return content


def coops_draw(content, shots, seed):
    """Return the paths that CoOp takes to train and to validate, by the description of its rule."""
    random.seed(seed)
    taken = []
    for split, wanted in (("train", shots), ("val", min(shots, 4))):
        labels, paths = [], []
        for _, label, _ in content[split]:
            if label not in labels:
                labels.append(label)
        for label in labels:
            own = [path for path, of, _ in content[split] if of == label]
            paths += own if len(own) < wanted else random.sample(own, wanted)
        taken.append(set(paths))
    return tuple(taken)


@pytest.mark.parametrize("shots", [1, 2, 4, 5, 16])
def test_seeds_draw_what_coops_seeds_draw(tmp_path, shots):
    """One stream runs through training and validation data; a class with too few images draws nothing from it."""
    content = uneven(shots)
    root = make_set(tmp_path / "caltech-101", content)
    data, base = load(root, shots), BaseToNovelTask(data_dir=root, shots=shots).load("caltech101")
    for seed in (1, 2, 3, 4):
        expected = tuple(
            {f"101_ObjectCategories/{path}" for path in paths} for paths in coops_draw(content, shots, seed)
        )
        assert taken(data, seed) == expected
        novel = tuple({name for name in names if name.split("/")[1] in CLASSES[3:]} for names in expected)
        assert taken(base, seed) == tuple(names - others for names, others in zip(expected, novel, strict=True))
        assert tuple(len(indices) for indices in base.draw(seed)) == base.counts()[:2]


def test_the_order_of_the_file_decides_draws_and_checksum(root):
    before, path = load(root), root / "split_zhou_Caltech101.json"
    content = json.loads(path.read_text())
    content["train"] = [*content["train"][1:], content["train"][0]]
    path.write_text(json.dumps(content))
    after = load(root)
    assert {*after.train.names} == {*before.train.names}
    assert taken(after, 1) != taken(before, 1)
    assert after.checksum != before.checksum


def test_icons_keep_the_draws_of_the_committed_results():
    """Each split has a stream of its own, which also a class with too few drawings moves on."""
    members = {"train": [range(0, 3), range(3, 12)], "validation": [range(5)]}
    train, validation = (sample(members, {"train": 4, "validation": 2}, 7)[split] for split in members)
    stream = random.Random(7)
    assert train == [*stream.sample(range(0, 3), 3), *stream.sample(range(3, 12), 4)]
    assert validation == random.Random(7).sample(range(5), 2)


def test_a_task_is_pickled_without_the_data_that_it_keeps(root):
    """The data sets of several shots come from one reading, and none of it goes to other processes."""
    task = FewShot(data_dir=root)
    one, other = (task.load(f"caltech101-{shots}shot") for shots in (1, 2))
    assert split_of(one, "test") is split_of(other, "test")
    pickled = pickle.dumps(task)
    assert len(pickled) < 1000
    assert pickle.loads(pickled) == task  # noqa: S301, its own


def write_list(root, shots=2, seed=1, pick=lambda items: items, **changes):
    """List the last images of every class for a seed, as JSON; return what is listed."""
    content = entries()
    counts = {"train": shots, "val": min(shots, 4)}
    paths = {key: [item[0] for item in content[key][-count * 5 :]] for key, count in counts.items()} | changes
    (root / "split_fewshot").mkdir(exist_ok=True)
    path = root / "split_fewshot" / f"shot_{shots}-seed_{seed}.json"
    path.write_text(json.dumps(paths))
    return paths


def listed_names(paths, base="101_ObjectCategories"):
    return tuple({f"{base}/{path}" for path in paths[key]} for key in ("train", "val"))


def test_a_list_takes_the_place_of_the_draw(root):
    drawn = load(root)
    paths = write_list(root)
    data = load(root)
    assert taken(data, 1) == listed_names(paths)
    assert taken(data, 1) != taken(drawn, 1)
    assert [taken(data, seed) for seed in (0, 2)] == [taken(drawn, seed) for seed in (0, 2)]
    assert data.checksum != drawn.checksum
    assert "images of seed 1 as listed" in data.note
    other = load(root, shots=1)  # a list is of its own number of shots alone
    assert "listed" not in other.note
    base = BaseToNovelTask(data_dir=root, shots=2).load("caltech101")
    assert taken(base, 1)[0] == {name for name in listed_names(paths)[0] if "/cat/" not in name and "/dog/" not in name}


def test_a_list_may_leave_validation_to_the_draw(root):
    drawn = load(root)
    write_list(root, val=[])
    assert taken(load(root), 1)[1] == taken(drawn, 1)[1]
    assert taken(load(root), 1)[0] != taken(drawn, 1)[0]


def write_tables(root, shots=2, base="101_ObjectCategories/", **labels):
    for key, count in (("train", shots), ("val", min(shots, 4))):
        rows = [(base + path, label, name) for path, label, name in entries()[key][-count * 5 :]]
        lines = ["path\tlabel\tclassname", *("\t".join(map(str, row)) for row in rows)]
        (root / f"fewshot_{key}_{shots}shot_seed1.tsv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("base", ["101_ObjectCategories/", ""])
def test_tables_are_lists_too(root, base):
    write_tables(root, base=base)
    content = entries()
    assert taken(load(root), 1) == listed_names(
        {key: [item[0] for item in content[key][-10:]] for key in ("train", "val")}
    )
    write_list(root)
    assert "are lists of the same shots: keep one" in refusal(load, root)


def test_only_listed_images_must_be_there(root):
    paths = write_list(root)
    kept = {path for key in paths for path in paths[key]}
    for key in ("train", "val"):
        for path, *_ in entries()[key]:
            if path not in kept and path != "ant/train 0.png":  # which is there, and not listed
                (root / "101_ObjectCategories" / path).unlink()
    data = load(root)
    assert data.counts() == (10, 10, 20)
    assert {*data.train.names} == taken(data, 0)[0] == taken(data, 1)[0] == listed_names(paths)[0]
    assert "19 of 30 train images are not there: shots are drawn from the 10 that lists name" in data.note
    assert "all seeds train on the same images" in data.note
    assert load(root, shots=1).counts() == (5, 5, 20)
    (root / "101_ObjectCategories" / paths["train"][0]).unlink()
    assert f"lists {paths['train'][0]}, which is not there" in refusal(load, root)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": []}, "has no list 'train'"),
        ({"train": [1]}, "'train' is no list of paths"),
        ({"val": "ant/val 0.png"}, "'val' is no list of paths"),
        ({"train": ["ant/train 0.png"] * 2}, "lists ant/train 0.png twice"),
        ({"train": ["ant/test 0.png"]}, "lists ant/test 0.png, which"),
        ({"train": ["ant/val 0.png"]}, "does not have in train: correct it"),
        ({"val": ["ant/val 0.png"]}, "lists 0 images of class 'sea horse' where 2 shots take 2"),
        ({"train": [f"{name}/train {index}.png" for index in range(3) for name in CLASSES]}, "lists 3 images of class"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(root, changes, said):
    write_list(root, **changes)
    message = refusal(load, root)
    assert said in message
    assert "shot_2-seed_1.json" in message


def test_the_labels_of_tables_are_those_of_the_split_file(root):
    write_tables(root)
    path = root / "fewshot_train_2shot_seed1.tsv"
    path.write_text(path.read_text().replace("\t3\tcat", "\t4\tcat"))
    assert "the label 4, " in refusal(load, root)
    path.write_text("path\n")
    assert "fewshot_train_2shot_seed1.tsv" in refusal(load, root)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


def test_pickles_are_never_read_but_named(root):
    write_list(root)
    for seed in (1, 2):
        (root / "split_fewshot" / f"shot_2-seed_{seed}.pkl").write_bytes(pickle.dumps(Bomb()))
    assert (
        '1 pickle in split_fewshot not read, as a pickle can run code: as JSON (shot_2-seed_2.json: {"train"'
        in load(root).note
    )
