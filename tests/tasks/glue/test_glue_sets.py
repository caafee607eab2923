"""GLUE's published sets in every format, and from the hub."""

from __future__ import annotations

import logging
import shutil
from collections import Counter

import huggingface_hub
import pytest

from support.glue import (
    FORMATS,
    NAMES,
    content,
    contents,
    names_of,
    published,
    rows,
    write,
    write_glue,
    write_hub,
    write_parquet,
)
from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.api.sealed import TestKey
from zipeft.tasks.glue.sets import REPOSITORY, REVISION, SETS
from zipeft.tasks.glue.task import GLUE
from zipeft.tasks.squad.task import SQuAD
from zipeft.text.assembly import TextExample, text_data


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", SETS)
def test_every_set_is_read_in_every_format(tmp_path, name, kind):
    folder = published(tmp_path, name, kind)
    task = GLUE(data_dir=folder)
    assert task.datasets() == (name,)
    data = task.load(NAMES[name])
    assert (data.name, data.source) == (name, f"folder {NAMES[name]}")
    assert list(data.classes) == list(SETS[name].classes)
    splits = contents(data)
    assert splits["test"] == rows(name, "dev", 12)
    assert sorted(splits["train"] + splits["validation"]) == sorted(rows(name, "train", 40))
    assert len(splits["validation"]) == (3 if name == "mnli" else 4)  # of 14, 13 and 13 examples, one each
    assert all(isinstance(target, float if name == "sts-b" else int) for _, target in splits["train"])


def test_every_format_gives_the_same_data(tmp_path):
    loaded = [GLUE(data_dir=published(tmp_path / kind, "rte", kind)).load("rte") for kind in FORMATS]
    assert len({data.checksum for data in loaded}) == 1


def test_validation_is_cut_from_training_by_class_and_seed(tmp_path):
    folder = published(tmp_path, "sst-2", train=200)
    data, other = (GLUE(data_dir=folder, split_seed=seed).load("sst-2") for seed in (0, 1))
    assert Counter(data.validation.targets) == {0: 10, 1: 10}
    assert names_of(GLUE(data_dir=folder).load("sst-2")) == names_of(data)
    assert names_of(data)["validation"] != names_of(other)["validation"]
    assert names_of(data)["test"] == names_of(other)["test"] == [f"test/{index}" for index in range(12)]
    assert data.checksum != other.checksum
    everything = [name for names in names_of(data).values() for name in names]
    assert len(set(everything)) == len(everything) == 212
    assert "the published dev set, as the labels of GLUE's test set are not public" in data.note
    assert "validation cut from the training data, 10% by class with seed 0" in data.note
    assert "examples: 180 train, 20 validation, 12 test" in data.note
    assert "200 of train where 67,349 are published" in data.note


def test_names_say_which_row_an_example_is(tmp_path):
    data = GLUE(data_dir=published(tmp_path, "rte")).load("rte")
    for split, kind in (("train", "train"), ("validation", "train"), ("test", "test")):
        part = split_of(data, split)
        for name, texts in zip(part.names, part.examples, strict=True):
            assert texts[0].split(",")[0] == name.replace("/", " ").replace("test", "dev")
            assert name.startswith(f"{kind}/")


def test_validation_is_never_more_than_two_thousand():
    examples = [TextExample(f"{index}", (f"text {index}",), index % 2) for index in range(50_000)]
    splits = {"train": examples, "test": [TextExample("test", ("another",), 0)]}
    data = text_data("x", splits, classes=("a", "b"), limits=dict.fromkeys(SPLITS, 0), seed=0, source="made up")
    assert [len(split_of(data, split)) for split in SPLITS] == [48_000, 2000, 1]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("CoLA", "cola"),
        ("sst2", "sst-2"),
        ("SST_2", "sst-2"),
        ("stsb", "sts-b"),
        ("STS-B", "sts-b"),
        ("MultiNLI", "mnli"),
    ],
)
def test_folders_are_known_by_the_names_people_have(tmp_path, folder, name):
    shutil.move(published(tmp_path / "made", name), tmp_path / "glue data" / folder)
    for place in (tmp_path / "glue data", tmp_path / "glue data" / folder):
        assert GLUE(data_dir=place).datasets() == (name,)
        assert GLUE(data_dir=place).load(name).source == f"folder {folder}"


def test_several_sets_in_one_folder(tmp_path):
    for name in ("rte", "cola", "mnli"):
        published(tmp_path, name)
    (tmp_path / "ax").mkdir()
    assert GLUE(data_dir=tmp_path).datasets() == ("cola", "mnli", "rte")
    assert GLUE(data_dir=tmp_path, sets=("RTE", "cola", "rte")).datasets() == ("rte", "cola")
    missing = refusal(GLUE(data_dir=tmp_path, sets=("wnli",)).datasets)
    assert f"no data set 'wnli' in {tmp_path}" in missing
    assert "(there: cola, mnli, rte)" in missing
    (tmp_path / "co_la").mkdir()
    assert "two folders of cola, CoLA and co_la" in refusal(GLUE(data_dir=tmp_path).datasets)


def test_a_folder_without_published_sets_is_refused(tmp_path):
    (tmp_path / "imdb").mkdir()
    assert "is not and does not hold a folder named cola, sst-2" in refusal(GLUE(data_dir=tmp_path).datasets)


def test_mismatched_examples_are_of_another_domain(tmp_path):
    folder = published(tmp_path, "mnli")
    assert not GLUE(data_dir=folder).load("mnli").shifted
    write_glue(folder, "mnli", "dev_mismatched", rows("mnli", "elsewhere", 9))
    data = GLUE(data_dir=folder, test_examples=6).load("mnli")
    key = TestKey("a test of zipeft")
    key.chosen("nothing is left to choose")
    (mismatched,) = [split.open(key) for split in data.shifted.values()]
    assert list(data.shifted) == ["mismatched"]
    assert len(mismatched) == len(data.test.open(key)) == 6
    assert set(content(mismatched)) < set(rows("mnli", "elsewhere", 9))
    assert all(name.startswith("mismatched/") for name in mismatched.names)
    assert "6 of 12 test, 6 of 9 mismatched, the part chosen by class with seed 0" in data.note


def test_cut_lines_of_qqp_are_left_out_and_counted(tmp_path):
    folder = published(tmp_path, "qqp")
    whole = GLUE(data_dir=folder).load("qqp")
    path = folder / "train.tsv"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:5], "7\t8\t9\tis this", 'cut?"\tit is\t1', *lines[5:]]))
    data = GLUE(data_dir=folder).load("qqp")
    assert contents(data) == contents(whole)
    assert "2 lines of train with a wrong number of columns left out" in data.note
    assert "left out" not in whole.note


def test_mrpc_as_microsoft_gives_it(tmp_path):
    folder = tmp_path / "MRPC"
    for split, count in (("train", 40), ("test", 10)):
        write_glue(folder, "mrpc", split, rows("mrpc", split, count))
        (folder / f"{split}.tsv").rename(folder / f"msr_paraphrase_{split}.txt")
    data = GLUE(data_dir=folder).load("mrpc")
    assert content(split_of(data, "test")) == rows("mrpc", "test", 10)
    assert len(data.train) + len(data.validation) == 40
    assert "test: MRPC's own test set" in data.note
    assert "dev set, as the labels" not in data.note
    write(folder / "dev_ids.tsv", "3\t93\n11\t911\n3\t94\n")
    data = GLUE(data_dir=folder).load("mrpc")
    assert content(split_of(data, "test")) == [rows("mrpc", "train", 40)[index] for index in (3, 11)]
    assert len(data.train) + len(data.validation) == 38
    for split in ("train", "dev"):  # as GLUE's script makes them beside the files it got
        write_glue(folder, "mrpc", split, rows("mrpc", split, 30))
    assert content(split_of(GLUE(data_dir=folder).load("mrpc"), "test")) == rows("mrpc", "dev", 30)


def test_classes_that_parquet_has_in_another_order_keep_their_names(tmp_path):
    folder = tmp_path / "mnli"
    folder.mkdir()
    content, order = rows("mnli", "train", 30), ["neutral", "contradiction", "entailment"]
    write_parquet(folder, "mnli", "train", content, order)
    write_hub(folder, "mnli", "dev_matched", rows("mnli", "dev", 6))
    data = GLUE(data_dir=folder).load("mnli")
    told = {texts: data.classes[target] for texts, target in contents(data)["train"]}
    assert set(told.items()) < {(texts, order[target]) for texts, target in content}


def test_parts_of_a_split_are_joined(tmp_path):
    folder = published(tmp_path, "rte", "parquet")
    content = rows("rte", "train", 40)
    (folder / "train-00000-of-00001.parquet").unlink()
    for part in (1, 0):
        write_parquet(folder, "rte", "train", content[20 * part : 20 * part + 20], part=f"0000{part}-of-00002")
    data = GLUE(data_dir=folder).load("rte")
    assert sorted(contents(data)["train"] + contents(data)["validation"]) == sorted(content)
    assert "train/39" in {*data.train.names, *data.validation.names}
    (folder / "train-00000-of-00002.parquet").unlink()
    assert "lacks part 0 of 2 of train-00001-of-00002.parquet" in refusal(GLUE(data_dir=folder).load, "rte")


def test_the_hub_gives_the_published_sets(hub):
    snapshot, asked = hub
    (snapshot / "mnli").mkdir(parents=True)
    for split in ("train", "dev_matched", "dev_mismatched"):
        write_hub(snapshot / "mnli", "mnli", split, rows("mnli", split, 30))
    task = GLUE(source="hub")
    assert task.datasets() == tuple(SETS)
    assert not asked
    data = task.load("mnli")
    assert content(split_of(data, "test")) == rows("mnli", "dev_matched", 30)
    assert list(data.shifted) == ["mismatched"]
    assert data.source == f"hub {REPOSITORY}@{REVISION[:7]}"
    ((repository, options),) = asked
    assert (repository, options["revision"], options["repo_type"]) == (REPOSITORY, REVISION, "dataset")
    assert all(pattern.startswith("mnli/") for pattern in options["allow_patterns"])


def test_what_the_hub_does_not_give_is_said_in_one_line(hub, monkeypatch):
    message = refusal(GLUE(source="hub").load, "sst-2")
    assert "the hub did not give sst2 of nyu-mll/glue (it has no such files): connect" in message

    def fail(*_, **__):
        raise RuntimeError("no such\n  revision")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refusal(GLUE(source="hub").load, "sst-2")
    assert "(RuntimeError: no such revision): connect, or set HF_ENDPOINT" in message
    assert "name a folder with --data-dir" in message


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch, tmp_path, caplog):
    """In a process that was started with other settings the client would ask for minutes, and tell of each time."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    for task, name in ((GLUE(source="hub"), "sst-2"), (SQuAD(source="hub"), "squad-v1.1")):
        assert "(ConnectionError: no route): connect" in refusal(task.load, name)
    assert not caplog.records


def unreachable(self, repository, *, timeout, **_):
    assert 0 < timeout < 60
    logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 8s [Retry 4/5].")
    raise ConnectionError("no route")
