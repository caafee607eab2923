"""Files of answers to compare, and judges who prefer the longer ones."""

from __future__ import annotations

import json
from pathlib import Path

from support.chat_server import shown
from zipeft.commands import main


def write_lines(name, records):
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return name


def answer_files(lengths, **fields):
    """Write a.jsonl and b.jsonl; each question has a pair of lengths of its answers, and ``longer`` judges by those."""
    for name, side in (("a", 0), ("b", 1)):
        records = [
            {"id": number, "instruction": f"Question {number}?", "answer": name * pair[side], "model": f"model-{name}"}
            for number, pair in enumerate(lengths)
        ]
        write_lines(f"{name}.jsonl", [record | fields for record in records])


def longer(prompt, times=1):
    """Prefer the longer answer, fairly: its length is its score."""
    _, *answers = shown(prompt)
    scores = [len(answer) for answer in answers]
    if "<assistant_A>" in prompt:
        return f"One is longer.\n[[{'C' if scores[0] == scores[1] else 'AB'[scores[1] > scores[0]]}]]"
    return f"{scores[0]} {scores[1]}\nOne is longer."


def judge(server, *options, a="a.jsonl", b="b.jsonl", model="judge"):
    url = server if isinstance(server, str) else server.url
    return main(["judge", a, b, "--endpoint", url, "--model", model, "--json", "numbers.json", *options])


def numbers():
    return json.loads(Path("numbers.json").read_text())


def kept(name="judgements.jsonl"):
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.err.startswith("zipeft: error: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err
