"""Which articles and questions are in which split."""

from __future__ import annotations

import itertools
import re

import pytest

from support.pictures import SPLITS, refusal
from support.squad import (
    contexts_of,
    everything,
    load,
    rows_of,
    squad_json,
    write,
)
from support.toys import split_of
from zipeft.sources.hub_download import Repository
from zipeft.tasks.squad.task import SQuAD


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
