"""Sequence labelling: CoNLL's formats, the splits of a folder, and windows on sentences."""

from __future__ import annotations

from itertools import pairwise

import pytest

from support.labelling import ENTITIES, PROPS, load, many, other, tagged, write, write_splits
from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.api.settings import override
from zipeft.tasks.labelling.conll import find_splits
from zipeft.tasks.labelling.task import Labelling

# --- the task ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task(preset, tmp_path):
    chosen = Labelling.presets[preset]
    task = Labelling(data_dir=write_splits(tmp_path / "a", ENTITIES), **chosen.task)
    assert task.datasets() == ("a",)
    assert (task.max_length, task.stride) == (152, 32)
    assert chosen.protocol["batch_size"] == 16
    assert task.train_sentences == (2000 if preset == "quick" else 0)


def test_published_rows_have_a_value_a_column():
    (table,) = Labelling.published
    assert {len(row) for row in table.rows.values()} == {len(table.columns)} == {5}
    assert table.rows["Zero-init"][table.columns.index("CoNLL04")] == "88.8"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "has no data of its own: name a folder with --data-dir"),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
    ],
)
def test_data_must_be_given(values, said):
    assert said in refusal(override(Labelling, values).datasets)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": "xml"}, "'xml' is not one of auto, ner, srl"),
        ({"stride": "152"}, "less than max_length (152)"),
        ({"stride": "-1"}, "give 0 or more"),
        ({"split_seed": "-1"}, "give a number from 0"),
        ({"train_sentences": "-1"}, "or 0 for all"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(override, Labelling, values)


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train.txt", "dev.txt", "test.txt"), "train validation test"),
        (("conll05.train.txt", "conll05.devel.txt", "conll05.test.wsj.txt", "conll05.test.brown.txt"),
         "train validation test brown"),
        (("eng.train", "eng.testa", "eng.testb"), "train validation test"),
        (("TRAIN.BIO", "Validation.iob2", "test-b.tsv"), "train validation test"),
        (("train_valid.txt", "train.english.v4_gold_conll", "valid.conll"), "train validation"),
        (("train.txt", "train.txt.gz", "testb.json", "dev.md", ".test.txt", "contest.txt"), "train"),
    ],
)  # fmt: skip
def test_files_are_known_by_the_names_people_have(tmp_path, names, splits):
    write(tmp_path, **dict.fromkeys(names, "a O\n"))
    assert sorted(find_splits(tmp_path)) == sorted(splits.split())


def test_two_files_of_a_split_are_refused(tmp_path):
    write(tmp_path, train__txt=ENTITIES, dev__txt=ENTITIES, testa__txt=ENTITIES)
    assert "has two validation sets, dev.txt and testa.txt: keep one" in refusal(load, tmp_path)


def test_several_sets_in_one_folder(tmp_path):
    for name in ("conll03", "CoNLL04"):
        write_splits(tmp_path / name, ENTITIES)
    write(tmp_path / "notes", readme__txt="a")
    task = Labelling(data_dir=tmp_path)
    assert task.datasets() == ("CoNLL04", "conll03")
    assert Labelling(data_dir=tmp_path, sets=("conll04",)).datasets() == ("CoNLL04",)
    assert task.load("CONLL03").name == "conll03"
    assert "did you mean 'conll03'? (there: CoNLL04, conll03)" in refusal(task.load, "conll05")
    assert "holds no training file" in refusal(load, tmp_path / "notes")


def test_development_data_stand_in_for_test_data(tmp_path):
    write(tmp_path, train__txt=many(20), dev__txt=many(5, first=20))
    data = load(tmp_path)
    assert [len(split_of(data, split)) for split in SPLITS] == [18, 2, 5]
    assert "the development data are the test data; validation cut from the training data, 10% of its sentences" in (
        data.note
    )
    (tmp_path / "dev.txt").unlink()
    assert "neither test nor development data: add test.txt or dev.txt" in refusal(load, tmp_path)


def test_validation_is_cut_by_document_where_documents_are_told_apart(tmp_path):
    documents = [many(1 + index % 3, first=10 * index) for index in range(20)]
    train = "".join(f"-DOCSTART- O\n\n{document}\n" for document in documents)
    write(tmp_path, train__txt=train, test__txt=many(5, first=900))
    cuts = set()
    for seed in range(4):
        data = load(tmp_path, split_seed=seed)
        assert f"10% of its documents with seed {seed}" in data.note
        by_split = [
            {int(example.words[0][1:]) // 10 for example in getattr(data, split).examples}
            for split in ("train", "validation")
        ]
        assert [len(found) for found in by_split] == [18, 2]
        assert not by_split[0] & by_split[1]
        assert load(tmp_path, split_seed=seed).checksum == data.checksum
        cuts.add(frozenset(by_split[1]))
    assert len(cuts) > 1


def test_one_sentence_is_too_few(tmp_path):
    write(tmp_path, train__txt=many(1), test__txt=many(1, first=5))
    assert "has one sentence, too few to cut validation data from" in refusal(load, tmp_path)


def test_fewer_training_sentences_are_a_part_of_more(tmp_path):
    write(tmp_path, train__txt=many(30), dev__txt=many(5, first=50), test__txt=many(5, first=60))
    parts = [load(tmp_path, train_sentences=count) for count in (3, 10, 29, 0)]
    assert [len(part.train) for part in parts] == [3, 10, 29, 30]
    assert all(set(less.train.names) < set(more.train.names) for less, more in pairwise(parts))
    assert parts[1].train.names == sorted(parts[1].train.names, key=lambda name: int(name.split(":")[1]))
    assert "trained on 10 of 30 sentences, chosen with seed 0" in parts[1].note
    assert len({part.checksum for part in parts}) == 4
    assert len({len(part.validation) for part in parts}) == 1


def test_a_sentence_is_taken_with_all_its_predicates(tmp_path):
    write_splits(tmp_path, PROPS + "\n" + other(PROPS, "|"))
    data = load(tmp_path, train_sentences=1)
    assert [predicate for _, predicate, _ in tagged(data)] == ["faces", "explore"]


def test_test_sentences_that_are_in_training_are_counted_and_many_refused(tmp_path):
    write(tmp_path, train__txt=many(20), dev__txt=many(5, first=30), test__txt=many(10, first=15))
    assert "5 test sentences also in training, word for word" in load(tmp_path).note
    write(tmp_path, test__txt=many(10, first=14))
    assert "6 of 10 test sentences are also in training, word for word" in refusal(load, tmp_path)
