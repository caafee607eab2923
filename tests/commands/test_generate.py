"""``zipeft generate``: answers to a prompt and to files of them, cut off and gone on with, and what is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch

from support import TESTS
from support.toys import WORDS, ToyDecoder, ToyInstructions, registered, toy_decoder_tokenizer
from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import save_adapter
from zipeft.api.learner import Learner
from zipeft.backbones.llama.backbone import Llama
from zipeft.commands.generate import main
from zipeft.generation.generator import Printer, TextGenerator, batches
from zipeft.generation.questions import Question, read_questions
from zipeft.judge.contest import read_contest
from zipeft.objectives.responses import Responses
from zipeft.registry import Named
from zipeft.tasks.instruct.data import Instruction
from zipeft.tasks.instruct.windows import windows_of
from zipeft.text.thoughts import without_thoughts

TEMPLATE = "{instruction} the {input} end"
NEW = 6


@dataclass(frozen=True)
class Templated(ToyInstructions):
    """The toy with a template, as the real task has one."""

    template: str = TEMPLATE


@pytest.fixture(autouse=True)
def toys():
    with registered():
        registry.tasks.register("templated", Templated)
        yield
        registry.tasks.unregister("templated")


def saved(folder, method="zero_gated", task="templated", backbone="toy_instruct"):
    """An adapter of which everything was drawn at random, gates included; the learner that it is of."""
    family, plugin = registry.backbones.get(backbone)(), registry.methods.get(method)()
    model = family.build().requires_grad_(False)
    plugin.apply(family, model)
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    learner = Learner(family, model, torch.nn.Identity(), Responses().read).eval()
    task_plugin = registry.tasks.get(task)()
    parts = Named(backbone, family), Named(method, plugin), Named(task, task_plugin)
    return save_adapter(folder, learner, AdapterRecord.of(*parts, "summaries", [], run="0123")), learner


def records(count=11):
    """Questions of different lengths, some of them with an input."""
    stream, made = random.Random(0), []
    for index in range(count):
        words = [" ".join(stream.choices(WORDS[4:], k=stream.randint(1, 9))) for _ in range(2)]
        made.append({"id": f"q{index}", "instruction": words[0]} | ({"input": words[1]} if index % 3 else {}))
    return made


def written(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def run(*arguments):
    return main([str(argument) for argument in arguments])


def asking(prompts, out):
    """What asks the backbone the prompts of a file."""
    backbone = ("--backbone", "toy_instruct", "--template", TEMPLATE, "--max-new-tokens", NEW)
    return (*backbone, "--file", prompts, "--out", out)


def of_backbone(prompts, out, *options):
    return run(*asking(prompts, out), *options)


def prompt_of(backbone, template, record):
    return TextGenerator(backbone, None, template, NEW).prompt_ids(
        Question(1, record["instruction"], record.get("input", ""))
    )


def expected(learner, record, new=NEW):
    """The answer by the backbone's own means, without padding and cache."""
    ids = torch.tensor([prompt_of(learner.backbone, TEMPLATE, record)])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    (answer,) = learner.backbone.generate(learner.model, inputs, new, use_cache=False)
    return learner.backbone.tokenizer().decode(answer, skip_special_tokens=True), len(answer)


def fails(capsys, *arguments):
    """The line in which a call is refused."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.rpartition("zipeft: error: ")[2]  # behind a progress bar, perhaps
    assert line.count("\n") == 1
    return line


# --- one prompt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["zero_gated", "prompt", "prefix", "lora", "untuned"])
def test_an_adapter_answers_as_its_learner_does(method, tmp_path, capsys):
    folder, learner = saved(tmp_path, method)
    answer, tokens = expected(learner, {"instruction": "it was good", "input": "film"})
    assert run(folder, "it was good", "--input", "film", "--max-new-tokens", NEW) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{answer}\n"
    assert captured.err.startswith(f"{tokens} tokens, ")
    assert captured.err.endswith(" tokens/s\n")


def test_words_may_stand_between_options(tmp_path, capsys):
    folder, _ = saved(tmp_path)
    run(folder, "it was good", "--max-new-tokens", NEW)
    expected = capsys.readouterr().out
    assert run("--max-new-tokens", NEW, folder, "--seed", 3, "it was good") == 0
    assert capsys.readouterr().out == expected != ""


def test_a_backbone_answers_as_it_is_by_alpacas_template_if_it_has_none(capsys):
    assert run("--backbone", "toy_instruct", "good film", "--max-new-tokens", NEW) == 0
    plain = capsys.readouterr().out
    assert run("--backbone", "toy_instruct", "good film", "--max-new-tokens", NEW, "--template", "alpaca") == 0
    assert capsys.readouterr().out == plain
    assert run("--backbone", "toy_instruct", "good film", "--max-new-tokens", NEW, "--template", "{instruction}") == 0
    assert capsys.readouterr().out != plain


def test_a_temperature_draws_by_the_seed(tmp_path, capsys):
    folder, _ = saved(tmp_path)

    def drawn(*options):
        assert run(folder, "good", "--max-new-tokens", 20, *options) == 0
        return capsys.readouterr().out

    likeliest, hot = drawn(), ("--temperature", 3)
    assert drawn(*hot) == drawn(*hot) != drawn(*hot, "--seed", 1)
    assert drawn(*hot, "--top-p", 1e-6) == drawn("--temperature", 1e-4) == likeliest != drawn(*hot)


CHAT = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} [SEP]{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


@pytest.mark.parametrize("template", ["alpaca", "{instruction} so {input}", "chat"])
def test_a_prompt_is_what_stood_before_responses_in_training(template, monkeypatch):
    tokenizer, backbone = toy_decoder_tokenizer(), ToyDecoder()
    monkeypatch.setattr(tokenizer, "chat_template", CHAT)
    windows = windows_of(tokenizer, template, max_length=200, refuse_overlong=True)
    monkeypatch.setattr(ToyDecoder, "max_length", lambda self: 200)
    for record in records():
        (window,) = windows(Instruction(record["instruction"], record.get("input", "")), ("good end",))
        trained = backbone.prompt_ids(backbone.collate([window.inputs]))["input_ids"][0].tolist()
        assert prompt_of(backbone, template, record) == trained


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        ("so good", ["s", "so", "so", "so g", "so go", "so goo", "so good", "so good\n"]),
        ("<think>hm</think>good", [*[""] * 17, "g", "go", "goo", "good", "good\n"]),
        ("<think>hm", [*[""] * 9, "\n"]),
    ],
)
def test_an_answer_is_written_without_thoughts_while_it_is_made(ids, shown, capsys):
    def text(ids):
        return without_thoughts("".join(map(chr, ids))).strip()

    printer, written = Printer(text), ""
    printer.put(torch.tensor([[9, 9, 9]]))  # the prompt
    codes = list(map(ord, ids))
    for at, code in enumerate(codes):
        printer.put(torch.tensor([code]))
        written += capsys.readouterr().out
        assert written == shown[at]
    printer.finish(codes)
    assert written + capsys.readouterr().out == shown[-1]


def test_a_part_of_a_character_is_not_written(capsys):
    printer = Printer(lambda ids: bytes(ids).decode(errors="replace"))
    printer.put(torch.tensor([[9]]))
    for code in "aé".encode():
        printer.put(torch.tensor([code]))
    printer.finish(list("aé".encode()))
    assert capsys.readouterr().out == "aé\n"


@pytest.mark.parametrize(("terminal", "shown"), [(True, r"a\x1b[2J"), (False, "a\x1b[2J")])
def test_an_answer_does_not_command_the_terminal_and_goes_elsewhere_as_it_is(terminal, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    Printer(lambda ids: "a\x1b[2J").finish([1])
    assert capsys.readouterr().out == f"{shown}\n"


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 20])
def test_each_of_a_file_is_answered_as_alone(size, tmp_path, capsys):
    folder, learner = saved(tmp_path / "mine")
    prompts, out = written(tmp_path / "prompts.jsonl", records()), tmp_path / "new" / "answers.jsonl"
    assert run(folder, "--file", prompts, "--out", out, "--max-new-tokens", NEW, "--batch-size", size) == 0
    answers = {answer["id"]: answer for answer in read(out)}
    assert len(answers) == len(read(out)) == len(records())
    for record in records():
        answer, tokens = expected(learner, record)
        assert record.items() <= answers[record["id"]].items()
        assert (answers[record["id"]]["answer"], answers[record["id"]]["tokens"]) == (answer, tokens)
    assert {answer["model"] for answer in answers.values()} == {"mine"}
    assert len({answer["answer"] for answer in answers.values()}) > 3
    assert "11 answers" in capsys.readouterr().err


def test_batches_hold_every_prompt_once_and_those_of_a_length_together():
    prompts = [[0] * length for length in (3, 9, 1, 9, 4, 2, 8)]
    made = list(batches(prompts, 3))
    assert sorted(index for batch in made for index in batch) == list(range(7))
    assert [[len(prompts[index]) for index in batch] for batch in made] == [[9, 9, 8], [4, 3, 2], [1]]


LAYOUTS = {
    "fastchat.jsonl": '{"question_id": 1, "text": "it was", "category": "c"}\n{"id": 2, "turns": ["so good"]}\n',
    "alpaca.json": '[{"instruction": "it was", "input": "", "output": "x"}, {"instruction": "so good"}]',
    "table.csv": "instruction,category\nit was,c\nso good,\n",
    "marked.jsonl": '\ufeff{"Instruction": " it was "}\r\n\r\n{"instruction": "so good", "id": null, "input": null}',
}


LINES = {"table.csv": [2, 3], "marked.jsonl": [1, 3]}
"""Where there are no ids, on which lines the questions stand, unless they are the first two."""


@pytest.mark.parametrize("name", LAYOUTS)
def test_questions_come_in_several_layouts(name, tmp_path):
    path = tmp_path / name
    path.write_text(LAYOUTS[name])
    questions = read_questions(path)
    assert [(question.instruction, question.input) for question in questions] == [("it was", ""), ("so good", "")]
    assert [question.id for question in questions] == LINES.get(name, [1, 2])
    assert questions[0].category == ("c" if name in ("fastchat.jsonl", "table.csv") else "")


def test_the_judge_reads_what_was_answered(tmp_path):
    folder, _ = saved(tmp_path / "tuned")
    prompts = written(tmp_path / "prompts.jsonl", [{**record, "category": "toy"} for record in records()])
    plain, tuned = tmp_path / "plain.jsonl", tmp_path / "tuned.jsonl"
    assert of_backbone(prompts, plain) == 0
    assert run(folder, "--file", prompts, "--out", tuned, "--max-new-tokens", NEW) == 0
    contest = read_contest(plain, tuned)
    assert contest.names == ("toy", "tuned")
    assert [pair.category for pair in contest.pairs] == ["toy"] * len(records())
    told = {answer["id"]: answer["answer"] for answer in read(tuned)}
    assert {pair.id: pair.answers[1] for pair in contest.pairs} == {id: (answer,) for id, answer in told.items()}


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """How many prompts each call of the model took."""
    sizes, generate = [], Llama.generate

    def counting(self, model, inputs, *rest, **options):
        sizes.append(len(inputs["input_ids"]))
        return generate(self, model, inputs, *rest, **options)

    monkeypatch.setattr(Llama, "generate", counting)
    return sizes


@pytest.mark.parametrize("options", [(), ("--temperature", 2, "--seed", 5)], ids=["likeliest", "drawn"])
def test_a_file_cut_anywhere_ends_as_an_undisturbed_one(options, tmp_path, asked):
    prompts, out = written(tmp_path / "prompts.jsonl", records()), tmp_path / "answers.jsonl"
    options = ("--batch-size", 4, *options)
    assert of_backbone(prompts, out, *options) == 0
    whole = out.read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == 10]
    for cut in [0, 1, 9, 40, ends[0], ends[0] + 1, ends[3], ends[3] + 1, ends[4] + 30, len(whole) - 2, len(whole) - 1]:
        out.write_bytes(whole[:cut])
        asked.clear()
        assert of_backbone(prompts, out, *options) == 0
        assert out.read_bytes() == whole
        finished = sum(end <= cut for end in ends)  # with or without its line break
        assert asked == [size for size, end in ((4, 4), (4, 8), (3, 11)) if finished < end]
    assert of_backbone(prompts, out, *options) == 0
    assert out.read_bytes() == whole


def test_new_questions_join_a_file_of_answers(tmp_path, asked):
    prompts, out = written(tmp_path / "prompts.jsonl", records(5)), tmp_path / "answers.jsonl"
    assert of_backbone(prompts, out, "--batch-size", 1) == 0
    before = out.read_bytes()
    written(prompts, records(8))
    asked.clear()
    assert of_backbone(prompts, out, "--batch-size", 1) == 0
    assert out.read_bytes().startswith(before)
    assert len(asked) == 3
    assert sorted(answer["id"] for answer in read(out)) == sorted(record["id"] for record in records(8))


def test_an_interruption_keeps_what_was_answered(tmp_path, monkeypatch, capsys):
    prompts, out = written(tmp_path / "prompts.jsonl", records()), tmp_path / "answers.jsonl"
    assert of_backbone(prompts, out, "--batch-size", 4) == 0
    whole, generate, calls = out.read_bytes(), Llama.generate, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    monkeypatch.setattr(Llama, "generate", interrupted)
    out.unlink()
    assert of_backbone(prompts, out, "--batch-size", 4) == 130
    assert len(read(out)) == 8
    assert capsys.readouterr().err.endswith("zipeft: interrupted\n")
    assert of_backbone(prompts, out, "--batch-size", 4) == 0
    assert out.read_bytes() == whole


SCRIPT = """
import sys, time
from support.toys import registered
from zipeft.backbones.llama import Llama
from zipeft.commands.generate import main
generate = Llama.generate
def slowly(*arguments, **options):
    time.sleep(0.2)
    return generate(*arguments, **options)
Llama.generate = slowly
with registered():
    sys.exit(main())
"""


@pytest.mark.slow
def test_a_process_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path):
    prompts, out = written(tmp_path / "prompts.jsonl", records(40)), tmp_path / "answers.jsonl"
    arguments = [sys.executable, "-c", SCRIPT, *map(str, asking(prompts, out)), "--batch-size", "2"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    subprocess.run(arguments, env=environment, check=True)
    whole = out.rename(tmp_path / "whole.jsonl").read_bytes()
    stream, killed = random.Random(0), 0
    while killed < 3:
        before = size_of(out)
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
        while size_of(out) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(stream.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        killed += 1
    subprocess.run(arguments, env=environment, check=True)
    assert out.read_bytes() == whole


def size_of(path):
    return path.stat().st_size if path.exists() else 0


# --- what is refused --------------------------------------------------------------------------------------------------


QUESTIONS = {
    '{"instruction": "good"}\n{"instruction": ': "prompts.jsonl, line 2 is not valid JSON",
    '{"instruction": "good"}\n["good"]': "line 2 is not a JSON object",
    '{"prompt": "good"}': "line 1 has no column instruction or text or turns",
    '{"instruction": " "}': "line 1 has an empty instruction",
    '{"instruction": 5}': "line 1 has 5 for a text",
    '{"instruction": "good", "input": ["bad"]}': "line 1 has ['bad'] for a text",
    '{"turns": ["good", "so"]}': "line 1 has 2 turns",
    '{"turns": [1]}': "line 1 has 1 for a text",
    '{"id": 1, "text": "good"}\n{"question_id": "1", "text": "bad"}': "line 2 has the id '1' of ",
    '{"id": 1, "text": "a"}\n' * 3: "line 1, and 1 more have one of another: give each its own",
    '{"id": true, "text": "good"}': "line 1 has the id True",
    '{"id": 1.5, "text": "good"}': "line 1 has the id 1.5",
    '{"text": "\\ud800"}': "line 1 has half of a surrogate pair",
    "": "has no rows",
}


@pytest.mark.parametrize("content", QUESTIONS)
def test_questions_that_cannot_be_asked_are_named(content, tmp_path, capsys):
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text(content)
    line = fails(capsys, "--backbone", "toy_instruct", "--file", prompts, "--out", out)
    assert QUESTIONS[content] in line
    assert "prompts.jsonl" in line
    assert not out.exists()


def test_a_prompt_that_leaves_no_room_is_named_before_anything_is_asked(tmp_path, capsys, asked):
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    longest = ToyDecoder().max_length() - NEW - 3  # [CLS] before it; "the end" behind
    for words, status in ((longest, 0), (longest + 1, 2)):
        written(prompts, [{"instruction": "good"}, {"instruction": " ".join(["so"] * words)}])
        out.unlink(missing_ok=True)
        assert of_backbone(prompts, out) == status
    line = capsys.readouterr().err.rpartition("zipeft: error: ")[2]
    assert f"{prompts}, line 2 has {longest + 4} tokens as a prompt" in line
    assert len(asked) == 1
    assert not out.exists()


ANSWER = {
    **{"id": "q0", "instruction": records()[0]["instruction"], "answer": "so", "tokens": 1, "model": "toy"},
    "settings": {"template": TEMPLATE, "max_new_tokens": NEW},
}
FOREIGN = {
    "a question's": (records()[0], "line 1 is no answer"),
    "of no JSON": ("good", "line 1 is no answer"),
    "a list": ([ANSWER], "line 1 is no answer"),
    "of another question": ({**ANSWER, "id": "q77"}, "the question 'q77', which is not asked now"),
    "of another instruction": ({**ANSWER, "instruction": "so"}, "line 1 has the instruction 'so' where it now is"),
    "of an input": ({**ANSWER, "id": "q1"}, "line 1 has the instruction"),
    "of another model": ({**ANSWER, "model": "gpt"}, "line 1 has the model 'gpt' where it now is 'toy'"),
    "of other settings": (
        {**ANSWER, "settings": {"template": TEMPLATE, "max_new_tokens": 7}},
        "line 1 has the max_new_tokens 7 where it now is 6",
    ),
    "of no settings": ({**ANSWER, "settings": None}, "line 1 has the template None"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_other_answers_is_left_as_it_is(kind, tmp_path, capsys, asked):
    content, message = FOREIGN[kind]
    prompts, out = written(tmp_path / "prompts.jsonl", records()), tmp_path / "answers.jsonl"
    before = written(out, [content]).read_bytes()
    line = fails(capsys, *asking(prompts, out))
    assert message in line
    assert "give another --out" in line
    assert out.read_bytes() == before
    assert asked == []


def test_lines_that_are_wrong_elsewhere_are_named(tmp_path, capsys):
    prompts, out = written(tmp_path / "prompts.jsonl", records()), tmp_path / "answers.jsonl"
    line = json.dumps(ANSWER)
    for content, message in {
        f"{line}\n{line}\n": "line 2 answers the question 'q0', which is answered before",
        f"{line}\n{line[:20]}\n{line}\n": "line 2 is no answer",
        f"{line}\nPK\x03": "line 2 is no answer",
    }.items():
        out.write_text(content)
        assert message in fails(capsys, *asking(prompts, out))
        assert out.read_text() == content


def test_two_processes_do_not_write_one_file(tmp_path, capsys):
    from zipeft.generation.answer_file import AnswerFile

    prompts, out = written(tmp_path / "prompts.jsonl", records()), tmp_path / "answers.jsonl"
    with AnswerFile(out, [], {}):
        assert "is in use by another process" in fails(capsys, *asking(prompts, out))
    assert of_backbone(prompts, out) == 0


REFUSED = {
    "nothing": ((), "give ADAPTER and PROMPT (got 0 words)"),
    "no prompt": (("adapter",), "give ADAPTER and PROMPT (got 1 word)"),
    "a prompt and a file": (("adapter", "good", "--file", "f", "--out", "o"), "give ADAPTER (got 2 words)"),
    "an adapter and a backbone": (("adapter", "good", "--backbone", "toy_instruct"), "give PROMPT (got 2 words)"),
    "an empty prompt": (("adapter", " "), "the PROMPT is empty"),
    "a file alone": (("adapter", "--file", "f"), "--file and --out go together"),
    "no file": (("adapter", "--file", "no.jsonl", "--out", "o"), "no.jsonl cannot be read"),
    "an input for a file": (("adapter", "--file", "f", "--out", "o", "--input", "x"), "--input goes with a PROMPT"),
    "a checkpoint alone": (("adapter", "good", "--checkpoint", "x"), "--checkpoint needs --backbone"),
    "no adapter": (("no_such", "good"), "no_such holds no adapter"),
    "an unknown backbone": (("--backbone", "toy_instrukt", "good"), "did you mean 'toy_instruct'?"),
    "a backbone of images": (("--backbone", "toy", "good"), "the backbone toy takes images"),
    "an unknown template": (("--backbone", "toy_instruct", "good", "--template", "alpacca"), "did you mean 'alpaca'?"),
    "a chat without one": (("--backbone", "toy_instruct", "good", "--template", "chat"), "has no chat template"),
    "an input without a place": (
        ("--backbone", "toy_instruct", "good", "--template", "{instruction}", "--input", "film"),
        "the prompt has an input, for which the template has no place",
    ),
    "an empty adapter": (("", "hello"), "the ADAPTER is empty: name the folder"),
    "a blank adapter": ((" ", "--file", "f", "--out", "o"), "the ADAPTER is empty"),
    "a prompt that is no UTF-8": (("adapter", "caf\udce9"), "the PROMPT is not UTF-8"),
    "an input that is no UTF-8": (("adapter", "good", "--input", "\udcff"), "the --input is not UTF-8"),
    "a template that is no UTF-8": (
        ("adapter", "x", "--template", "{instruction}\udcff"),
        "the --template is not UTF-8",
    ),
    "an empty template": (("--backbone", "toy_instruct", "good", "--template", ""), "its value is empty: give one"),
    "a temperature next to zero": (("adapter", "good", "--temperature", "1e-300"), "1e-300 is too near to 0: give 0"),
    "no tokens": (("adapter", "good", "--max-new-tokens", "0"), "give 1 or more"),
    "too many tokens": (("--backbone", "toy_instruct", "good", "--max-new-tokens", "64"), "do not fit behind them"),
    "a temperature below zero": (("adapter", "good", "--temperature", "-1"), "-1.0 is out of range: give 0 or more"),
    "no number": (("adapter", "good", "--temperature", "warm"), "invalid"),
    "top-p above one": (("adapter", "good", "--temperature", "1", "--top-p", "1.5"), "1.5 is no fraction"),
    "top-p without a temperature": (("adapter", "good", "--top-p", "0.5"), "--top-p goes with a --temperature"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(kind, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = REFUSED[kind]
    assert message in fails(capsys, *arguments)


def test_adapters_that_do_not_answer_are_refused(tmp_path, capsys):
    folder, _ = saved(tmp_path / "plain", task="toy_instruct")
    assert "has no template: name one by --template" in fails(capsys, folder, "good")
    assert run(folder, "good", "--template", TEMPLATE, "--max-new-tokens", NEW) == 0
    capsys.readouterr()
    record = json.loads((folder / "adapter.json").read_text())
    record["backbone"]["name"] = "toy"
    (folder / "adapter.json").write_text(json.dumps(record))
    assert f"the adapter {folder} takes images" in fails(capsys, folder, "good")
    (folder / "adapter.safetensors").write_bytes(b"\0")
    record["backbone"]["name"] = "toy_instruct"
    (folder / "adapter.json").write_text(json.dumps(record))
    assert "cannot be read" in fails(capsys, folder, "good")


# --- the real model ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_embedded_model_knows_a_capital(tmp_path, capsys):
    asked = ("What is the capital of France?", "--max-new-tokens", 16)
    assert run("--backbone", "llama", *asked) == 0
    plain = capsys.readouterr().out
    assert "Paris" in plain
    backbone, method = Llama(), registry.methods.get("zero_gated")()
    model = backbone.build().requires_grad_(False)
    method.apply(backbone, model)  # at zero gate
    learner = Learner(backbone, model, torch.nn.Identity(), Responses().read)
    parts = Named("llama", backbone), Named("zero_gated", method), Named("templated", Templated())
    save_adapter(tmp_path, learner, AdapterRecord.of(*parts, "summaries", []))
    assert run(tmp_path, *asked, "--template", "chat") == 0
    assert capsys.readouterr().out == plain
