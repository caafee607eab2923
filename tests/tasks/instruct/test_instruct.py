"""The task of instruction tuning: tokens of prompts and responses, templates, files, and the embedded subtasks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import product

import pytest

from support.characters import BOS, CHARACTERS, CHAT, EOS, JOINT, PAD, tokenizer
from support.instructions import alpaca, parts, write_lines
from support.pictures import refusal
from support.result_factory import make_result
from support.toys import ToyDecoder, registered, split_of
from zipeft.api.data import NO_LABEL
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.settings import as_json, from_json, override
from zipeft.registry import tasks
from zipeft.results import differences
from zipeft.results import from_json as from_json_file
from zipeft.tasks.instruct.data import Instruction
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
