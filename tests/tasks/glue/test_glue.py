"""The task of GLUE: its sets in every format, the embedded sets, and the part of them that is taken."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import re
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.sealed import TestKey
from zipeft.api.settings import override
from zipeft.errors import UserError
from zipeft.registry import tasks
from zipeft.sources import package_archive
from zipeft.sources.hub_download import Repository
from zipeft.sources.splits import choose
from zipeft.tasks import bigbench_archive
from zipeft.tasks.glue import claims as _claims
from zipeft.tasks.glue import reviews
from zipeft.tasks.glue.sets import REPOSITORY, REVISION, SETS
from zipeft.tasks.glue.task import EMBEDDED, GLUE
from zipeft.tasks.squad.task import SQuAD
from zipeft.text.assembly import TextExample, cut_groups, linked, split_by_group, text_data, words_of
from zipeft.text.tables import find_split, read_table

NAMES = {
    "cola": "CoLA", "sst-2": "SST-2", "mrpc": "MRPC", "sts-b": "STS-B", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI",
    "rte": "RTE", "wnli": "WNLI",
}  # fmt: skip

HUB_COLUMNS = {
    "cola": ("sentence",), "sst-2": ("sentence",), "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"), "qnli": ("question", "sentence"),
}  # fmt: skip

GLUE_HEADERS = {
    "sst-2": "sentence label",
    "sts-b": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "qqp": "id qid1 qid2 question1 question2 is_duplicate",
    "mnli": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label",
    "qnli": "index question sentence label",
    "rte": "index sentence1 sentence2 label",
    "wnli": "index sentence1 sentence2 label",
}

LABELS = {
    "cola": ("0", "1"), "sst-2": ("0", "1"), "mrpc": ("0", "1"), "qqp": ("0", "1"), "wnli": ("0", "1"),
    "mnli": ("entailment", "neutral", "contradiction"), "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
}  # fmt: skip
"""Labels as GLUE's own files have them, in the order of the hub's numbers."""


def rows(name, split, count):
    """Return (texts, target) pairs; no two of any split have the same texts."""
    texts = 1 if name in ("cola", "sst-2") else 2
    made = []
    for index in range(count):
        said = tuple(f'{split} {index}, "so to say" ({part}); naïve' for part in range(texts))
        made.append((said, index % 11 / 2 if name == "sts-b" else index % len(LABELS[name])))
    return made


def spelt(name, target):
    return f"{target:.3f}" if name == "sts-b" else LABELS[name][target]


def write_glue(folder, name, split, content):
    """Write a split as GLUE's download has it."""
    if name == "cola":
        lines = [("gj04", spelt(name, target), "*" * (not target), *texts) for texts, target in content]
    elif name == "mrpc":
        header = ("\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String")
        lines = [header, *((spelt(name, target), f"{i}", f"9{i}", *texts) for i, (texts, target) in enumerate(content))]
    else:
        header = GLUE_HEADERS[name].split()
        lines = [header]
        for texts, target in content:
            known = {"label": spelt(name, target), "score": spelt(name, target), "is_duplicate": spelt(name, target)}
            known |= {"gold_label": spelt(name, target), "label1": "neutral"}
            known |= dict(zip([c for c in header if re.fullmatch(r"(sentence|question)\d?", c)], texts, strict=True))
            lines.append([known.get(column, "x") for column in header])
    write(folder / f"{split}.tsv", "".join("\t".join(line) + "\n" for line in lines))


def write_label_first(folder, name, split, content):
    columns = ("sentence",) if name in ("cola", "sst-2") else hub_columns(name)
    header = ("score", "genre", *columns) if name == "sts-b" else ("label", *columns)
    lines = [header, *((spelt(name, target), *["x"] * (name == "sts-b"), *texts) for texts, target in content)]
    write(folder / f"{split}.tsv", "".join("\t".join(line) + "\r\n" for line in lines))


def hub_columns(name):
    return HUB_COLUMNS.get(name, ("sentence1", "sentence2"))


def records(name, content):
    return [
        {**dict(zip(hub_columns(name), texts, strict=True)), "label": target, "idx": index}
        for index, (texts, target) in enumerate(content)
    ]


def write_csv(folder, name, split, content):
    with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*hub_columns(name), "label", "idx"))
        writer.writeheader()
        writer.writerows(records(name, content))


def write_json(folder, name, split, content):
    write(folder / f"{split}.json", json.dumps(records(name, content), indent=1))


def write_lines(folder, name, split, content, suffix="jsonl"):
    write(folder / f"{split}.{suffix}", "".join(json.dumps(record) + "\n" for record in records(name, content)))


def write_json_lines(folder, name, split, content):
    write_lines(folder, name, split, content, "json")


def write_parquet(folder, name, split, content, classes=None, part="00000-of-00001"):
    """Write a split as the ``datasets`` library does: the label is a number, and the file knows its name."""
    table = pyarrow.Table.from_pylist(records(name, content))
    if classes:
        feature = {"label": {"names": classes, "_type": "ClassLabel"}, "idx": {"dtype": "int32", "_type": "Value"}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": feature}}).encode()})
    parquet.write_table(table, folder / f"{split}-{part}.parquet")


def write_hub(folder, name, split, content):
    split = {"dev": "validation"}.get(split, split.replace("dev_", "validation_"))
    write_parquet(folder, name, split, content, list(SETS[name].classes))


FORMATS = {
    "glue": write_glue, "label first": write_label_first, "csv": write_csv, "json": write_json, "jsonl": write_lines,
    "json lines": write_json_lines, "parquet": write_hub,
}  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def published(root, name, kind="glue", train=40, dev=12):
    """Write a set in one of the ``FORMATS`` and return its folder."""
    folder = root / NAMES[name]
    folder.mkdir(parents=True)
    FORMATS[kind](folder, name, "train", rows(name, "train", train))
    FORMATS[kind](folder, name, "dev_matched" if name == "mnli" else "dev", rows(name, "dev", dev))
    return folder


def content(split):
    return list(zip(split.examples, split.targets, strict=True))


def contents(data):
    return {split: content(split_of(data, split)) for split in SPLITS}


def names_of(data):
    return {split: list(split_of(data, split).names) for split in SPLITS}


# --- the task ---------------------------------------------------------------------------------------------------------


def test_it_is_found_by_name():
    assert tasks.get("glue") is GLUE


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task_and_the_protocol(preset):
    chosen = GLUE.presets[preset]
    assert GLUE(**chosen.task).datasets() == EMBEDDED
    assert TrainingProtocol(**chosen.protocol).epochs >= 3
    assert chosen.seeds >= 3


def test_published_means_are_those_of_the_columns():
    assert [len(table.rows) for table in GLUE.published] == [5, 7]
    for table in GLUE.published:
        assert {len(row) for row in table.rows.values()} == {len(table.columns)}
        for method, row in table.rows.items():
            *scores, mean, _ = map(float, row)
            assert np.mean(scores) == pytest.approx(mean, abs=0.06), method


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sets": "movies"}, "no data set 'movies' embedded"),
        ({"sets": "claim"}, "did you mean 'claims'? (there: movie-sentiment, shop-sentiment, review-ratings, claims)"),
        ({"sets": "SST2"}, "name its folder with --data-dir, or get it with --set glue.source=hub"),
        ({"sets": "sst-3", "source": "hub"}, "no data set 'sst-3' on the hub; did you mean 'sst-2'?"),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
        ({"source": "hub", "data_dir": "/data"}, "source is hub and data_dir is set: drop one"),
        ({"source": "web"}, "'web' is not one of"),
        ({"max_length": "7"}, "max_length is 7: give 8 tokens or more"),
        ({"train_examples": "-1"}, "train_examples is -1"),
        ({"test_examples": "-2"}, "test_examples is -2"),
        ({"split_seed": "-1"}, "split_seed is -1"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(lambda: override(GLUE, values).datasets())


def test_where_the_data_lie_is_no_part_of_a_result():
    assert {"data_dir", "source", "sets"} == set(GLUE.unrecorded)


@pytest.mark.parametrize(
    ("datasets", "scores"),
    [
        ("cola CoLA", ["matthews"]),
        ("mrpc qqp", ["accuracy", "f1"]),
        ("sts-b review-ratings", ["pearson", "spearman"]),
        ("sst-2 mnli qnli rte wnli movie-sentiment shop-sentiment claims", ["accuracy"]),
    ],
)
def test_each_set_is_scored_as_in_the_literature(datasets, scores):
    for dataset in datasets.split():
        objective = GLUE().objective(dataset, ())
        assert list(objective.score([0, 1, 1, 0], [0, 1, 0, 0])) == scores
        assert objective.metric == scores[0]


def test_ratings_are_learnt_on_their_scale():
    scales = {
        name: (GLUE().objective(name, ()).low, GLUE().objective(name, ()).high) for name in ("sts-b", "review-ratings")
    }
    assert scales == {"sts-b": (0, 5), "review-ratings": (-4, 4)}


# --- published sets ---------------------------------------------------------------------------------------------------


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


# --- bad files --------------------------------------------------------------------------------------------------------

RTE_HEADER = "index\tsentence1\tsentence2\tlabel\n"


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        (
            "rte",
            "train.tsv",
            RTE_HEADER + "0\ta\tb\tentailment\n1\tc\td\tperhaps\n",
            "train.tsv, line 3 has the label 'per",
        ),
        ("rte", "train.tsv", RTE_HEADER + "0\ta\tb\t2\n", "line 2 has the label '2': give entailment, not_entailment"),
        ("rte", "dev.tsv", RTE_HEADER + "0\ta\tb\t-1\n", "dev.tsv, line 2 has no label ('-1')"),
        ("rte", "dev.tsv", RTE_HEADER + "0\ta\tb\t\n", "dev.tsv, line 2 has no label ('')"),
        ("mnli", "dev_matched.tsv", "premise\thypothesis\tgold_label\na\tb\t-\n", "line 2 has no label ('-')"),
        (
            "rte",
            "train.tsv",
            "index\tsentence1\tlabel\n0\ta\t1\n",
            "train.tsv has no column sentence2; did you mean 'sent",
        ),
        (
            "qqp",
            "train.tsv",
            "question1\tquestion2\n",
            "has no column is_duplicate or label (there: question1, question2)",
        ),
        ("rte", "train.tsv", RTE_HEADER + "0\ta\tb\tentailment\textra\n", "train.tsv, line 2 has 5 columns, not 4"),
        ("rte", "train.tsv", RTE_HEADER + "0 a b entailment\n", "train.tsv, line 2 has 1 column, not 4"),
        ("cola", "train.tsv", "gj04\t1\tno mark\n", "has no column sentence (there: gj04, 1, no mark)"),
        ("cola", "train.tsv", "gj04\t1\t\ta\nbc01\t2\t*\tb\n", "train.tsv, line 2 has the label '2'"),
        ("rte", "train.tsv", RTE_HEADER + "0\ta\tb\t2\n", "entailment, not_entailment, or their numbers, 0 to 1"),
        ("rte", "train.tsv", RTE_HEADER, "train.tsv has no rows"),
        ("rte", "train.tsv", "", "train.tsv has no rows"),
        ("rte", "train.tsv", RTE_HEADER.encode() + b"0\ta\tb\t1\n1\t\xff\tb\t1\n", "train.tsv, line 3 is not UTF-8"),
        ("rte", "train.csv", 'sentence1,sentence2,label\n"a,b,1\n', "train.csv, line 2 has 1 column, not 3"),
        (
            "rte",
            "train.jsonl",
            '{"sentence1": "a", "sentence2": "b", "label": 0}\n{"sent',
            "train.jsonl, line 2 is not valid",
        ),
        ("rte", "train.jsonl", '{"sentence1": "a", "label": 0}\n', "train.jsonl, line 1 has no column sentence2"),
        ("rte", "train.jsonl", '{"sentence1": 1, "sentence2": "b", "label": 0}\n', "line 1 has 1 for a text"),
        ("rte", "train.jsonl", '{"sentence1": "a", "sentence2": "b", "label": true}\n', "has the label True"),
        ("rte", "train.jsonl", '{"sentence1": "a", "sentence2": "b", "label": null}\n', "line 1 has no label (None)"),
        ("rte", "train.jsonl", '["a"]', "train.jsonl, row 1 is not a JSON object"),
        ("rte", "train.json", "[1, ", "train.json is not valid JSON"),
        ("rte", "train.parquet", b"PAR1 but no more", "train.parquet cannot be read"),
        (
            "sts-b",
            "train.tsv",
            "sentence1\tsentence2\tscore\na\tb\t5.1\n",
            "has the score '5.1': give a number from 0 to 5",
        ),
        ("sts-b", "train.tsv", "sentence1\tsentence2\tscore\na\tb\tnan\n", "has the score 'nan'"),
        ("sts-b", "train.tsv", "sentence1\tsentence2\tscore\na\tb\thigh\n", "line 2 has the score 'high'"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, name, file, content, said):
    folder = published(tmp_path, name)
    for path in folder.glob(f"{file.partition('.')[0]}.*"):
        path.unlink()
    path = write(folder / file, content)
    message = refusal(GLUE(data_dir=folder).load, name)
    assert message.startswith(str(path))
    assert said in message


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("train.tsv", "RTE has no train: add train.tsv, .csv"),
        ("dev.tsv", "RTE has no dev or validation or valid or val"),
    ],
)
def test_a_missing_split_is_named(tmp_path, gone, said):
    folder = published(tmp_path, "rte")
    (folder / gone).unlink()
    assert said in refusal(GLUE(data_dir=folder).load, "rte")


def test_a_field_of_a_csv_file_may_be_long(tmp_path):
    path = write(tmp_path / "long.csv", f'sentence,label\n"{"very " * 30_000}, good",1\n')
    assert read_table(path, [["sentence"], ["label"]]).rows == [(2, ("very " * 30_000 + ", good", "1"))]


def test_two_files_of_one_split_are_refused(tmp_path):
    folder = published(tmp_path, "rte")
    write_hub(folder, "rte", "dev", rows("rte", "dev", 3))
    said = "has both dev.tsv and validation-00000-of-00001.parquet: keep one of them"
    assert said in refusal(GLUE(data_dir=folder).load, "rte")


def test_a_class_that_training_lacks_is_named(tmp_path):
    folder = published(tmp_path, "mnli")
    write_label_first(folder, "mnli", "train", [row for row in rows("mnli", "train", 30) if row[1]])
    assert "has no training example of 'entailment'" in refusal(GLUE(data_dir=folder).load, "mnli")
    too_few = refusal(GLUE(data_dir=published(tmp_path / "x", "mnli"), train_examples=2).load, "mnli")
    assert "train_examples is 2: give as many as there are classes, 3, or more" in too_few


def test_test_texts_in_training_are_counted_and_most_of_them_refused(tmp_path):
    folder = published(tmp_path, "cola")
    write_glue(folder, "cola", "dev", [*rows("cola", "dev", 6), *rows("cola", "train", 4)])
    data = GLUE(data_dir=folder).load("cola")
    assert "4 test examples also in training, word for word" in data.note
    write_glue(folder, "cola", "dev", [*rows("cola", "dev", 3), *rows("cola", "train", 4)])
    message = refusal(GLUE(data_dir=folder).load, "cola")
    assert "4 of 7 test examples are also in training, word for word: give other test data" in message


# --- the part that is taken -------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=80), st.integers(0, 90), st.integers(0, 5))
def test_a_choice_has_the_shares_of_all(labels, count, seed):
    chosen = choose(labels, count, seed)
    expected = count if 0 < count < len(labels) else len(labels)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == expected
    assert choose(labels, count, seed) == chosen
    assert set(choose(labels, max(count // 2, 1), seed)) <= set(chosen)
    for label, of_all in Counter(labels).items():
        share = of_all * expected / len(labels)
        assert abs(sum(labels[index] == label for index in chosen) - share) < 2


def test_another_seed_is_another_choice():
    assert len({tuple(choose(["any"] * 100, 10, seed)) for seed in range(5)}) == 5


def test_examples_are_limited_by_split(tmp_path):
    folder = published(tmp_path, "mrpc", train=400, dev=100)
    whole = GLUE(data_dir=folder).load("mrpc")
    limits = {"train_examples": 100, "validation_examples": 10, "test_examples": 30}
    data = GLUE(data_dir=folder, **limits).load("mrpc")
    assert {split: len(names) for split, names in names_of(data).items()} == {
        "train": 100,
        "validation": 10,
        "test": 30,
    }
    assert all(set(names_of(data)[split]) < set(names_of(whole)[split]) for split in SPLITS)
    assert Counter(data.train.targets) == {0: 50, 1: 50}
    assert "100 of 360 train, 10 of 40 validation, 30 of 100 test, the part chosen by class with seed 0" in data.note
    assert "the part" not in whole.note
    assert names_of(GLUE(data_dir=folder, **limits).load("mrpc")) == names_of(data)
    assert data.checksum != whole.checksum
    assert names_of(GLUE(data_dir=folder, **limits, split_seed=3).load("mrpc"))["test"] != names_of(data)["test"]


def test_a_scored_set_is_limited_too(tmp_path):
    data = GLUE(data_dir=published(tmp_path, "sts-b", train=100), train_examples=20).load("sts-b")
    assert len(data.train) == 20
    assert "20 of 90 train, 10 validation, 12 test, the part chosen with seed 0" in data.note


# --- groups -----------------------------------------------------------------------------------------------------------


def test_chains_of_shared_keys_make_a_group():
    groups = linked([("a", 1), ("b", 2), ("b", 3), ("c", 3), ("d", 4), ()])
    assert groups[1] == groups[2] == groups[3]
    assert len(set(groups)) == 4


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(100, 140)), min_size=30, max_size=120), st.integers(0, 3))
def test_no_key_is_in_two_splits(keys, seed):
    examples = [TextExample(f"{index}", ("x",), 0) for index in range(len(keys))]
    splits = split_by_group(examples, keys, seed)
    found = {split: {key for each in some for key in keys[int(each.name)]} for split, some in splits.items()}
    assert sorted(int(each.name) for some in splits.values() for each in some) == list(range(len(keys)))
    assert not found["train"] & found["test"]
    assert not found["validation"] & (found["train"] | found["test"])
    assert split_by_group(examples, keys, seed + 1)["test"] == splits["test"]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.floats(0, 1), st.integers(0, 3))
def test_whole_groups_are_cut_off(groups, fraction, seed):
    stay, taken = cut_groups(groups, fraction, seed)
    assert sorted(stay + taken) == list(range(len(groups)))
    assert not {groups[index] for index in stay} & {groups[index] for index in taken}
    assert len(taken) <= math.ceil(fraction * len(groups))
    assert cut_groups(groups, fraction, seed) == (stay, taken)


def test_single_examples_fill_the_fraction():
    stay, taken = cut_groups(range(1000), 0.2, 0)
    assert (len(stay), len(taken)) == (800, 200)
    assert taken != cut_groups(range(1000), 0.2, 1)[1]


def test_texts_are_compared_by_their_words():
    assert words_of("What a  disappointment!") == words_of("what a disappointment")
    assert words_of("...") != words_of("!")


# --- files ------------------------------------------------------------------------------------------------------------


def test_quotation_marks_are_text_in_tsv_and_quotes_in_csv(tmp_path):
    written = 'sentence,label\n"two\nlines, ""quoted""",1\nnext,0\n'
    table = read_table(write(tmp_path / "a.csv", written), (("sentence",), ("label",)))
    assert [values for _, values in table.rows] == [('two\nlines, "quoted"', "1"), ("next", "0")]
    tsv = write(tmp_path / "a.tsv", 'Sentence\tlabel\n"open\t1\n\n"both"\t0\n')
    assert read_table(tsv, (("sentence",), ("label",))).rows == [(2, ('"open', "1")), (4, ('"both"', "0"))]


def test_the_best_name_of_a_column_comes_first(tmp_path):
    path = write(tmp_path / "a.tsv", "label\tgold_label\n1\t2\n")
    assert read_table(path, (("gold_label", "label"),)).rows == [(2, ("2",))]


def test_only_files_of_a_split_are_found(tmp_path):
    for name in ("train.tsv", "._train.tsv", "train.tsv.bak", "train_ids.tsv", "mytrain.tsv", "train.md"):
        write(tmp_path / name, "x")
    assert find_split(tmp_path, ("train",)) == [tmp_path / "train.tsv"]
    assert find_split(tmp_path, ("dev",)) == []


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Let the hub give what is in a folder; return the folder and what was asked of it."""
    asked, snapshot = [], tmp_path / "snapshot"

    def snapshot_download(repository, **options):
        asked.append((repository, options))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(Repository, "ask", lambda _: None)
    return snapshot, asked


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


# --- inputs -----------------------------------------------------------------------------------------------------------


class StubBackbone:
    """A tokenizer of single words, and a limit of tokens."""

    def __init__(self, limit=32):
        vocabulary = {word: index for index, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghij"])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
        inputs = ["input_ids", "attention_mask"]
        self.fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", model_input_names=inputs)
        self.limit = limit

    def tokenizer(self):
        return self.fast

    def max_length(self):
        return self.limit


def test_texts_become_tokens_no_longer_than_allowed():
    encode = GLUE(max_length=8).encoder(StubBackbone())
    single, pair = encode(("a b c",)), encode(("a b c d e f g h", "i j"))
    assert single["input_ids"].tolist() == [1, 4, 5, 6, 2]
    assert single["attention_mask"].tolist() == [1] * 5
    assert pair["input_ids"].tolist() == [1, 4, 5, 6, 2, 12, 13, 2]  # the longer of two is cut
    assert set(single) == set(pair) == {"input_ids", "attention_mask"}
    assert encode(("a b c d e f g h",))["input_ids"].tolist() == [1, 4, 5, 6, 7, 8, 9, 2]


def test_more_tokens_than_the_backbone_takes_are_refused():
    assert "max_length is 33, but the backbone takes 32 tokens" in refusal(GLUE(max_length=33).encoder, StubBackbone())
    GLUE(max_length=32).encoder(StubBackbone())


# --- embedded sets, with made-up texts --------------------------------------------------------------------------------


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Let small files stand in for those of the carriers; return a function that changes the archive of reviews."""
    movies = [(f"{index}", (index % 9 - 4) * 0.9, f"Film number {index}; no more ½.") for index in range(90)]
    movies += [("91", 0.5, "Just so."), ("92", 0.49, "Not quite."), ("93", -0.5, "just   so"), ("94", 2, "JUST so!")]
    shop = [(f"{review}_{at}", review % 5 - 1.9, f"good {review} at {at}") for review in range(20) for at in range(5)]
    shop += [("20_1", 1, "Well worth it."), ("3_9", 1, "well worth it")]
    archive = tmp_path / "reviews.tar.gz"

    def pack(**texts):
        with tarfile.open(archive, "w:gz") as bundle:
            for kind, lines in {"movie": movies, "shop": shop, **texts}.items():
                text = lines if isinstance(lines, str) else "".join("\t".join(map(str, row)) + "\r\n" for row in lines)
                info = tarfile.TarInfo(reviews.FILES[kind])
                info.size = len(text.encode())
                bundle.addfile(info, io.BytesIO(text.encode()))

    examples = []
    for page in range(30):
        for quote, label in enumerate(_claims.CLASSES):
            title, said = f"Page {page} -LRB-a film-COLON- b-RRB-", f"quote {page % 28}: {quote} of ``it''"
            scores = {name: int(name == label) for name in _claims.CLASSES}
            examples.append({"input": f"{title}: {said}\nClaim: claim {page} {quote}", "target_scores": scores})
    claims = write(tmp_path / "task.json", json.dumps({"examples": examples}))
    pack()
    monkeypatch.setattr(package_archive, "member", lambda carrier, path: archive)
    monkeypatch.setattr(bigbench_archive, "benchmark_files", lambda path: [claims])
    return pack


def test_a_polarity_is_a_rating_far_enough_from_zero(stand_ins):
    ratings = {each.name: each.rating for each in reviews.read_sentences("movie")}
    data = GLUE().load("movie-sentiment")
    named = {name: target for split in SPLITS for name, target in zip(*both(data, split), strict=True)}
    assert named == {name: int(rating > 0) for name, rating in ratings.items() if abs(rating) >= 0.5}
    assert named["movie/91"] == 1
    assert named["movie/93"] == 0
    assert list(data.classes) == ["negative", "positive"]
    assert data.source == "carrier vaderSentiment 3.3.2"
    assert "11 undecided ones of 94 left out" in data.note


def both(data, split):
    part = split_of(data, split)
    return part.names, part.targets


def test_ratings_are_those_of_all_sentences(stand_ins):
    data = GLUE().load("review-ratings")
    ratings = {each.name: each.rating for kind in ("movie", "shop") for each in reviews.read_sentences(kind)}
    assert {name: target for split in SPLITS for name, target in zip(*both(data, split), strict=True)} == ratings
    assert len(ratings) == 94 + 102
    assert not data.classes


@pytest.mark.parametrize("name", ["movie-sentiment", "shop-sentiment", "review-ratings"])
def test_no_review_and_no_sentence_is_in_two_splits(stand_ins, name):
    data = GLUE().load(name)
    seen = {}
    for split in SPLITS:
        part = split_of(data, split)
        assert len(part)
        for key in [words_of(text) for (text,) in part.examples] + [key.partition("_")[0] for key in part.names]:
            assert seen.setdefault(key, split) == split
    where = {name: split for split in SPLITS for name in names_of(data)[split]}
    if name != "shop-sentiment":
        assert where["movie/91"] == where["movie/93"] == where["movie/94"]
    if name != "movie-sentiment":
        assert len({where[each] for each in where if re.match(r"shop/(3|20)_", each)}) == 1


def test_claims_are_parsed_and_no_page_or_quote_is_in_two_splits(stand_ins):
    data = GLUE().load("claims")
    seen = {}
    for split in SPLITS:
        for (quote, claim), target in contents(data)[split]:
            page, said = re.fullmatch(r"(Page \d+ \(a film: b\)): (quote \d+: \d of \"it\")", quote).groups()
            assert claim == f"claim {page.split()[1]} {said.split()[2]}"
            assert target == int(said.split()[2])
            assert seen.setdefault(page, split) == split
            assert seen.setdefault(said, split) == split
    assert sum(len(split_of(data, split)) for split in SPLITS) == 90
    assert data.classes == ["True", "False", "Neither"]
    assert "canary" in data.note
    assert "Apache-2.0" in data.note


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_test_data_are_the_same_for_every_seed(stand_ins, name):
    data, again, other = GLUE().load(name), GLUE().load(name), GLUE(split_seed=1).load(name)
    assert names_of(data) == names_of(again)
    assert data.checksum == again.checksum != other.checksum
    assert names_of(data)["test"] == names_of(other)["test"]
    assert names_of(data)["validation"] != names_of(other)["validation"]


@pytest.mark.parametrize("text", ["1\t2\n", "1\tmuch\ttext\r\n", "no tabs"])
def test_a_damaged_carrier_is_named(stand_ins, text):
    stand_ins(movie=text)
    assert "reviews.tar.gz is damaged" in refusal(GLUE().load, "movie-sentiment")
    write(Path(package_archive.member(None, "")), b"no archive")
    assert "reviews.tar.gz is damaged" in refusal(GLUE().load, "shop-sentiment")
    write(bigbench_archive.benchmark_files("")[0], '{"examples": [{"input": "x"}]}')
    assert "task.json is damaged" in refusal(GLUE().load, "claims")


# --- embedded sets, for real ------------------------------------------------------------------------------------------

REAL = {
    "movie-sentiment": ([7252, 806, 2014], "14d7a21d065d6c23"),
    "shop-sentiment": ([2149, 239, 597], "7ee50840933232f0"),
    "review-ratings": ([10305, 1145, 2863], "2ff97f21725ee5ab"),
    "claims": ([41734, 2000, 10934], "dc61041e19060cdf"),
}
"""How many examples each split has, and the start of the checksum."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_the_real_sets_are_as_they_were(name):
    data = GLUE().load(name)
    sizes, checksum = REAL[name]
    assert [len(split_of(data, split)) for split in SPLITS] == sizes
    assert data.checksum.startswith(checksum)
    assert all(text.strip() for split in SPLITS for texts in split_of(data, split).examples for text in texts)
    if data.classes:
        shares = [np.bincount(split_of(data, split).targets) / len(split_of(data, split)) for split in SPLITS]
        assert np.ptp(shares, axis=0).max() < 0.06  # reviews are long and few


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_no_real_text_is_in_two_splits(name):
    data, seen = GLUE().load(name), {}
    for split in SPLITS:
        part = split_of(data, split)
        for key, texts in zip(part.names, part.examples, strict=True):
            keys = [words_of(text) for text in texts]
            if name == "claims":  # the page, too
                keys.append(("page", texts[0].partition(": ")[0]))
            else:
                keys.append(key.partition("_")[0])
            for each in keys:
                assert seen.setdefault(each, split) == split, each


@pytest.mark.slow
def test_the_real_files_are_what_their_readme_says():
    movies, shop = (reviews.read_sentences(kind) for kind in ("movie", "shop"))
    assert (len(movies), len(shop)) == (10605, 3708)
    assert len({each.review for each in shop}) == 300
    for each in (*movies, *shop):
        assert -4 <= each.rating <= 4
        assert each.text
    claims = _claims.read_claims()
    assert Counter(each.label for each in claims) == {"True": 27242, "False": 20169, "Neither": 7257}
    assert len({each.page for each in claims}) == 3068
    assert not any("-LRB-" in text or "-COLON-" in text or not text for each in claims for text in each)


def test_evaluation_refuses_a_folder_beside_the_hub(tmp_path):
    from zipeft.commands.evaluate import _with_data_dir
    from zipeft.tasks.glue.task import GLUE

    with pytest.raises(UserError, match=r"--data-dir .*: source is hub and data_dir is set: drop one"):
        _with_data_dir(GLUE(source="hub"), tmp_path)
    assert _with_data_dir(GLUE(), tmp_path).data_dir == tmp_path


@pytest.mark.parametrize("suffix", ["tsv", "csv", "json", "jsonl", "parquet"])
def test_a_pointer_of_git_lfs_in_place_of_a_table_is_named(tmp_path, suffix):
    path = tmp_path / f"train.{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(UserError, match="is a pointer of Git LFS and not the file itself: run git lfs pull"):
        read_table(path, [("sentence",)])
