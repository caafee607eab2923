"""Files of instructions: Alpaca's layout, conversations, and what is refused."""

from __future__ import annotations

import csv
import json
import re

import pyarrow
import pytest
from pyarrow import parquet

from support.instructions import CONVERSATION, SAID, alpaca, content, expected, write, write_lines
from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.api.sealed import TestKey
from zipeft.tasks.instruct.data import Instruction
from zipeft.tasks.instruct.task import Instruct


def write_json(path, records):
    return write(path, json.dumps(records, indent=1))


def write_csv(path, records):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("instruction", "input", "output"))
        writer.writeheader()
        writer.writerows(records)
    return path


def write_parquet(path, records):
    parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


FORMATS = {"jsonl": write_lines, "json": write_json, "csv": write_csv, "parquet": write_parquet}


@pytest.mark.parametrize("suffix", FORMATS)
def test_alpaca_is_read_in_every_format(tmp_path, suffix):
    for split, count in (("train", 9), ("validation", 4), ("test", 5), ("unseen", 3)):
        FORMATS[suffix](tmp_path / f"{split}.{suffix}", alpaca(count, split))
    data = Instruct(data_dir=tmp_path).load(tmp_path.name)
    assert data.source == f"folder {tmp_path.name}"
    for split, count in (("train", 9), ("validation", 4), ("test", 5)):
        assert content(split_of(data, split)) == expected(alpaca(count, split))
    key = TestKey("a test of zipeft")
    key.chosen("nothing is left to choose")
    assert content(data.shifted["unseen"].open(key)) == expected(alpaca(3, "unseen"))
    assert data.note == "records: 9 train, 4 validation, 5 test, 3 unseen"
    assert list(data.classes) == []


def test_columns_may_lack_inputs_and_have_capitals(tmp_path):
    records = [{"Instruction": f"say {index}", "Response": f" it {index}\n", "id": index} for index in range(20)]
    for suffix in ("json", "parquet"):
        data = Instruct(data_dir=FORMATS[suffix](tmp_path / f"data.{suffix}", records)).load("data")
        assert content(data.train)[0] == ("say 0", "", ("it 0",))


def as_sharegpt(messages):
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return [{"from": names[message["role"]], "value": message["content"]} for message in messages]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize("layout", ["messages", "conversations"])
def test_each_turn_of_the_assistant_is_an_example_with_what_stands_before_it(tmp_path, suffix, layout):
    messages = CONVERSATION if layout == "messages" else as_sharegpt(CONVERSATION)
    records = [{layout: messages}, {layout: messages[1:3]}]
    FORMATS[suffix](tmp_path / f"train.{suffix}", records)
    others = [[{"role": "user", "content": f"so {n}"}, {"role": "assistant", "content": "ok"}] for n in range(2)]
    for split, other in zip(("validation", "test"), others, strict=True):
        write_lines(tmp_path / f"{split}.jsonl", [{"messages": other}])
    data = Instruct(data_dir=tmp_path, template="chat").load(tmp_path.name)
    said = tuple((message["role"], message["content"]) for message in CONVERSATION)
    assert list(data.train.examples) == [
        Instruction("hi", "", said[:1], "train/1.1"),
        Instruction("who?", "", said[:3], "train/1.2"),
        Instruction("hi", "", (), "train/2.1"),
    ]
    assert data.train.targets == [("hello",), ("me",), ("hello",)]
    assert data.train.names == ["train/1.1", "train/1.2", "train/2.1"]
    message = refusal(Instruct(data_dir=tmp_path).load, tmp_path.name)
    assert message.startswith("train/1.1 comes after other messages")
    assert message.endswith("set instruct.template=chat")


def turns(*roles):
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


GOOD = {"instruction": "say it", "input": "", "output": "it"}


DOLLY = [
    {
        "instruction": f"What colour is the object in note {number}?",
        "context": f"Note {number}: the lamp is painted green.",
        "response": "The lamp is green.",
        "category": "closed_qa",
    }
    for number in range(20)
]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_a_context_is_an_input(tmp_path, suffix):
    records = [*DOLLY, {**DOLLY[0], "instruction": "And now?", "context": ""}]
    data = Instruct(data_dir=FORMATS[suffix](tmp_path / f"data.{suffix}", records)).load("data")
    found = {example.instruction: example.input for split in SPLITS for example in split_of(data, split).examples}
    assert found == {record["instruction"]: record["context"] for record in records}


@pytest.mark.parametrize(
    "beside",
    [
        {"prompt": "### Instruction:\nsay it\n### Response:"},
        {"prompt": "", "completion": None, "history": [], "tools": "[]", "system": " "},
        {"context": None},
        {"answer": "it"},
        {"text": "whatever", "category": "x", "id": 3},
        {"question": "say it"},
    ],
)
def test_a_column_that_says_nothing_more_is_passed_over(tmp_path, beside):
    records = [{**GOOD, "input": str(number), **beside} for number in range(20)]
    plain = [{**GOOD, "input": str(number)} for number in range(20)]
    read = [Instruct(data_dir=write_lines(tmp_path / "data.jsonl", some)).load("data") for some in (records, plain)]
    assert read[0].checksum == read[1].checksum


@pytest.mark.parametrize(
    "record", [GOOD, {"messages": SAID["messages"]}, {"conversations": as_sharegpt(CONVERSATION[1:])}]
)
def test_what_the_system_says_stands_before_all_else(tmp_path, record):
    records = [{**record, "system": f"be {number}"} for number in range(20)]
    data = Instruct(data_dir=write_lines(tmp_path / "data.jsonl", records), template="chat").load("data")
    firsts = {example.history[0] for split in SPLITS for example in split_of(data, split).examples}
    assert firsts == {("system", f"be {number}") for number in range(20)}
    both = {"messages": CONVERSATION, "system": "be brief"}
    message = refusal(Instruct(data_dir=write_lines(tmp_path / "data.jsonl", [both])).load, "data")
    assert "has a system beside its messages and in them: take one out" in message


def test_a_content_in_parts_is_one_text(tmp_path):
    parts = [{"type": "text", "text": "say "}, {"type": "text", "text": "it"}]
    records = [
        {
            "messages": [
                {"role": "user", "content": [*parts, {"type": "text", "text": f" {n}"}]},
                {"role": "assistant", "content": parts},
            ]
        }
        for n in range(20)
    ]
    for suffix in ("jsonl", "parquet"):
        data = Instruct(data_dir=FORMATS[suffix](tmp_path / f"data.{suffix}", records), template="chat").load("data")
        found = {example.instruction for split in SPLITS for example in split_of(data, split).examples}
        assert found == {f"say it {n}" for n in range(20)}


def test_a_template_without_a_place_for_inputs_is_refused_where_there_are_some(tmp_path):
    file = write_lines(tmp_path / "data.jsonl", alpaca(20)[1:])
    message = refusal(Instruct(data_dir=file, template="Q: {instruction}").load, "data")
    assert re.match(r"data/\d+ has an input, for which the template has no place: add {input}", message)
    without = [record for record in alpaca(40) if not record.get("input")]
    assert Instruct(data_dir=write_lines(file, without), template="Q: {instruction}").load("data")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({**GOOD, "output": "  "}, "line 2 has an empty response: correct it, or set instruct.skip_empty=true"),
        ({**GOOD, "output": None}, "line 2 has no output: add it"),
        ({**GOOD, "output": 3}, "line 2 has an output that is no text (3): give a string"),
        ({**GOOD, "input": ["x"]}, "line 2 has an input that is no text (['x'])"),
        ({**GOOD, "instruction": "\n"}, "line 2 has an empty instruction"),
        ({**GOOD, "output": "\ud800"}, "line 2 has half of a surrogate pair in its output"),
        ({"instruction": "x", "outptu": "y"}, "line 2 has no column output or response; did you mean 'outptu'?"),
        ({**GOOD, "input": "a", "context": "b"}, "line 2 has both an input and a context: join them"),
        ({**GOOD, "history": [["hi", "ho"]]}, "line 2 has a history, which is not read: write the record as messages"),
        ({**GOOD, "prompt": "Be brief."}, "line 2 has a prompt, which is not read"),
        ({**GOOD, "completion": "No."}, "line 2 has a completion, which is not read"),
        ({**GOOD, "answer": ["x"]}, "line 2 has an answer, which is not read"),
        ({"prompt": "x"}, "line 2 has no column messages or conversations or instruction (there: prompt)"),
        ("x", "line 2 is not a JSON object"),
    ],
)
def test_a_record_that_is_none_is_named(tmp_path, record, said):
    file = write_lines(tmp_path / "data.jsonl", [GOOD, record])
    assert refusal(Instruct(data_dir=file).load, "data").startswith(f"{file}, {said}")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (turns("user", "user"), ", message 2 is of the user where the assistant should speak"),
        (turns("assistant"), ", message 1 is of the assistant where the user should speak"),
        (turns("user", "assistant", "assistant"), ", message 3 is of the assistant where the user should speak"),
        (turns("user", "system", "assistant"), ", message 2 is of the system where the assistant should speak"),
        (turns("user", "tool"), ", message 2 has the role 'tool': give system, user or assistant"),
        (turns("user"), " has no message of the assistant"),
        ({"messages": []}, " has no message of the assistant"),
        ({"messages": "hi"}, " has messages that are no list"),
        ({**SAID, "tools": [{"name": "f"}]}, " has tools, which is not read: write the record as messages"),
        ({**SAID, "system": 3}, " has a system that is no text (3)"),
        ({"messages": [{"role": "user", "content": 5}]}, ", message 1 has a content that is no text (5)"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            ", message 1 has a part of the type 'image_url': texts alone can be read",
        ),
        ({"messages": [{"role": "user", "content": ["x"]}]}, ", message 1 has a part of the type None"),
        ({"messages": ["hi"]}, ", message 1 is no JSON object"),
        ({"messages": [{"role": "user"}]}, ", message 1 has no content"),
        ({"messages": [{"role": "user", "content": " "}, *turns("assistant")["messages"]]}, ", message 1 has an empty"),
        ({"messages": [*turns("user")["messages"], {"role": "assistant", "content": ""}]}, " has an empty response"),
        (GOOD, " has no column messages or conversations"),
    ],
)
def test_a_conversation_that_is_none_is_named(tmp_path, record, said):
    file = write_lines(tmp_path / "data.jsonl", [SAID, record])
    message = refusal(Instruct(data_dir=file, template="chat").load, "data")
    assert message.startswith(f"{file}, line 2{said}")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("data.json", '[{"instruction": "x", "output": "y"}', " is not valid JSON (Expecting ',' delimiter"),
        ("data.jsonl", '{"instruction": "x", "output": "y"}\n{"instr', ", line 2 is not valid JSON"),
        ("data.jsonl", b'{"instruction": "\xff", "output": "y"}', ", line 1 is not UTF-8: convert the file"),
        ("data.csv", "instruction,output\nx,y\nx,y,z\n", ", line 3 has 3 columns, not 2"),
        ("data.csv", "prompt,output\nx,y\n", " has no column messages or conversations or instruction (there: prompt"),
        ("data.parquet", "no parquet", " cannot be read as parquet"),
        ("data.jsonl", "", " has no rows"),
        ("data.txt", "x", " is of no known kind: give .tsv, .csv, .json, .jsonl, .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, text, said):
    file = write(tmp_path / name, text)
    assert refusal(Instruct(data_dir=file).load, "data").startswith(f"{file}{said}")


def test_a_folder_without_training_data_is_refused(tmp_path):
    message = refusal(Instruct(data_dir=tmp_path).load, tmp_path.name)
    assert message.startswith(f"{tmp_path} has no train file (.tsv, .csv, .json, .jsonl, .parquet)")
    write_lines(tmp_path / "train.jsonl", alpaca(9))
    write_lines(tmp_path / "train.json", alpaca(9))
    assert "keep one of them" in refusal(Instruct(data_dir=tmp_path).load, tmp_path.name)


def test_empty_responses_are_left_out_and_counted_where_that_is_asked_for(tmp_path):
    records = [*alpaca(20), {**GOOD, "output": ""}, {"instruction": "x", "output": " "}]
    data = Instruct(data_dir=write_lines(tmp_path / "data.jsonl", records), skip_empty=True).load("data")
    assert sum(len(split_of(data, split)) for split in SPLITS) == 20
    assert data.note.startswith("2 records with an empty response left out; test cut")
    chats = [SAID, {"messages": [*SAID["messages"], {"role": "user", "content": "so?"}, turns("assistant")]}]
    chats[1]["messages"][-1] = {"role": "assistant", "content": ""}
    folder = tmp_path / "chats"
    write_lines(folder / "train.jsonl", chats)
    for split in ("validation", "test"):
        write_lines(folder / f"{split}.jsonl", [SAID])
    folder = Instruct(data_dir=folder, template="chat", skip_empty=True)
    assert "also in training, word for word: give other test data" in refusal(folder.load, "chats")


def test_what_is_no_record_is_left_out_and_counted_where_that_is_asked_for(tmp_path):
    chats = [
        {"conversations": as_sharegpt([{"role": "user", "content": f"say {n}"}, CONVERSATION[2]])} for n in range(20)
    ]
    broken = [
        {"conversations": as_sharegpt(CONVERSATION[2:])},
        {"conversations": []},
        {"conversations": [{"from": "x"}]},
    ]
    file = write_json(tmp_path / "data.json", [*chats[:10], *broken, *chats[10:]])
    message = refusal(Instruct(data_dir=file, template="chat").load, "data")
    assert message.startswith(f"{file}, row 11, message 1 is of the assistant where the user should speak")
    assert message.endswith("; instruct.skip_broken=true leaves such records out")
    data = Instruct(data_dir=file, template="chat", skip_broken=True).load("data")
    assert sum(len(split_of(data, split)) for split in SPLITS) == 20
    assert data.note.startswith("3 broken records left out; test cut")
    write_json(file, broken)
    message = refusal(Instruct(data_dir=file, template="chat", skip_broken=True).load, "data")
    assert message.startswith(f"all records for train are broken: {file}, row 1, message 1 is of the assistant")
