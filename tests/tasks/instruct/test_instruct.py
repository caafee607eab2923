"""The task of instruction tuning: tokens of prompts and responses, templates, files, and the embedded subtasks."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import chain, product

import datasets
import pyarrow
import pytest
import torch
from pyarrow import parquet

from support.characters import BOS, CHARACTERS, CHAT, EOS, JOINT, PAD, tokenizer
from support.pictures import SPLITS, refusal
from support.result_factory import make_result
from support.toys import ToyDecoder, registered, split_of
from zipeft.api.data import NO_LABEL
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.sealed import TestKey
from zipeft.api.settings import as_json, from_json, override
from zipeft.registry import tasks
from zipeft.results import differences
from zipeft.results import from_json as from_json_file
from zipeft.sources.hub_download import HubUnavailable, Repository
from zipeft.tasks.instruct.data import Instruction
from zipeft.tasks.instruct.files import REPOSITORY, REVISION
from zipeft.tasks.instruct.task import EMBEDDED, Instruct
from zipeft.tasks.instruct.windows import windows_of
from zipeft.text import templates
from zipeft.training.dataset import encode

ALPACA_WITH_INPUT = """\
Below is an instruction that describes a task, paired with an input that provides further context. Write a response \
that appropriately completes the request.

### Instruction:
Name it.

### Input:
A cat

### Response:"""

ALPACA_WITHOUT_INPUT = """\
Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
Name it.

### Response:"""


def ids(text: str) -> list[int]:
    """The ids of a text without ":y" in it, by hand."""
    return [CHARACTERS[character] for character in text]


@dataclass(frozen=True)
class Characters(ToyDecoder):
    """A backbone with the tokenizer of characters."""

    def tokenizer(self):
        return TOKENIZER

    def max_length(self):
        return 1000


TOKENIZER = tokenizer()


def window(example, references, template="alpaca", max_length=1000, refuse=False, of=None):
    (made,) = windows_of(of or TOKENIZER, template, max_length, refuse)(example, references)
    return made


def parts(made):
    """The ids of a window before its first label, and those that are labelled."""
    labels = made.inputs["labels"]
    assert made.inputs["attention_mask"].tolist() == [1] * len(labels)
    assert all(values.dtype == torch.int64 and values.dim() == 1 for values in made.inputs.values())
    labelled = labels != NO_LABEL
    assert torch.equal(labels[labelled], made.inputs["input_ids"][labelled])
    start = int(labelled.int().argmax())
    assert labelled[start:].all()
    return made.inputs["input_ids"][:start].tolist(), labels[start:].tolist()


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "prompt"), [("A cat", ALPACA_WITH_INPUT), ("", ALPACA_WITHOUT_INPUT)], ids=["input", "no input"]
)
def test_a_window_is_the_prompt_then_the_first_reference_and_one_end_token(given, prompt):
    made = window(Instruction("Name it.", given), ("yes: a cat", "other"))
    assert parts(made) == ([BOS, *ids(prompt)], [*ids("yes: a cat"), EOS])
    assert made.target == 0
    joint = TOKENIZER(prompt + "yes: a cat")["input_ids"]
    assert JOINT in joint  # what separate tokens are for: together, the prompt would end otherwise


@pytest.mark.parametrize("around", ["$A", "<s> $A", "<s> $A </s>", "$A </s> </s>"])
def test_what_a_tokenizer_puts_before_a_text_stays_and_what_it_puts_after_it_does_not(around):
    made = window(Instruction("a</s>"), ("b",), template="{instruction}", of=tokenizer(around=around))
    assert parts(made) == ([*([BOS] if "<s> " in around else []), *ids("a"), EOS], [*ids("b"), EOS])


def test_a_template_of_ones_own():
    template = r"Q: {instruction} [{input}] {{}}\nA:"
    templates.check(template)
    assert parts(window(Instruction("hm", "x {y}"), ("z",), template))[0] == [BOS, *ids("Q: hm [x {y}] {}\nA:")]
    assert parts(window(Instruction("hm"), ("z",), template))[0] == [BOS, *ids("Q: hm [] {}\nA:")]


def test_a_chat_template_says_how_a_response_begins_and_ends():
    history = (("system", "be kind"), ("user", "hi"), ("assistant", "hello"))
    made = window(Instruction("and", "now", history), ("yes",), "chat")
    prompt = [*ids("<system>be kind"), EOS, *ids("\n<user>hi"), EOS, *ids("\n<assistant>hello"), EOS]
    prompt += [*ids("\n<user>and\n\nnow"), EOS, *ids("\n<assistant>")]
    assert parts(made) == (prompt, [*ids("yes"), EOS])
    assert templates.prompt_ids(TOKENIZER, "chat", "and", "now", history) == prompt


def test_a_chat_template_without_an_end_gets_one():
    made = window(Instruction("hi"), ("yes",), "chat", of=tokenizer(chat=CHAT.replace("</s>", "|")))
    assert parts(made) == (ids("<user>hi|\n<assistant>"), [*ids("yes|"), EOS])


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        (None, "the tokenizer of the backbone has no chat template: set instruct.template=alpaca"),
        ("{{ raise_exception('only\nsystem') }}", "refuses it (only system)"),
        ("{{ messages | length }}", "does not put a response where it asks for one"),
        (CHAT.replace("<assistant>", "<think>"), "does not put a response where it asks for one"),
        ("<{{ messages[0].content }}>", "does not put a response where it asks for one"),
    ],
)
def test_a_chat_template_that_does_not_go_is_refused(chat, said):
    message = refusal(window, Instruction("hi", name="chats/7.1"), ("yes",), "chat", of=tokenizer(chat=chat))
    assert message.startswith("chats/7.1: ")
    assert said in message


def test_a_tokenizer_without_an_end_token_is_refused():
    assert "has no end token" in refusal(windows_of, tokenizer(end=False), "alpaca", 100, False)


def test_what_is_too_long_loses_its_end_or_is_refused():
    example, prompt = Instruction("abc", name="chats/7"), [BOS, *ids("abc")]
    whole = [*ids("defg"), EOS]
    for length in range(5, 12):
        made = window(example, ("defg",), "{instruction}", length)
        assert parts(made) == (prompt, whole[: length - 4])
    assert parts(window(example, ("defg",), "{instruction}", 9, refuse=True)) == (prompt, whole)
    message = refusal(window, example, ("defg",), "{instruction}", 8, refuse=True)
    assert message.startswith("chats/7 has 9 tokens, more than max_length, which is 8: raise it")
    for refuse in (True, False):
        message = refusal(window, example, ("defg",), "{instruction}", 4, refuse=refuse)
        assert message.startswith("chats/7 has a prompt of 4 tokens, which leaves no room for a response")


def test_no_answer_leaves_what_the_backbone_takes():
    task = Instruct(max_length=990, max_new_tokens=11)
    assert "990 and max_new_tokens 11 are more than the 1000 tokens" in refusal(task.windows, Characters())
    assert Instruct(max_length=990, max_new_tokens=10).windows(Characters())


def test_a_batch_gives_the_prompts_back_as_they_were_trained_on(tmp_path):
    backbone, task = Characters(), Instruct(data_dir=write_lines(tmp_path / "data.jsonl", alpaca(30)))
    data = task.load("data")
    encoded = encode(data.train, task.windows(backbone), backbone)
    batch = backbone.collate([encoded.window(index).inputs for index in range(4)])
    prompts = backbone.prompt_ids(batch)
    for row, mask, example in zip(prompts["input_ids"], prompts["attention_mask"], data.train.examples, strict=False):
        assert row[mask == 0].eq(PAD).all()
        assert (mask.diff() >= 0).all()  # padded on the left alone
        asked = templates.fill("alpaca", example.instruction, example.input)
        assert row[mask == 1].tolist() == [BOS, *ids(asked)]
        asked = (example.instruction, example.input)
        assert row[mask == 1].tolist() == templates.prompt_ids(TOKENIZER, "alpaca", *asked)
    labels = [row[row != NO_LABEL].tolist() for row in batch["labels"]]
    assert labels == [[*ids(references[0]), EOS] for references in data.train.targets[:4]]


# --- the task ---------------------------------------------------------------------------------------------------------


def test_it_is_found_by_name():
    assert tasks.get("instruct") is Instruct


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task_and_the_protocol(preset):
    chosen = Instruct.presets[preset]
    assert Instruct(**chosen.task).datasets() == (EMBEDDED,)
    assert TrainingProtocol(**chosen.protocol).epochs >= 1
    assert chosen.seeds >= 3


def test_published_averages_are_those_of_the_columns():
    costs, scores = Instruct.published
    for table in (costs, scores):
        assert {len(row) for row in table.rows.values()} == {len(table.columns)}
        assert "LLaMA-7B" in table.title
        assert "other data" in table.source
    for row in scores.rows.values():
        average, *each = map(float, row[2:])
        assert sum(each) / len(each) == pytest.approx(average, abs=0.06)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"source": "hub", "data_dir": "/data"}, "source is hub and data_dir is set: drop one"),
        ({"source": "hub", "repository": ""}, "repository is empty"),
        ({"overlong": "drop"}, "'drop' is not one of cut, refuse"),
        ({"max_length": "0"}, "max_length is 0: give 1 or more"),
        ({"max_new_tokens": "0"}, "max_new_tokens is 0: give 1 or more"),
        ({"unseen_examples": "-1"}, "unseen_examples is -1"),
        ({"split_seed": "-1"}, "split_seed is -1"),
        ({"instructions": "some"}, "'some' is not one of prompt, definition, full"),
        ({"template": "alpca"}, "did you mean 'alpaca'?"),
        ({"template": "Q: {input} A:"}, "has no field {instruction}: the prompt needs it"),
        ({"template": "{{instruction}}"}, "has no field {instruction}: the prompt needs it"),
        ({"template": ""}, "has no field {instruction}: give alpaca, chat, or a text with the field"),
        ({"template": "{instruction} {output}"}, "has the field {output}: it may have {instruction} and {input}"),
        ({"template": "{instruction} {}"}, "has the field {}: it may have"),
        ({"template": "{instruction.format}"}, "has the field {instruction.format}"),
        ({"template": "{instruction!r}"}, "has a field with a format"),
        ({"template": "{instruction:>{input}}"}, "has a field with a format"),
        ({"template": "{instruction} }"}, "has a stray brace (Single '}' encountered in format string)"),
        ({"template": "{instruction} {\n"}, "has a stray brace"),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(lambda: override(Instruct, values).datasets())


def test_how_answers_are_scored_is_on_record_and_no_setting():
    assert as_json(Instruct())["scoring"] == 2
    assert "has no setting 'scoring'" in refusal(override, Instruct, {"scoring": "1"}, "instruct")
    older = {name: value for name, value in as_json(Instruct()).items() if name != "scoring"}
    for values in (older, {**older, "scoring": 1}, as_json(Instruct())):  # as adapters have them
        assert from_json(Instruct, values) == Instruct()


def test_results_with_other_scores_of_answers_are_not_compared():
    now = as_json(Instruct())
    older = {name: value for name, value in now.items() if name != "scoring"}
    one, other = (make_result(**{"task.settings": settings}) for settings in (older, now))
    assert from_json_file(one.to_json()) == one
    assert one.comparability != other.comparability
    assert differences(one, other) == ["scoring unset / 2"]


def test_another_data_set_is_refused():
    assert "no data set 'alpaca', only 'natural-instructions'" in refusal(Instruct().load, "alpaca")


# --- files ------------------------------------------------------------------------------------------------------------


def alpaca(count, kind="row"):
    """Records of Alpaca's layout; every third has an empty input, and every third but one has none at all."""
    made = []
    for index in range(count):
        record = {"instruction": f"{kind} {index}: say it", "input": "", "output": f"it, {index}"}
        if index % 3 == 0:
            record["input"] = f"it {kind} {index}"
        elif index % 3 == 1:
            del record["input"]
        made.append(record)
    return made


def expected(records):
    return [(record["instruction"], record.get("input", ""), (record["output"],)) for record in records]


def content(split):
    return [
        (example.instruction, example.input, references)
        for example, references in zip(split.examples, split.targets, strict=True)
    ]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_lines(path, records):
    return write(path, "".join(json.dumps(record) + "\n" for record in records))


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


CONVERSATION = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "who?"},
    {"role": "assistant", "content": "me"},
]


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
SAID = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


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


# --- splits -----------------------------------------------------------------------------------------------------------


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


# --- the hub ----------------------------------------------------------------------------------------------------------


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


# --- from the data to a result ----------------------------------------------------------------------------------------


def test_records_whose_prompts_leave_no_room_are_left_out_and_counted(tmp_path):
    """Prompts of 2 to 31 tokens, the one that begins a text among them."""
    records = [{"instruction": chr(97 + n % 26) * n, "output": "yes"} for n in range(1, 31)]
    file = write_lines(tmp_path / "long.jsonl", records)
    task = Instruct(data_dir=file, template="{instruction}", max_length=20)
    whole, data = task.load("long"), task.load_for("long", Characters())
    assert sum(map(len, (whole.train, whole.validation, split_of(whole, "test")))) == 30
    splits = [data.train, data.validation, split_of(data, "test")]
    assert {len(example.instruction) for split in splits for example in split.examples} <= set(range(1, 19))
    assert sum(map(len, splits)) == 18
    assert "left out: 12 records whose prompt has 20 tokens or more" in data.note
    for split in splits:
        for example, references in zip(split.examples, split.targets, strict=True):
            (made,) = task.windows(Characters())(example, references)
            assert (made.inputs["labels"] != NO_LABEL).any()
            assert len(made.inputs["labels"]) <= 20
    refusing = Instruct(data_dir=file, template="{instruction}", max_length=20, overlong="refuse")
    assert len(refusing.load_for("long", Characters()).train) == len(whole.train)


def test_a_file_goes_through_a_run(tmp_path, monkeypatch, capsys):
    from zipeft.commands.evaluate import main as evaluate
    from zipeft.commands.run import main

    monkeypatch.chdir(tmp_path)
    words = ("good", "bad", "so", "very")
    records = [
        {"instruction": f"{one} {two}", "input": "the film", "output": f"it was {one}"}
        for one, two in product(words, words)
    ]
    arguments = ["--backbone", "toy_instruct", "--task", "instruct", "--device", "cpu", "--seeds", "1", "--steps", "1"]
    records += [{"instruction": "very " * (30 + n), "input": "the film", "output": "it was bad"} for n in range(16)]
    arguments += ["--data-dir", str(write_lines(tmp_path / "films.jsonl", records)), "--method", "untuned", "lora"]
    with registered():
        assert main([*arguments, "--set", "task.max_length=12"]) == 2
        assert "no train record has a prompt of less than 12 tokens: raise max_length" in capsys.readouterr().err
        assert main([*arguments, "--set", "task.max_length=12", "--set", "task.overlong=refuse"]) == 2
        assert re.search(r"films/\d+ has a prompt of \d+ tokens, which leaves no room", capsys.readouterr().err)
        short = ["--set", "task.max_length=12", "--set", "task.template={instruction} {input} end"]
        assert main([*arguments, *short, "--save-adapters", "kept"]) == 0
        capsys.readouterr()
        assert evaluate(["kept/toy_instruct-instruct/films/lora-seed0"]) == 0
        scores = capsys.readouterr().out
    results = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("*-seed*.json")]
    assert {record["method"]["name"] for record in results} == {"untuned", "lora"}
    for record in results:
        assert sum(record["task"]["sizes"].values()) == 16
        assert "left out: 16 records whose prompt has 12 tokens or more" in record["task"]["note"]
        if record["method"]["name"] == "lora":
            tested = record["task"]["sizes"]["test"]
            told = f"{tested} test examples: answer_probability {100 * record['test']['answer_probability']:.1f}"
            assert told in scores
        assert {"answer_probability", "rouge_l", "exact_match"} <= record["test"].keys()
        assert "film" not in json.dumps([record["predictions"], record["targets"]])
