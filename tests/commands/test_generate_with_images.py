"""``zipeft generate --image``: adapters of vision-language models answer as in training, alone and in batches."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from support.method_cases import covered, slow
from support.toys import WORDS, ToyDecoder, ToyVQA, registered
from support.vision_adapters import COLOURS, save_images, saved
from support.vision_language import toy_vlm
from zipeft import registry
from zipeft.adapters.saved import load_adapter
from zipeft.backbones.vlm import VLM
from zipeft.commands.generate import main
from zipeft.errors import UserError
from zipeft.objectives.options import Answer
from zipeft.vqa.question import VisualQuestion, picture_of
from zipeft.vqa.windows import windows_of

NEW = 6
METHODS = ("zero_gated", "prompt", "prefix", "lora", "zero_gated_random", "zero_gated_v2", "lora_unasked")
"""An image enters those with gates as a condition, or early; the others as tokens. The last is shown no question."""


class Letters(ToyVQA):
    letters = True


@pytest.fixture(autouse=True)
def toys():
    with registered():
        registry.tasks.register("letters", Letters)
        yield
        registry.tasks.unregister("letters")


@pytest.fixture
def folder(tmp_path):
    """A folder with an image of each colour."""
    return save_images(tmp_path)


def window_of(learner, record, folder, letters=False):
    """A question's window, as training has it."""
    picture = picture_of(folder / record["image"], record["image"]) if record.get("image") else None
    options = tuple(record.get("options", ("good", "bad")))
    question = VisualQuestion(record["instruction"], options, picture, record.get("input", ""), "it")
    (window,) = windows_of(learner.backbone, letters, 200)(question, Answer(0, options))
    return learner.backbone.collate([window.inputs])


def expected(learner, record, folder, letters=False):
    """The answer by the backbone's own means, alone and without a cache, to what stood before options in training."""
    inputs = learner.backbone.prompt_ids(window_of(learner, record, folder, letters))
    (answer,) = learner.backbone.generate(learner.model, inputs, NEW, use_cache=False)
    return learner.backbone.tokenizer().decode(answer, skip_special_tokens=True)


def records():
    """Questions of different lengths, on each colour and on none."""
    return [
        {"id": f"{colour or 'none'} {length}", "instruction": " ".join(WORDS[4 : 4 + length])}
        | ({"image": f"{colour}.png"} if colour else {})
        | ({"input": "a very good film"} if length == 2 else {})
        for length in (1, 2, 5)
        for colour in (*COLOURS, None)
    ]


def run(*arguments):
    return main([*map(str, arguments), "--max-new-tokens", str(NEW)])


def fails(capsys, *arguments):
    """The line in which a call is refused."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.rpartition("zipeft: error: ")[2]
    assert line.count("\n") == 1
    return line


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "size"), covered((method, size) for size in (4, 1, 20) for method in METHODS))
def test_each_of_a_batch_is_answered_as_alone_and_uncached(method, size, folder):
    adapter, learner = saved(folder, method)
    prompts, out = folder / "prompts.jsonl", folder / "answers" / "answers.jsonl"
    prompts.write_text("".join(json.dumps(record) + "\n" for record in records()))
    assert run(adapter, "--file", prompts, "--out", out, "--batch-size", size) == 0
    answers = {line["id"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert len(answers) == len(records())
    for record in records():
        assert record.items() <= answers[record["id"]].items()
        assert answers[record["id"]]["answer"] == expected(learner, record, folder), record["id"]
    assert len({line["answer"] for name, line in answers.items() if name.endswith(" 5")}) > 1  # images matter


@pytest.mark.parametrize("method", [METHODS[0], *slow(METHODS[1:])])
def test_one_image_is_asked_about(method, folder, capsys):
    adapter, learner = saved(folder, method)
    for record in records():
        image = ["--image", folder / record["image"]] if "image" in record else []
        given = ["--input", record["input"]] if "input" in record else []
        assert run(adapter, record["instruction"], *image, *given) == 0
        assert capsys.readouterr().out == f"{expected(learner, record, folder)}\n"


@pytest.mark.parametrize("task", ["toy_vlm", "letters"])
def test_options_are_ranked_as_the_task_ranks_them(task, folder, capsys):
    adapter, learner = saved(folder, task=task)
    letters = registry.tasks.get(task).letters
    record = {"instruction": "it was", "image": "red.png", "options": ["good", "very bad", "so"]}
    assert run(adapter, "it was", "--image", folder / "red.png", "--options", "good|very bad | so") == 0
    answer, *lines = capsys.readouterr().out.splitlines()
    assert answer == expected(learner, record, folder, letters)
    told = {option: float(number) for number, option in (line.split(" ", 1) for line in lines)}
    with torch.no_grad():
        log_probs = learner(window_of(learner, record, folder, letters))[0]
    assert list(told) == record["options"]
    assert list(told.values()) == pytest.approx(log_probs.softmax(0).tolist(), abs=1e-3)
    assert sum(told.values()) == pytest.approx(1, abs=2e-3)
    assert len(set(told.values())) == (1 if letters else 3)  # no letter is a word of the toy's


def test_a_method_that_is_not_shown_the_question_answers_any_alike(folder, capsys):
    adapter, _ = saved(folder, "zero_gated_unasked")

    def answer(question, colour):
        assert run(adapter, question, "--image", folder / f"{colour}.png") == 0
        return capsys.readouterr().out

    assert answer("good film", "red") == answer("bad end", "red")
    assert len({answer("good film", colour) for colour in COLOURS}) > 1


def test_the_backbone_as_it_is_answers_as_its_language_model(folder, capsys):
    assert run("--backbone", "toy_vlm", "it was good") == 0
    plain = capsys.readouterr().out
    assert run("--backbone", "toy_instruct", "it was good") == 0
    assert capsys.readouterr().out == plain != "\n"
    line = fails(capsys, "--backbone", "toy_vlm", "it was good", "--image", folder / "red.png")
    assert "the prompt has an image, but the model is shown none (nothing has learnt yet how one enters)" in line


def test_a_language_model_passes_over_the_options_of_a_file(folder):
    prompts, out = folder / "prompts.jsonl", folder / "answers.jsonl"
    lines = []
    for options in ("", ', "options": "good|bad"'):
        prompts.write_text(f'{{"instruction": "so"{options}}}')
        out.unlink(missing_ok=True)
        assert run("--backbone", "toy_instruct", "--file", prompts, "--out", out) == 0
        lines.append(json.loads(out.read_text()))
    assert lines[0]["answer"] == lines[1]["answer"]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_images_that_cannot_be_seen_are_named(folder, capsys):
    adapter, _ = saved(folder)
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "text.png").write_text("no image")
    for name, reason in {"broken": "broken.png does not decode", "text": "no image of a kind", "no": "No such"}.items():
        line = fails(capsys, adapter, "good", "--image", folder / f"{name}.png")
        assert line.startswith(f"the prompt has a broken image: {folder / name}.png")
        assert reason in line
        assert line.endswith("give another file\n")
        prompts = folder / "prompts.jsonl"
        prompts.write_text(f'{{"instruction": "so"}}\n{{"instruction": "so", "image": "{name}.png"}}')
        line = fails(capsys, adapter, "--file", prompts, "--out", folder / "answers.jsonl")
        assert f"{prompts}, line 2 has a broken image" in line
        assert not (folder / "answers.jsonl").exists()


PATHS = {
    **{"../red.png": False, "a/../../red.png": False, "..": False},
    **{"red.png": True, "./red.png": True, "a/../red.png": True, "..red.png": True},
}


@pytest.mark.parametrize("path", PATHS)
def test_an_image_of_a_file_stays_in_its_folder(path, folder, capsys):
    from zipeft.generation.questions import read_questions

    prompts = folder / "prompts.jsonl"
    prompts.write_text(json.dumps({"instruction": "so", "image": path}))
    if PATHS[path]:
        (question,) = read_questions(prompts)
        assert question.image_path == folder / path
    else:
        with pytest.raises(UserError, match=r"line 1 has the image .*, outside of the file's folder"):
            read_questions(prompts)
    prompts.write_text(json.dumps({"instruction": "so", "image": str(folder / "red.png")}))
    assert read_questions(prompts)[0].image_path == folder / "red.png"


OPTIONS = {
    '"good|good"': "has the options good|good",
    '["good"]': "has the options good: give two or more",
    '["good", ""]': "none empty",
    "5": "has 5 for options",
    '["good", 5]': "for options: give a list of texts",
}


@pytest.mark.parametrize("content", OPTIONS)
def test_options_that_are_none_are_named(content, folder, capsys):
    adapter, _ = saved(folder)
    prompts = folder / "prompts.jsonl"
    prompts.write_text(f'{{"instruction": "so", "options": {content}}}')
    line = fails(capsys, adapter, "--file", prompts, "--out", folder / "answers.jsonl")
    assert f"{prompts}, line 1 " in line
    assert OPTIONS[content] in line


def test_models_that_are_shown_no_image_say_why(folder, capsys):
    image = ("--image", folder / "red.png")
    adapter, _ = saved(folder, "zero_gated_blind")
    line = fails(capsys, adapter, "good", *image)
    assert "the prompt has an image, but the model is shown none (its method is zero_gated_blind)" in line
    assert run(adapter, "good") == 0
    capsys.readouterr()
    line = fails(capsys, "--backbone", "toy_instruct", "good", *image)
    assert "the model is shown none (it is a model of texts alone): take an adapter of a vision-language" in line
    line = fails(capsys, "--backbone", "toy_instruct", "good", "--options", "a|b")
    assert "the prompt has options, which a template has no place for" in line


def test_what_goes_with_a_file_or_a_task_is_told(folder, capsys):
    adapter, _ = saved(folder, task="letters")
    line = fails(capsys, adapter, "good", "--image", folder / "red.png")
    assert "the prompt has no options, of which the model was trained to name the letter: give 2 to 26" in line
    assert "leave --template out" in fails(capsys, adapter, "good", "--template", "alpaca")
    for flag, value in {"--image": folder / "red.png", "--options": "a|b"}.items():
        line = fails(capsys, adapter, "--file", folder / "f.jsonl", "--out", folder / "o", flag, value)
        assert f"{flag} goes with a PROMPT" in line
    assert "--options has the options a: give two" in fails(capsys, adapter, "good", "--options", "a")
    long = " ".join(["good"] * (ToyDecoder().max_length() - NEW))
    assert "do not fit behind them" in fails(capsys, adapter, long, "--options", "a|b")


def test_an_adapter_of_another_encoder_is_refused(folder, capsys):
    adapter, _ = saved(folder)
    with pytest.raises(UserError, match=r"was made for the backbone toy . toy .* not for toy . other"):
        load_adapter(adapter, replace(toy_vlm(image_tokens=2), vision="toy:other"))
    record = json.loads((adapter / "adapter.json").read_text())
    record["backbone"]["settings"]["vision"] = "toy:other"
    (adapter / "adapter.json").write_text(json.dumps(record))
    assert "was made for the backbone toy + toy" in fails(capsys, adapter, "good", "--image", folder / "red.png")


# --- the real model ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["zero_gated", "lora"])
def test_the_embedded_model_is_answered_with_a_cache_as_without(method, folder, capsys):
    adapter, learner = saved(folder, method, backbone=VLM(), scale=0.1)
    likelihoods = []
    for colour in COLOURS[:2]:
        record = {"instruction": "what is the color of the shape?", "image": f"{colour}.png"}
        image = ("--image", folder / record["image"])
        assert run(adapter, record["instruction"], *image, "--options", "red|green|blue") == 0
        lines = capsys.readouterr().out.splitlines()
        assert "\n".join(lines[:-3]) == expected(learner, record, folder).strip()
        likelihoods.append(lines[-3:])
    assert likelihoods[0] != likelihoods[1]
