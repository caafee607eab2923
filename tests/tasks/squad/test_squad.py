"""Extractive question answering: files, splits, windows, how windows are read back, and what is learnt."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.api.data import Window
from zipeft.api.settings import override
from zipeft.metrics.answers import best_f1
from zipeft.objectives.extractive_qa import PADDED, Answers, Origin, Span, SpanHead, Spans
from zipeft.sources.hub_download import Repository
from zipeft.tasks.squad.files import Question
from zipeft.tasks.squad.task import SHIFTED, SQuAD

# --- texts, tokenizers, files -----------------------------------------------------------------------------------------

SYLLABLES = ("ba", "ko", "é", "шу", "日本", "ri", "Ü", "x9", "naï", "z🦊")


def text_of(words, seed=0):
    """Return a text of so many words of several scripts, no two alike."""
    rng = random.Random(seed)
    made = dict.fromkeys("".join(rng.choices(SYLLABLES, k=4)) + str(number) for number in range(words))
    return "".join(word + rng.choice((" ", " ", ", ", ".  ", "-")) for word in made).strip()


def wordpiece(corpus):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", model_input_names=names
    )


def byte_level(corpus):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", model_input_names=names)


@pytest.fixture(scope="module", params=[wordpiece, byte_level])
def backbone(request):
    """What windows need of a text backbone, with a tokenizer like BERT's or like RoBERTa's."""
    corpus = [text_of(300, seed) for seed in range(3)] + ["Who is it? What is the answer? A zorro"] * 50
    tokenizer = request.param(corpus)
    return SimpleNamespace(tokenizer=lambda: tokenizer, max_length=lambda: 512)


def words_in(context):
    return [(found[0], found.start()) for found in re.finditer(r"[^\s,.-]+", context)]


def gold(context, *texts):
    return Answers(texts, tuple(context.index(text) for text in texts))


def question(id_, context="The quick brown fox.", answers=("quick",), **more):
    return {
        "id": id_,
        "question": f"{id_}?",
        "answers": [{"text": text, "answer_start": context.find(text)} for text in answers],
        **more,
    }


def squad_json(articles=6, contexts=2, each=3, start=0, unanswerable=False):
    """Return a file's content in SQuAD's layout, no question of which occurs for another ``start``."""
    data, number = [], itertools.count(start)
    for article in range(articles):
        paragraphs = []
        for _ in range(contexts):
            context = text_of(12, seed=next(number))
            qas = []
            for asked in range(each):
                words = [word for word, _ in words_in(context)]
                impossible = unanswerable and asked == 0
                qas.append(
                    question(f"q{next(number)}", context, () if impossible else (words[asked], words[-1]))
                    | ({"is_impossible": impossible} if unanswerable else {})
                )
            paragraphs.append({"context": context, "qas": qas})
        data.append({"title": f"Article {start} {article}", "paragraphs": paragraphs})
    return {"version": "of a test", "data": data}


def rows_of(content):
    """Return a file's content as rows in the layout of the ``datasets`` library."""
    return [
        {
            "id": row["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": row["question"],
            "answers": {
                "text": [answer["text"] for answer in row["answers"]],
                "answer_start": [answer["answer_start"] for answer in row["answers"]],
            },
        }
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for row in paragraph["qas"]
    ]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    return path


def load(path, **settings):
    task = SQuAD(data_dir=path, **settings)
    (name,) = task.datasets()
    return task.load(name)


def everything(data):
    """Return what a data set holds, as plain values."""
    splits = {split: split_of(data, split) for split in SPLITS}
    return {split: list(zip(part.names, part.examples, part.targets, strict=True)) for split, part in splits.items()}


def contexts_of(data):
    return {split: {example.context for example in split_of(data, split).examples} for split in SPLITS}


# --- the task ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task(preset):
    chosen = SQuAD.presets[preset]
    task = SQuAD(**chosen.task)
    assert task.datasets() == ("squad-dev",)
    assert chosen.seeds >= 3
    assert not chosen.methods or {"full", "linear", "zero_gated", "prompt", "zero_gated_random"} <= set(chosen.methods)


def test_presets_grow():
    tasks = [SQuAD(**SQuAD.presets[name].task) for name in ("quick", "standard", "paper")]
    sizes = [(task.train_questions or math.inf, task.test_questions or math.inf, task.max_length) for task in tasks]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert {"bitfit", "lora", "prefix"} <= set(SQuAD.presets["standard"].methods)
    assert SQuAD.presets["standard"].protocol["trials"] > 0


def test_published_rows_have_a_value_a_column():
    (table,) = SQuAD.published
    assert {len(row) for row in table.rows.values()} == {len(table.columns)} == {4}
    assert table.rows["Zero-init"][table.columns.index("2.0 F1")] == "87.2"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_length": "128", "stride": "64"}, "72 tokens or more between them"),
        ({"stride": "-1"}, "stride is -1"),
        ({"n_best": "0"}, "n_best is 0"),
        ({"max_answer_length": "0"}, "max_answer_length is 0"),
        ({"test_questions": "-5"}, "test_questions is -5"),
        ({"split_seed": "-1"}, "split_seed is -1"),
        ({"shifted": "new_wiki,nyc"}, "shifted has 'nyc'; did you mean 'nyt'?"),
        ({"source": "hub", "data_dir": "/tmp"}, "drop one"),
        ({"source": "hup"}, "did you mean 'hub'"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(override, SQuAD, values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sets": "squad-v1.1"}, "no data set 'squad-v1.1' embedded; name its folder with --data-dir, or get it with"),
        (
            {"source": "hub", "sets": "squad-v1"},
            "on the hub; did you mean 'squad-v1.1'? (there: squad-v1.1, squad-v2.0)",
        ),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
    ],
)
def test_unknown_sets_are_refused(values, said):
    assert said in refusal(override(SQuAD, values).datasets)


def test_windows_have_to_fit_the_backbone(backbone):
    assert "the backbone takes 512 tokens" in refusal(SQuAD(max_length=513).windows, backbone)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unanswerable", [False, True])
def test_every_layout_gives_the_same_questions(tmp_path, unanswerable):
    content = squad_json(unanswerable=unanswerable)
    rows = rows_of(content)
    lines = "\n".join(json.dumps(row) for row in rows)
    layouts = {
        "squad.json": content,
        "rows.json": {"version": "2.0", "data": rows},
        "list.json": rows,
        "lines.jsonl": lines + "\n\n",
        "lines.json": lines,
        "marked.json": "\ufeff" + json.dumps(content),
    }
    loaded = {name: load(write(tmp_path / name, layout)) for name, layout in layouts.items()}
    first = loaded["squad.json"]
    asked = [each for split in everything(first).values() for each in split]
    assert sorted(name for name, _, _ in asked) == sorted(row["id"] for row in rows)
    for name, example, answers in asked:
        (row,) = (row for row in rows if row["id"] == name)
        assert example == (row["question"], row["context"])
        assert answers == (tuple(row["answers"]["text"]), tuple(row["answers"]["answer_start"]))
    for data in loaded.values():
        assert everything(data) == everything(first)
        assert data.checksum == first.checksum
        assert ("without an answer" in data.note) == unanswerable
    assert {data.name for data in loaded.values()} == {"squad", "rows", "list", "lines", "marked"}
    assert first.source == "file squad.json"


def test_parquet_is_read(tmp_path):
    content = squad_json()
    for part, rows in enumerate((rows_of(content)[:20], rows_of(content)[20:])):
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"train-0000{part}-of-00002.parquet")
    assert everything(load(tmp_path)) == everything(load(write(tmp_path / "all.json", content)))
    write(tmp_path / "bad.parquet", "PAR1 and what not")
    assert "bad.parquet cannot be read as parquet" in refusal(load, tmp_path / "bad.parquet")


def test_a_published_set_is_known_by_its_file_names(tmp_path):
    for version, start in (("v1.1", 0), ("v2.0", 1000)):
        write(tmp_path / f"train-{version}.json", squad_json(articles=20, start=start, unanswerable=start > 0))
        write(tmp_path / f"dev-{version}.json", squad_json(articles=2, start=start + 500, unanswerable=start > 0))
    task = SQuAD(data_dir=tmp_path)
    assert task.datasets() == ("squad-v1.1", "squad-v2.0")
    assert SQuAD(data_dir=tmp_path, sets=("squad-v2.0",)).datasets() == ("squad-v2.0",)
    for name in task.datasets():
        data = task.load(name)
        assert [len(split_of(data, split)) for split in SPLITS] == [108, 12, 12]
        assert "validation cut from the given training questions, 10% by article with seed 0 (2 of 20)" in data.note
        assert (data.name, not data.shifted) == (name, True)
        missing = any(not answers.texts for answers in data.train.targets)
        assert missing == (name == "squad-v2.0") == ("36 train, 4 validation, 4 test" in data.note)
    (tmp_path / "dev-v1.1.json").write_text((tmp_path / "dev-v2.0.json").read_text("utf-8"), "utf-8")
    assert "dev-v1.1.json: question 'q1501' has no answer, but in version 1.1" in refusal(task.load, "squad-v1.1")
    (tmp_path / "train-v2.0.json").unlink()
    assert "has dev-v2.0.json but no train-v2.0.json" in refusal(task.datasets)


@pytest.mark.parametrize(
    ("names", "sizes", "said"),
    [
        (("train.json", "validation.json", "test.json"), [36, 18, 18], "questions: 36 train"),
        (("train.json", "dev.json", "test.json"), [36, 18, 18], "questions: 36 train"),
        (("train.json", "dev.json"), [30, 6, 18], "10% by article with seed 0 (1 of 6)"),
        (("train.json", "test.json"), [30, 6, 18], "10% by article with seed 0 (1 of 6)"),
        (("train.json",), [24, 6, 6], "36 questions in 6 articles, split 60/20/20 by article with seed 0 (4 train, 1"),
    ],
)
def test_files_named_after_splits_are_read(tmp_path, names, sizes, said):
    folder = tmp_path / "quiz"
    for start, name in enumerate(names):
        write(folder / name, squad_json(articles=3 if start else 6, start=1000 * start))
    data = load(folder)
    assert (data.name, data.source) == ("quiz", "folder quiz")
    assert [len(split_of(data, split)) for split in SPLITS] == sizes
    assert said in data.note
    if len(names) == 3:
        assert [int(min(split_of(data, split).names)[1:]) // 1000 for split in SPLITS] == [0, 1, 2]


def changed(change):
    """Return a file's content after ``change(first article, first paragraph, first question)``."""
    content = squad_json()
    article = content["data"][0]
    change(article, article["paragraphs"][0], article["paragraphs"][0]["qas"][0])
    return content


def without(*keys):
    def change(article, paragraph, row):
        for part in (article, paragraph, row):
            for key in keys:
                part.pop(key, None)

    return changed(change)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"data": [', "is no JSON (line 1"),
        ("", "is no JSON (line 1"),
        ("[" * 100_000, "is no JSON (it is nested too deeply)"),
        ('{"id": "a"}\n' + "[" * 100_000, "is no JSON in line 2 (it is nested too deeply)"),
        (f'{{"version": {"1" * 5000}}}', "is no JSON (Exceeds the limit"),
        ('{"id": "a", "context": "b"}\n{"id": "b', "is no JSON in line 2"),
        ({"data": []}, "holds no questions"),
        ({"questions": []}, "is not of a known layout"),
        ("[1]", "row 1 is no JSON object"),
        (without("qas"), "article 1, paragraph 1 has no 'qas'"),
        (without("context"), "article 1, paragraph 1 has no 'context'"),
        (without("id"), "article 1, paragraph 1, question 1 has no 'id'"),
        (without("question"), "question 'q1' has no 'question'"),
        (without("answers"), "question 'q1' has no list 'answers'"),
        (changed(lambda a, p, row: row.update(id=5.0)), "has a 'id' that is not text or a whole number"),
        (changed(lambda a, p, row: row.update(id=True)), "has a 'id' that is not text or a whole number"),
        (changed(lambda a, p, row: row.update(id="q2")), "1 question has the id of an earlier one ('q2'): give each"),
        (changed(lambda a, p, row: row.update(question="\ud800")), "question 'q1' has half of a surrogate pair"),
        (changed(lambda a, p, row: row.update(is_impossible=True)), "'q1' is is_impossible, but has answers"),
        (
            changed(lambda a, p, row: row.update(is_impossible=False, answers=None)),
            "'q1' is not is_impossible, but has no",
        ),
        (changed(lambda a, p, row: p.update(context=" ")), "question 'q1' has a blank context"),
        (changed(lambda a, p, row: row["answers"][0].pop("text")), "question 'q1': an answer has no 'text'"),
        (changed(lambda a, p, row: row["answers"][1].update(text=" ")), "question 'q1' has a blank answer"),
        (
            changed(lambda a, p, row: row["answers"][0].update(answer_start=3)),
            "character 0 of its context, not at answer_",
        ),
        (changed(lambda a, p, row: row["answers"][0].update(answer_start=-len(p["context"]))), "not at answer_start -"),
        (changed(lambda a, p, row: row["answers"][0].update(answer_start=1.0)), "'answer_start' that is not a whole"),
        (changed(lambda a, p, row: row.update(answers={"text": ["a"], "answer_start": []})), "has 1 answers but 0"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, said):
    path = write(tmp_path / "bad.json", content if isinstance(content, str) else json.dumps(content))
    message = refusal(load, path)
    assert said in message
    assert message.startswith(f"{path}")


def test_files_that_cannot_be_taken_are_refused(tmp_path):
    assert "holds no questions: expected train-v1.1.json" in refusal(SQuAD(data_dir=tmp_path).datasets)
    (tmp_path / "bytes.json").write_bytes(b'{"data": "\xff"}')
    assert "bytes.json is not UTF-8 at byte 10" in refusal(load, tmp_path / "bytes.json")
    assert "notes.txt is of no known kind" in refusal(load, write(tmp_path / "notes.txt", "hello"))
    write(tmp_path / "dev.json", squad_json())
    assert "has dev.json but no train file" in refusal(SQuAD(data_dir=tmp_path).datasets)
    write(tmp_path / "train.json", squad_json())
    assert "question 'q1' is in train.json too" in refusal(load, tmp_path)
    one = write(tmp_path / "one.json", squad_json(articles=1, contexts=1))
    assert "one has too few questions to split them by context" in refusal(load, one)


def test_a_misplaced_answer_is_moved_where_that_is_allowed(tmp_path):
    context = "a cat, a dog, a cat and a bird"
    content = squad_json()
    content["data"][0]["paragraphs"].append({"context": context, "qas": [question("q", context, ("cat",))]})
    (row,) = content["data"][0]["paragraphs"][-1]["qas"]
    for start, place in ((0, 2), (2, 2), (5, 2), (12, 16), (15, 16), (17, 16), (400, 16), (-3, 2)):
        row["answers"][0]["answer_start"] = start
        path = write(tmp_path / f"{start}.json", content)
        data = load(path, move_answers=True)
        assert (Question("q?", context), (("cat",), (place,))) in [
            (example, answers) for split in everything(data).values() for _, example, answers in split
        ]
        assert (f"1 in {start}.json" in data.note) == (start != place)
        if start != place:
            assert f"at character {place} of its context, not at answer_start {start}: " in refusal(load, path)


def test_questions_whose_context_lacks_the_answer_are_counted_and_not_learnt(tmp_path):
    content = changed(lambda article, paragraph, row: row["answers"][1].update(text="zzz"))
    for path in (write(tmp_path / "one.json", content), write(tmp_path / "sets" / "train.json", content)):
        write(tmp_path / "sets" / "dev.json", squad_json(start=1000))
        data = load(path if path.name == "one.json" else path.parent)
        names = {name for rows in everything(data).values() for name, _, _ in rows}
        assert "q2" in names
        assert "q1" not in names
        assert f"questions left out of which the context does not hold an answer: 1 in {path.name}" in data.note
    write(tmp_path / "sets" / "dev.json", content)
    write(tmp_path / "sets" / "train.json", squad_json(start=1000))
    said = "dev.json: question 'q1' has an answer that is not in its context"
    assert said in refusal(load, tmp_path / "sets")
    only = {"data": [{"paragraphs": [{"context": "a cat", "qas": [question("q", "a cat", ("dog",))]}]}]}
    said = "holds no questions but 1 whose answer is not in their context"
    assert said in refusal(load, write(tmp_path / "only.json", only))


def test_an_answer_in_another_form_of_unicode_is_in_its_context(tmp_path):
    composed, decomposed = "un caf\u00e9 noir", "un cafe\u0301 noir"
    for context, answer, right in (
        (composed, decomposed[3:8], composed[3:7]),
        (decomposed, composed[3:7], decomposed[3:8]),
    ):
        content = squad_json()
        row = question("q", context, ()) | {"answers": [{"text": answer, "answer_start": 3}]}
        content["data"][0]["paragraphs"].append({"context": context, "qas": [row]})
        data = load(write(tmp_path / "forms.json", content))
        found = [answers for split in everything(data).values() for name, _, answers in split if name == "q"]
        assert found == [((right,), (3,))]
        assert "moved" not in data.note
        row["answers"][0]["answer_start"] = 0
        data = load(write(tmp_path / "forms.json", content), move_answers=True)
        found = [answers for split in everything(data).values() for name, _, answers in split if name == "q"]
        assert found == [((right,), (3,))]


def test_ids_may_be_numbers_and_answers_null_where_there_is_none(tmp_path):
    content = squad_json(unanswerable=True)
    rows = [row for article in content["data"] for part in article["paragraphs"] for row in part["qas"]]
    for number, row in enumerate(rows):
        row["id"] = number
        row["answers"] = row["answers"] or None
    data = load(write(tmp_path / "numbers.json", content))
    found = {name: answers for split in everything(data).values() for name, _, answers in split}
    assert found.keys() == {str(number) for number in range(len(rows))}
    assert all(bool(found[str(row["id"])].texts) == bool(row["answers"]) for row in rows)


def test_repeated_ids_are_counted_and_can_be_dropped(tmp_path):
    content = squad_json()
    content["data"].append(content["data"][0])
    path = write(tmp_path / "twice.json", content)
    message = refusal(load, path)
    assert (
        "twice.json: 6 questions have the id of an earlier one ('q1', 'q2', 'q3', ...): give each its own, or"
        in message
    )
    assert "squad.drop_repeated=true" in message
    data = load(path, drop_repeated=True)
    assert "questions dropped that have the id of an earlier one: 6 in twice.json" in data.note
    assert data.checksum == load(write(tmp_path / "once.json", squad_json())).checksum
    write(tmp_path / "sets" / "train.json", squad_json())
    write(tmp_path / "sets" / "dev.json", squad_json())
    assert "dev.json: question 'q1' is in train.json too, and 35 more are in two files" in refusal(
        load, tmp_path / "sets"
    )


# --- splits -----------------------------------------------------------------------------------------------------------


def test_articles_are_kept_whole(tmp_path):
    path = write(tmp_path / "quiz.json", squad_json(articles=20))
    data = load(path)
    titles = {row["id"]: row["title"] for row in rows_of(squad_json(articles=20))}
    found = [{titles[name] for name in split_of(data, split).names} for split in SPLITS]
    assert [len(split) for split in found] == [12, 4, 4]
    assert not any(one & other for one, other in itertools.combinations(found, 2))
    assert everything(load(path)) == everything(data)
    assert contexts_of(load(path, split_seed=1)) != contexts_of(data)


@pytest.mark.parametrize("articles", [3, 20])
def test_contexts_are_kept_whole_where_articles_are_few_or_unnamed(tmp_path, articles):
    content = squad_json(articles=articles, contexts=30 // articles)
    if articles == 20:
        content["data"][7].pop("title")
    data = load(write(tmp_path / "quiz.json", content))
    found = contexts_of(data)
    assert all(found.values())
    assert not any(one & other for one, other in itertools.combinations(found.values(), 2))
    assert "by context with seed 0" in data.note


def test_questions_are_chosen_from_all_and_nested(tmp_path):
    path = write(tmp_path / "quiz.json", squad_json(articles=20, each=5))
    whole, few, more = (load(path, train_questions=n, validation_questions=4, test_questions=n) for n in (0, 9, 40))
    for split, sizes in (("train", (9, 40, 120)), ("validation", (4, 4, 4)), ("test", (9, 40, 40))):
        names = [list(split_of(data, split).names) for data in (few, more, whole)]
        assert tuple(map(len, names)) == sizes
        assert set(names[0]) <= set(names[1]) <= set(names[2])
        assert all(part == [name for name in names[2] if name in set(part)] for part in names)  # in the file's order
    assert few.checksum != more.checksum
    assert "9 of 120 train, 4 of 40 validation, 9 of 40 test; parts chosen with seed 0" in few.note


def test_contexts_of_test_that_training_has_are_noted(tmp_path, caplog):
    train, test = squad_json(), squad_json(articles=2, start=1000)
    test["data"][0]["paragraphs"][0]["context"] = train["data"][0]["paragraphs"][0]["context"]
    for row in test["data"][0]["paragraphs"][0]["qas"]:
        row["answers"] = [{"text": train["data"][0]["paragraphs"][0]["context"][:3], "answer_start": 0}]
    for name, content in (("train", train), ("test", test)):
        write(tmp_path / f"{name}.json", content)
    assert "3 test questions on contexts that train or validation has too" in load(tmp_path).note
    assert "3 test questions are on contexts" in caplog.text


def test_the_hub_is_asked_for_a_fixed_revision(tmp_path, monkeypatch):
    asked = []

    def download(repository, path, **options):
        asked.append((repository, path, options))
        return write(tmp_path / f"{len(asked)}.json", squad_json(start=1000 * len(asked)))

    monkeypatch.setattr(Repository, "ask", lambda _: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    data = SQuAD(source="hub").load("squad-v1.1")
    assert [len(split_of(data, split)) for split in SPLITS] == [30, 6, 36]
    assert data.source == "hub rajpurkar/squad@7b6d24c"
    for (repository, path, options), split in zip(asked, ("train", "validation"), strict=True):
        assert (repository, path) == ("rajpurkar/squad", f"plain_text/{split}-00000-of-00001.parquet")
        assert options["repo_type"] == "dataset"
        assert re.fullmatch("[0-9a-f]{40}", options["revision"])

    def fail(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    message = refusal(SQuAD(source="hub").load, "squad-v2.0")
    assert "of rajpurkar/squad_v2 (ConnectionError: no route to the hub)" in message
    assert "train-v2.0.json and dev-v2.0.json with --data-dir" in message


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_length", "stride"), [(100, 20), (100, 0), (384, 128)])
def test_windows_cover_the_context_and_overlap(backbone, max_length, stride):
    tokenizer, context = backbone.tokenizer(), text_of(250, seed=1)
    windows = SQuAD(max_length=max_length, stride=stride).windows(backbone)
    every = windows(Question("  Who is it?", context), Answers((), ()))
    asked = tokenizer("Who is it?")["input_ids"]
    before = len(asked) + tokenizer.num_special_tokens_to_add(pair=True) - tokenizer.num_special_tokens_to_add() - 1
    shown, covered = [], set()
    for window in every:
        ids, offsets = window.inputs["input_ids"], window.origin.offsets
        assert set(window.inputs) == set(tokenizer.model_input_names)
        assert {len(part) for part in window.inputs.values()} == {len(offsets)}
        assert ids.dtype == torch.int64
        assert ids[: len(asked)].tolist() == asked
        assert window.target == (0, 0)
        assert window.origin.context is context
        assert (offsets[[*range(before), -1]] == -1).all()
        shown.append(ids[before:-1].tolist())
        assert (offsets[:, 0] < offsets[:, 1])[offsets[:, 0] >= 0].all()  # some tokens are a blank that is left out
        covered |= {at for start, end in offsets.tolist() for at in range(start, end)}
    assert len(every) > 2
    assert {len(window.origin.offsets) for window in every[:-1]} == {max_length}
    # Nothing is lost, and each window shares just the stride with the one before.
    joined = shown[0] + [token for part in shown[1:] for token in part[stride:]]
    assert joined == tokenizer(context, add_special_tokens=False)["input_ids"]
    assert all(character.isspace() or at in covered for at, character in enumerate(context))


@pytest.mark.parametrize("words", [1, 2])
def test_an_answer_is_the_target_of_the_windows_that_hold_it_whole(backbone, words):
    context = text_of(150, seed=2)
    task = SQuAD(max_length=120, stride=48)
    windows, cut, places = task.windows(backbone), 0, words_in(context)
    for (_, start), (last, at) in list(zip(places, places[words - 1 :], strict=False))[::3]:
        text = context[start : at + len(last)]
        holding = 0
        for window in windows(Question("Who is it?", context), Answers((text, "other"), (start, 0))):
            (first, last_token), offsets = window.target, window.origin.offsets
            inside = offsets[offsets[:, 0] >= 0]
            if inside[0, 0] <= start and start + len(text) <= inside[-1, 1]:
                assert (offsets[first, 0], offsets[last_token, 1]) == (start, start + len(text))
                holding += 1
            else:
                assert (first, last_token) == (0, 0)
                cut += inside[0, 0] < start + len(text) and start < inside[-1, 1]
        assert holding
    assert cut > 3  # some answers crossed the border of a window


def test_blanks_around_an_answer_and_parts_of_tokens_are_no_obstacle(backbone):
    context = "It cost 3.2 million dollars, John said, and no more."
    windows = SQuAD().windows(backbone)
    for text, found in ((" John ", "John"), ("2 million", "2 million"), ("ohn sai", "John said")):
        (window,) = windows(Question("Who is it?", context), gold(context, text))
        start, end = window.target
        offsets = window.origin.offsets
        read = context[offsets[start, 0] : offsets[end, 1]]
        assert text.strip() in read
        assert read in found


def test_a_long_question_leaves_room_for_the_context(backbone):
    context = text_of(80)
    asked = "What is the answer to this question? " * 40
    every = SQuAD(max_length=128, stride=56).windows(backbone)(Question(asked, context), gold(context, context[-4:]))
    for window in every:
        assert (window.origin.offsets[:, 0] >= 0).sum() >= 1
    assert 64 < (every[0].origin.offsets[:, 0] >= 0).argmax() <= 64 + 3
    assert every[-1].target != (0, 0)


# --- reading windows back ---------------------------------------------------------------------------------------------


def oracle(windows, seed=0):
    """Return logits of a model that knows where each window holds the answer."""
    generator, made = np.random.default_rng(seed), []
    for window in windows:
        logits = generator.normal(size=(len(window.origin.offsets) + 7, 2)).astype(np.float32)
        logits[-7:] = PADDED  # batches are padded
        for side, token in enumerate(window.target):
            logits[token, side] += 20
        made.append(logits)
    return made


@pytest.mark.parametrize("unanswerable", [False, True])
def test_a_perfect_model_scores_full_marks(backbone, unanswerable):
    objective = Spans()
    window_of = SQuAD(max_length=120, stride=48).windows(backbone)
    predictions, targets, several = [], [], 0
    for seed, words in enumerate((5, 40, 120)):
        context = text_of(words, seed)
        for number, (word, start) in enumerate(words_in(context)):
            answers = Answers((), ()) if unanswerable and number % 3 == 0 else Answers(("not it", word), (0, start))
            first = answers._replace(texts=answers.texts[1:], starts=answers.starts[1:])
            windows = window_of(Question("Who is it?", context), first)
            several += len(windows) > 2
            predictions.append(objective.merge(windows, oracle(windows, number)))
            targets.append(answers)
            if answers.texts:
                assert context[predictions[-1].start : predictions[-1].end] == predictions[-1].text == word
    assert several > 60
    chosen = objective.choose(predictions, targets)
    assert bool(chosen) == unanswerable
    final = objective.decide(predictions, chosen)
    scores = objective.score(final, targets)
    names = {"f1", "exact_match"} | ({"has_answer_f1", "no_answer_accuracy"} if unanswerable else set())
    assert scores == dict.fromkeys(names, 1.0)
    assert objective.item_scores(final, targets) == [1.0] * len(targets)


def brute_force(windows, logits, n_best, longest):
    """Return the best span and its score, as plainly as it can be said."""
    found = []
    for number, (window, values) in enumerate(zip(windows, logits, strict=True)):
        offsets = window.origin.offsets
        inside = [token for token in range(len(offsets)) if offsets[token, 0] >= 0]
        for count in (n_best, len(inside)):
            starts, ends = (
                sorted(inside, key=lambda token, side=side: (-values[token, side], token))[:count] for side in (0, 1)
            )
            spans = [
                (-float(values[start, 0] + values[end, 1]), number, start, end)
                for start in starts
                for end in ends
                if start <= end < start + longest
            ]
            if spans:
                found += spans
                break
    return min(found, default=None)


@st.composite
def windows_and_logits(draw):
    windows, logits = [], []
    for _ in range(draw(st.integers(1, 3))):
        kinds = draw(st.lists(st.booleans(), min_size=1, max_size=9))
        offsets = np.array([(2 * at, 2 * at + 2) if kind else (-1, -1) for at, kind in enumerate(kinds)], np.int32)
        windows.append(Window(None, (0, 0), Origin("abcdefghijklmnopqrst", offsets)))
        values = draw(st.lists(st.integers(-3, 3), min_size=2 * len(kinds), max_size=2 * len(kinds)))
        logits.append(np.array(values, np.float32).reshape(-1, 2))
    return windows, logits


@given(windows_and_logits(), st.integers(1, 5), st.integers(1, 4))
def test_the_best_span_is_that_of_all_loops(drawn, n_best, longest):
    windows, logits = drawn
    span = Spans(n_best, longest).merge(windows, logits)
    assert span.null == min(float(values[0].sum()) for values in logits)
    best = brute_force(windows, logits, n_best, longest)
    if best is None:
        assert (span.start, span.end, span.text) == (0, 0, "")
    else:
        score, number, start, end = best
        offsets = windows[number].origin.offsets
        assert (span.start, span.end, span.score) == (offsets[start, 0], offsets[end, 1], -score)
        assert span.text == "abcdefghijklmnopqrst"[span.start : span.end]


@pytest.mark.parametrize(("n_best", "text"), [(2, "c"), (3, "ab")])
def test_the_best_span_is_one_of_the_n_best(n_best, text):
    offsets = np.array([(0, 1), (1, 2), (2, 3), (3, 4)], np.int32)
    logits = np.array([(1, -3), (-3, 3), (2, 0), (3, -3)], np.float32)
    window = Window(None, (0, 0), Origin("abcd", offsets))
    assert Spans(n_best).merge([window], [logits]).text == text


@given(st.lists(st.tuples(st.integers(-4, 4), st.sampled_from(["", "a b", "a c", "d"])), min_size=1, max_size=12))
def test_the_threshold_is_the_best_there_is(drawn):
    objective = Spans()
    predictions = [Span(0, 3, "b c", 0.0, float(margin)) for margin, _ in drawn]
    targets = [Answers((text,), (0,)) if text else Answers((), ()) for _, text in drawn]
    chosen = objective.choose(predictions, targets)
    if all(target.texts for target in targets):
        assert chosen == {}
        assert objective.decide(predictions, chosen) == predictions
        return

    def f1(threshold):
        final = [None if prediction.null - prediction.score > threshold else prediction for prediction in predictions]
        return np.mean([best_f1(one.text if one else "", gold.texts) for one, gold in zip(final, targets, strict=True)])

    scores = objective.score(objective.decide(predictions, chosen), targets)
    assert scores["f1"] == pytest.approx(max(f1(threshold) for threshold in np.arange(-5, 5, 0.25)))
    assert scores["f1"] == pytest.approx(f1(chosen["no_answer_threshold"]))
    assert chosen["no_answer_threshold"] not in {prediction.null for prediction in predictions}
    json.dumps(chosen, allow_nan=False)


def test_scores_are_fractions_and_means_over_questions():
    objective = Spans()
    targets = [Answers(("red fox", "fox"), (0, 4)), Answers(("blue whale",), (0,)), Answers((), ()), Answers((), ())]
    predictions = [Span(4, 7, "fox", 1, 0), Span(5, 14, "The whale", 1, 0), None, Span(0, 1, "x", 1, 0)]
    scores = objective.score(predictions, targets)
    assert objective.item_scores(predictions, targets) == pytest.approx([1, 2 / 3, 1, 0])
    assert scores == pytest.approx(
        {"f1": 2 / 3, "exact_match": 1 / 2, "has_answer_f1": 5 / 6, "no_answer_accuracy": 1 / 2}
    )
    assert set(objective.score(predictions[:2], targets[:2])) == {"f1", "exact_match"}


def test_records_hold_no_text():
    objective = Spans()
    kept = [Span(4, 7, "fox", 1.5, 0.5), None, Answers(("red fox", "fox"), (0, 4)), Answers((), ())]
    assert [objective.record(value) for value in kept] == [[4, 7], None, [[0, 7], [4, 7]], []]
    assert json.dumps(list(map(objective.record, kept))) == "[[4, 7], null, [[0, 7], [4, 7]], []]"


# --- what is learnt ---------------------------------------------------------------------------------------------------


def test_padding_changes_neither_loss_nor_gradient_nor_prediction():
    torch.manual_seed(0)
    objective, tokens = Spans(), [torch.randn(length, 8, dtype=torch.float64) for length in (5, 9, 3)]
    targets = [torch.tensor([1, 8, 0]), torch.tensor([4, 8, 0])]
    head = objective.head(("start", "end"), 8).double()
    assert isinstance(head, SpanHead)

    def run(batch, chosen):
        head.zero_grad()
        outputs = head(batch)
        loss = objective.loss(outputs, [part[chosen] for part in targets])
        loss.backward()
        return loss.item(), head.weight.grad.clone(), objective.predict(outputs)

    padded = pad_sequence([*tokens, torch.zeros(20, 8, dtype=torch.float64)], batch_first=True)[:3]
    loss, gradient, predictions = run(padded, slice(None))
    alone = [run(part[None], slice(index, index + 1)) for index, part in enumerate(tokens)]
    assert loss == pytest.approx(np.mean([each[0] for each in alone]), abs=1e-12)
    torch.testing.assert_close(gradient, sum(each[1] for each in alone) / 3)
    by_hand = [
        -torch.log_softmax(part @ head.weight[side] + head.bias[side], 0)[targets[side][index]].item()
        for index, part in enumerate(tokens)
        for side in (0, 1)
    ]
    assert loss == pytest.approx(np.mean(by_hand), abs=1e-12)
    for part, prediction, (_, _, (single,)) in zip(tokens, predictions, alone, strict=True):
        assert prediction.dtype == np.float32
        assert prediction[: len(part)] == pytest.approx(single, abs=1e-5)
        assert (prediction[len(part) :] == PADDED).all()


def test_a_head_learns_to_find_a_name(backbone):
    """On one vector a token, the head can learn that the answer is a certain word, wherever it stands."""
    torch.manual_seed(0)
    tokenizer, objective, rng = backbone.tokenizer(), Spans(), random.Random(0)
    embedding = torch.randn(len(tokenizer), 64)
    window_of = SQuAD(max_length=100, stride=24).windows(backbone)

    def examples(count, seed):
        for number in range(count):
            words = text_of(30, seed + number).split(" ")
            words.insert(rng.randrange(1, len(words)), "zorro")
            context = " ".join(words)
            answers = gold(context, "zorro")
            yield window_of(Question("Who is it?", context), answers), answers

    def tokens(windows):
        return pad_sequence([embedding[window.inputs["input_ids"]] for window in windows], batch_first=True)

    head = objective.head(("start", "end"), 64)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    windows = [window for found, _ in examples(12, 0) for window in found]
    targets = [torch.tensor([window.target[side] for window in windows]) for side in (0, 1)]
    for _ in range(60):
        optimizer.zero_grad()
        objective.loss(head(tokens(windows)), targets).backward()
        optimizer.step()
    new = list(examples(12, 500))
    predictions = [objective.merge(found, objective.predict(head(tokens(found)))) for found, _ in new]
    assert max(len(found) for found, _ in new) > 1
    assert objective.score(predictions, [answers for _, answers in new])["exact_match"] >= 0.9


# --- the embedded set -------------------------------------------------------------------------------------------------


def trivial_scores(split):
    """Return the mean F1 of answers that look at no question, for comparison with what is learnt on a split."""
    objective = Spans()
    answers = {
        "first five words": lambda context: " ".join(context.split()[:5]),
        "first sentence": lambda context: re.split(r"(?<=[.!?])\s", context, maxsplit=1)[0],
        "whole context": lambda context: context,
    }
    return {
        name: objective.score(
            [Span(0, 0, answer(example.context), 0.0, 0.0) for example in split.examples], split.targets
        )["f1"]
        for name, answer in answers.items()
    }


@pytest.fixture
def carrier(tmp_path, monkeypatch):
    """Let small files stand in for those of the carrier; an answer of each is misplaced."""

    def benchmark_file(path):
        start = 1000 * sum(map(ord, path))
        content = squad_json(articles=10, start=start)
        content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += 1
        return write(tmp_path / path, content)

    monkeypatch.setattr("zipeft.tasks.squad.sets.benchmark_files", lambda *paths: list(map(benchmark_file, paths)))


def test_the_embedded_set_is_tested_on_other_domains_too(carrier):
    data = SQuAD(shifted_questions=7).load("squad-dev")
    assert [len(split_of(data, split)) for split in SPLITS] == [36, 12, 12]
    assert {name: len(split) for name, split in data.shifted.items()} == dict.fromkeys(SHIFTED, 7)
    assert "other domains: 7 of 60 new_wiki, 7 of 60 nyt, 7 of 60 reddit, 7 of 60 amazon; parts chosen" in data.note
    assert "1 in squaddev_v1.1.json, 1 in new_wiki_v1.0.json" in data.note
    assert data.source == "carrier bigbench 1.0.0"
    fewer = SQuAD(shifted=("reddit",)).load("squad-dev")
    assert {name: len(split) for name, split in fewer.shifted.items()} == {"reddit": 60}
    assert everything(fewer) == everything(data)
    assert not SQuAD(shifted=()).load("squad-dev").shifted


@pytest.mark.slow
def test_the_embedded_set_is_the_development_set_split_by_article():
    data = SQuAD().load("squad-dev")
    parts = {split: split_of(data, split) for split in SPLITS}
    assert sum(map(len, parts.values())) == 10_565
    contexts = contexts_of(data)
    assert sum(map(len, contexts.values())) == len(set.union(*contexts.values())) == 2_067
    assert data.note.startswith(
        "the development set of SQuAD v1.1; 10,565 questions in 48 articles, split 60/20/20 by article with seed 0"
    )
    assert {name: len(split) for name, split in data.shifted.items()} == {
        "new_wiki": 7_936,
        "nyt": 10_056,
        "reddit": 9_767,
        "amazon": 9_877,
    }
    for part in parts.values():
        for example, answers in zip(part.examples, part.targets, strict=True):
            assert answers.texts
            for text, start in zip(answers.texts, answers.starts, strict=True):
                assert example.context.startswith(text, start)
    assert "15 in squaddev_v1.1.json, 8 in new_wiki_v1.0.json" in data.note
    assert "on contexts that" not in data.note
    assert max(trivial_scores(parts["test"]).values()) < 0.15
