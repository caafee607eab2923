"""Instructions, their windows, and a backbone whose tokens are characters."""

from __future__ import annotations

import json

import torch

from zipeft.api.data import NO_LABEL


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


CONVERSATION = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "who?"},
    {"role": "assistant", "content": "me"},
]


SAID = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
