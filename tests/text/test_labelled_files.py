"""Tables of labelled texts: what is read, what is refused with the place, and what is taken of them."""

from __future__ import annotations

import pytest

from support.glue import (
    published,
    rows,
    write,
    write_glue,
    write_hub,
    write_label_first,
)
from support.pictures import refusal
from zipeft.tasks.glue.task import GLUE
from zipeft.text.tables import find_split, read_table

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
