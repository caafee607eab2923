"""Where instructions come from: splits, and the hub."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import datasets
import pytest

from support.instructions import CONVERSATION, SAID, alpaca, content, expected, write_lines
from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.sources.hub_download import HubUnavailable, Repository
from zipeft.tasks.instruct.files import REPOSITORY, REVISION
from zipeft.tasks.instruct.task import Instruct


def local(tmp_path, records, **settings):
    return Instruct(data_dir=write_lines(tmp_path / "data.jsonl", records), **settings).load("data")


def names_of(data):
    return {split: list(split_of(data, split).names) for split in SPLITS}


def test_what_is_not_given_is_cut_from_the_training_data(tmp_path):
    data, again, other = (local(tmp_path, alpaca(200), split_seed=seed) for seed in (0, 0, 1))
    names = names_of(data)
    assert {split: len(some) for split, some in names.items()} == {"train": 162, "validation": 18, "test": 20}
    assert sorted(chain(*names.values())) == sorted(f"data/{number}" for number in range(1, 201))
    assert names == names_of(again)
    assert names["test"] == names_of(other)["test"]
    assert names["validation"] != names_of(other)["validation"]
    assert data.checksum == again.checksum != other.checksum
    assert data.note == (
        "test cut from the training data, 10%; validation cut from the training data, 10% with seed 0; "
        "records: 162 train, 18 validation, 20 test"
    )
    folder = tmp_path / "folder"
    write_lines(folder / "train.jsonl", alpaca(100))
    write_lines(folder / "test.jsonl", alpaca(7, "test"))
    data = Instruct(data_dir=folder).load("folder")
    assert [len(split_of(data, split)) for split in SPLITS] == [90, 10, 7]


def test_what_asks_for_the_same_is_on_one_side(tmp_path):
    records = [{"instruction": f"Say {index % 40}!", "output": f"{index}"} for index in range(200)]
    for index in range(0, 200, 2):
        records[index]["instruction"] = records[index]["instruction"].lower().replace("!", ".")
    data, seen = local(tmp_path, records), {}
    for split in SPLITS:
        for example in split_of(data, split).examples:
            asked = example.instruction.lower().strip(".!")
            assert seen.setdefault(asked, split) == split
    assert len(seen) == 40


def test_turns_of_a_conversation_are_on_one_side(tmp_path):
    def talk(number):
        roles = ("user", "assistant") * 3
        return {"messages": [{"role": role, "content": f"{number} {at}"} for at, role in enumerate(roles)]}

    data, seen = local(tmp_path, [talk(number) for number in range(40)], template="chat"), {}
    for split in SPLITS:
        for name in split_of(data, split).names:
            assert seen.setdefault(name.partition(".")[0], split) == split
    assert Counter(seen.values()) == {"train": 33, "validation": 3, "test": 4}


def test_too_few_records_to_cut_some_off_are_refused(tmp_path):
    assert "file data.jsonl has too few records to have one for validation" in refusal(local, tmp_path, alpaca(3))


def test_a_part_is_taken_by_seed_and_fewer_are_a_part_of_more(tmp_path):
    some, more, other = (
        local(tmp_path, alpaca(200), train_examples=count, test_examples=5, split_seed=seed)
        for count, seed in ((20, 0), (50, 0), (20, 1))
    )
    assert [len(split_of(some, split)) for split in SPLITS] == [20, 18, 5]
    assert set(some.train.names) < set(more.train.names)
    assert set(some.train.names) != set(other.train.names)
    assert "records: 20 of 162 train, 18 validation, 5 of 20 test, the part chosen with seed 0" in some.note


def test_test_records_in_the_training_data_are_told_and_refused_where_most_are(tmp_path):
    write_lines(tmp_path / "train.jsonl", alpaca(30))
    write_lines(tmp_path / "validation.jsonl", alpaca(5, "validation"))
    new = alpaca(6, "new")
    write_lines(tmp_path / "test.jsonl", [*new, *alpaca(5), *alpaca(1, "validation")])
    data = Instruct(data_dir=tmp_path).load(tmp_path.name)
    assert data.note.endswith("6 test records also in training, word for word")
    write_lines(tmp_path / "test.jsonl", [*new, *alpaca(7)])
    message = refusal(Instruct(data_dir=tmp_path).load, tmp_path.name)
    assert "7 of 13 test records are also in training, word for word" in message


def test_the_checksum_covers_all_that_is_asked_and_answered(tmp_path):
    sums = set()
    for change in ({}, {"input": "another"}, {"output": "another"}, {"instruction": "another"}):
        records = alpaca(30)
        records[0] |= change
        sums.add(local(tmp_path, records).checksum)
    assert len(sums) == 4


@pytest.fixture
def hub(monkeypatch):
    """A hub that has what is put into it, and says what it was asked for."""
    there, asked = {}, []

    def load_dataset(repository, revision=None):
        asked.append((repository, revision))
        if repository not in there:
            raise FileNotFoundError(f"Couldn't reach '{repository}' on the Hub\n(offline)")
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in there[repository]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(Repository, "ask", lambda _: None)
    return there, asked


def test_without_a_hub_what_is_in_the_cache_is_taken(hub, monkeypatch):
    def unreachable(*_):
        raise HubUnavailable("no route")

    there, _ = hub
    give, modes = datasets.load_dataset, []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *a, **k: (modes.append(datasets.config.HF_HUB_OFFLINE), give(*a, **k))[1]
    )
    monkeypatch.setattr(Repository, "ask", unreachable)
    assert "did not give tatsu-lab/alpaca (no route): connect" in refusal(Instruct(source="hub").load, "alpaca")
    there[REPOSITORY] = [("train", alpaca(40))]
    assert len(split_of(Instruct(source="hub").load("alpaca"), "train")) > 0
    assert modes == [True, True]
    assert not datasets.config.HF_HUB_OFFLINE


def test_alpaca_comes_from_the_hub_at_a_fixed_commit(hub):
    there, asked = hub
    rows = [{"input": "", **record, "text": "all of it"} for record in alpaca(40)]
    there[REPOSITORY] = [("train", rows)]
    task = Instruct(source="hub")
    assert task.datasets() == ("alpaca",)
    data = task.load("alpaca")
    assert asked == [(REPOSITORY, REVISION)]
    assert data.source == f"hub tatsu-lab/alpaca@{REVISION[:7]}"
    found = sorted(chain(*(content(split_of(data, split)) for split in SPLITS)))
    assert found == sorted(expected(alpaca(40)))
    rows[6]["output"] = ""
    assert refusal(task.load, "alpaca").startswith("tatsu-lab/alpaca, train, row 7 has an empty response")


def test_conversations_come_from_the_hub_with_their_splits(hub):
    there, asked = hub
    there["who/chats"] = [("train", [SAID]), ("validation", [{"messages": CONVERSATION[1:3]}]), ("extra", [SAID])]
    there["who/chats"].append(("test", [{"messages": CONVERSATION}]))
    data = Instruct(source="hub", repository="who/chats", revision="v2", template="chat").load("chats")
    assert asked == [("who/chats", "v2")]
    assert (data.source, names_of(data)["test"]) == ("hub who/chats@v2", ["test/1.1", "test/1.2"])
    Instruct(source="hub", repository="who/chats", template="chat").load("chats")
    assert asked[-1] == ("who/chats", None)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            None,
            "the hub did not give who/data (FileNotFoundError: Couldn't reach 'who/data' on the Hub (offline)): ",
        ),
        ([("train_sft", [SAID])], "who/data has no split named train (there: train_sft)"),
        (
            [("train", [{"prompt": "x"}])],
            "who/data, train, row 1 has neither an instruction nor messages (there: prompt",
        ),
        ([("train", [{"instruction": "x"}])], "who/data, train, row 1 has no output"),
    ],
)
def test_what_the_hub_does_not_have_is_said(hub, rows, said):
    there, _ = hub
    if rows:
        there["who/data"] = rows
    assert refusal(Instruct(source="hub", repository="who/data").load, "data").startswith(said)
