"""The embedded instructions: seen and unseen subtasks, no passage in two splits, damaged files, the real carrier."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.api.data import NO_LABEL
from zipeft.api.sealed import TestKey
from zipeft.tasks import bigbench_archive
from zipeft.tasks.instruct import natural_instructions
from zipeft.tasks.instruct.task import EMBEDDED, Instruct
from zipeft.tasks.instruct.windows import windows_of


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


SEEN, UNSEEN = natural_instructions.SEEN, natural_instructions.UNSEEN
ROWS = 60


def subtask(name):
    """A file of the carrier: subtasks of one source are about the same passages, two of which are in a row each."""
    source = name.split("_")[1]
    prefix = (
        f"Definition: Do what {name} says. Things to Avoid: a Prompt: of your own. Emphasis/Caution: -  "
        f"Prompt: Do {name}. "
    )
    examples = []
    for index in range(ROWS):
        passages = [f"the {source} passage {number} says" for number in (index, index + ROWS * (index % 3 == 0))]
        lines = [f"Fact {at}: {passage}" for at, passage in enumerate(passages, 1)]
        examples.append({"input": " \n".join(lines), "target": [f"{index}.", f"{name} is about {index}", f"{index}."]})
    examples.append({"input": examples[0]["input"] + " ", "target": ["another", ""]})
    examples.append({"input": "Fact 1: nobody answered this", "target": [" "]})
    examples.append({"input": f"Fact 1: {'long ' * 41}", "target": ["x"]})
    return {"task_prefix": prefix, "examples": examples, "canary": "CANARY"}


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    folder = tmp_path / "carrier"
    for name in (*SEEN, *UNSEEN):
        write(folder / f"natural_instructions/{name}/task.json", json.dumps(subtask(name)))
    monkeypatch.setattr(bigbench_archive, "benchmark_files", lambda *paths: [folder / path for path in paths])
    return folder / "natural_instructions"


def embedded(**settings):
    data = Instruct(**settings).load(EMBEDDED)
    key = TestKey("a test of zipeft")
    key.chosen("nothing is left to choose")
    return data, {**{split: split_of(data, split) for split in SPLITS}, "unseen": data.shifted["unseen"].open(key)}


def check_embedded(data, splits):
    """Check what must hold of the embedded set whatever is in the files."""
    where: dict[str, str] = {}
    for split, part in splits.items():
        per_subtask = Counter(name.partition("/")[0] for name in part.names)
        assert set(per_subtask) == set(UNSEEN if split == "unseen" else SEEN)
        assert len(set(per_subtask.values())) == 1, split
        for example, references in zip(part.examples, part.targets, strict=True):
            assert references
            assert all(references)
            assert len(set(references)) == len(references)
            for text in (*example.input.split("\n"), *references):
                plain = re.sub(r"[\W_]+", " ", re.sub(r"^[A-Z][A-Za-z ]*\d?: ", "", text).lower()).split()
                if len(plain) >= 3:
                    assert where.setdefault(" ".join(plain), split) == split, text
    assert "canary" in data.note
    assert data.source == "carrier bigbench 1.0.0"
    assert list(data.shifted) == ["unseen"]
    return {split: len(part) for split, part in splits.items()}


def test_no_passage_is_in_two_splits_and_subtasks_have_as_many_of_each(stand_ins):
    sizes = check_embedded(*embedded())
    assert sizes["train"] >= 12 * 20
    assert sizes["unseen"] == 5 * ROWS


def test_unseen_records_that_share_a_passage_with_seen_ones_are_left_out(stand_ins):
    shared = subtask(UNSEEN[0])
    shared["examples"][3]["input"] = subtask(SEEN[0])["examples"][5]["input"]
    shared["examples"][4]["target"] = ["The QASC passage 7 says!"]
    write(stand_ins / UNSEEN[0] / "task.json", json.dumps(shared))
    data, splits = embedded()
    assert check_embedded(data, splits)["unseen"] == 5 * (ROWS - 2)


def test_names_say_subtask_and_index_and_equal_inputs_are_merged(stand_ins):
    _, splits = embedded()
    for part in splits.values():
        for name, example, references in zip(part.names, part.examples, part.targets, strict=True):
            source, index = name.split("/")
            assert example.name == name
            assert example.instruction == f"Do {source}."
            assert example.input == subtask(source)["examples"][int(index)]["input"].replace(" \n", "\n")
            assert references[:2] == (f"{index}.", f"{source} is about {index}")
            assert references[2:] == (("another",) if index == "0" else ())


@pytest.mark.parametrize(
    ("instructions", "said"),
    [
        ("prompt", "Do {name}."),
        ("definition", "Do what {name} says."),
        (
            "full",
            "Definition: Do what {name} says. Things to Avoid: a Prompt: of your own. Emphasis/Caution: - "
            "Prompt: Do {name}.",
        ),
    ],
)
def test_more_or_less_of_an_instruction_can_be_given(stand_ins, instructions, said):
    _, splits = embedded(instructions=instructions)
    for part in splits.values():
        for example in part.examples:
            assert example.instruction == said.format(name=example.name.partition("/")[0])


def test_embedded_splits_depend_on_the_seed_and_the_settings_alone(stand_ins):
    (data, one), (again, same), (other, another) = (embedded(split_seed=seed) for seed in (0, 0, 1))
    assert data.checksum == again.checksum != other.checksum
    for split in (*SPLITS, "unseen"):
        assert one[split] == same[split]
    assert one["test"] == another["test"]
    assert one["unseen"] == another["unseen"]
    assert one["validation"] != another["validation"]
    assert embedded(instructions="definition")[0].checksum != data.checksum


def test_a_part_of_the_embedded_set_is_even_over_subtasks(stand_ins):
    data, splits = embedded(train_examples=36, validation_examples=12, test_examples=24, unseen_examples=13)
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        assert set(Counter(name.partition("/")[0] for name in splits[split].names).values()) == {count}
    assert sorted(Counter(name.partition("/")[0] for name in splits["unseen"].names).values()) == [2, 2, 3, 3, 3]
    assert "36 of " in data.note


def test_answers_take_turns_where_one_is_the_rule(stand_ins):
    skewed = subtask(SEEN[10])
    for index, example in enumerate(skewed["examples"]):
        example["target"] = ["Yes." if index % 10 == 0 else "No."]
    write(stand_ins / SEEN[10] / "task.json", json.dumps(skewed))
    (records,) = natural_instructions.read([SEEN[10]], "prompt")
    first = natural_instructions._pool(records)[:12]
    assert Counter(record.references for record in first) == {("Yes.",): 6, ("No.",): 6}


def test_the_embedded_set_needs_a_place_for_inputs(stand_ins):
    assert "has an input, for which the template has no place" in refusal(embedded, template="{instruction}")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"task_prefix": "Definition: x Things to Avoid: y Prompt: z"}',
        '{"task_prefix": "Definition: x", "examples": []}',
        '{"task_prefix": "Definition: x Things to Avoid: y Prompt: z", "examples": [{"input": "x"}]}',
        '{"task_prefix": "Definition: x Things to Avoid: y Prompt: z", "examples": [{"input": "x", "target": [1]}]}',
    ],
)
def test_a_damaged_carrier_is_named(stand_ins, text):
    file = write(stand_ins / SEEN[3] / "task.json", text)
    assert refusal(embedded).startswith(f"{file} is damaged (")


# --- the real carrier -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_real_subtasks_share_no_passage_and_are_even(seed):
    data, splits = embedded(split_seed=seed)
    sizes = check_embedded(data, splits)
    assert sizes == {"train": 2400, "validation": {0: 204, 1: 156}[seed], "test": 504, "unseen": 750}
    if seed == 0:
        assert data.checksum.startswith("1e9bd25cbfc8a4b7")
    of_verdicts = [
        references
        for name, references in zip(splits["train"].names, splits["train"].targets, strict=True)
        if name.startswith("subtask050")
    ]
    assert 80 <= of_verdicts.count(("Yes.",)) <= 120  # of 200; in the file they are one in twenty


@pytest.mark.slow
@pytest.mark.parametrize("template", ["alpaca", "chat"])
def test_the_presets_hold_every_real_example_whole(template):
    from zipeft.backbones.llama.backbone import Llama

    backbone, length = Llama(), min(preset.task["max_length"] for preset in Instruct.presets.values())
    windows = windows_of(backbone.tokenizer(), template, length, refuse_overlong=True)
    _, splits = embedded()  # all of it, not the preset's part
    for part in splits.values():
        for example, references in zip(part.examples, part.targets, strict=True):
            made = windows(example, references)[0].inputs
            labelled = made["labels"] != NO_LABEL
            prompt, response = (made["input_ids"][kind].tolist() for kind in (~labelled, labelled))
            said = backbone.tokenizer().decode(response, skip_special_tokens=True)
            assert said == references[0]
            assert example.input in backbone.tokenizer().decode(prompt)
