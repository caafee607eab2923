"""zipeft judge against a real server, ``transformers serve``, with the embedded language model as the judge."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = pytest.mark.slow

WORKERS = 2

QUESTIONS = [
    ("Name a primary colour.", "Red.", "I do not know."),
    ("What is two plus three?", "Five.", "Two plus three is seven."),
    ("Which animal says moo?", "A cow.", "A cow says moo, and it gives milk, too."),
    ("Is ice colder than steam?", "Yes.", "No, steam is colder."),
    ("Translate 'bonjour'.", "Hello.", "Goodbye."),
    ("Name a month with 31 days.", "July.", "June."),
    ("What do bees make?", "Honey.", "Bees make honey and wax."),
    ("Write a word that rhymes with cat.", "Hat.", "Dog."),
    ("How many legs has a spider?", "Eight.", "Six."),
    ("What is the opposite of hot?", "Cold.", "Cold."),
    ("Name a planet.", "Mars.", "The planet Mars is a planet."),
    ("Is the sea salty?", "Yes, it is.", "It is sweet."),
    ("What do we read?", "Books.", "Chairs."),
    ("Spell the word 'dog'.", "d, o, g", "d, a, g"),
    ("What is half of ten?", "Five.", "Four."),
    ("Where do fish live?", "In water.", "In trees."),
    ("Name a fruit that is yellow.", "A banana.", "A cherry."),
    ("What comes after Monday?", "Tuesday.", "Sunday."),
    ("What melts in the sun?", "Ice.", "Stone."),
    ("Name a tool that drives nails.", "A hammer.", "A spoon, a fork, or a knife."),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with the embedded model that says which class it is of, as the server wants it to."""
    from zipeft.backbones.llama import smollm2

    folder = tmp_path_factory.mktemp("model")
    for file in smollm2.MODEL.folder().iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaForCausalLM"]}
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Served:
    """The running server: its endpoint, and how many requests it says it got."""

    def __init__(self, port, log):
        self.endpoint, self._log = f"http://127.0.0.1:{port}/v1", log

    @property
    def received(self):
        return self._log.read_text(encoding="utf-8").count("[Request received]")


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    for name in ("fastapi", "uvicorn"):
        pytest.importorskip(name, reason="pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    code = "from transformers.cli.transformers import main; main()"
    options = ["serve", str(model), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as file:
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen([sys.executable, "-c", code, *options], env=environment, stdout=file, stderr=file)
    try:
        wait(lambda: process.poll() is not None or is_up(port))
        assert process.poll() is None, log.read_text()
        yield Served(port, log)
    finally:
        process.kill()
        process.wait()


def is_up(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


def wait(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_killed_and_resumed_nothing_is_asked_twice(server, model, tmp_path, capsys):
    for side, name in enumerate(("a.jsonl", "b.jsonl")):
        records = [
            {"id": number, "instruction": question, "answer": answers[side], "model": f"model of {name}"}
            for number, (question, *answers) in enumerate(QUESTIONS)
        ]
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    command = [sys.executable, "-m", "zipeft", "judge", "a.jsonl", "b.jsonl", "--endpoint", server.endpoint]
    command += ["--model", str(model), "--max-tokens", "6", "--workers", str(WORKERS), "--json", "numbers.json"]
    out = tmp_path / "judgements.jsonl"

    process = subprocess.Popen(command, cwd=tmp_path)
    wait(lambda: out.exists() and out.read_bytes().count(b"\n") >= 15)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = out.read_bytes()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    with capsys.disabled():
        print("\n" + done.stdout)
    assert out.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    replies = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len({reply["key"] for reply in replies}) == len(replies)
    asked = server.received
    assert len(replies) <= asked <= len(replies) + WORKERS  # what was under way when it was killed is lost

    numbers = json.loads((tmp_path / "numbers.json").read_text())
    outcomes = [numbers[name] for name in ("wins", "ties", "losses", "unreadable")]
    assert sum(outcomes) == numbers["questions"] == len(QUESTIONS)
    assert numbers["replies"] == len(replies)
    assert numbers["unreadable_replies"] == sum(reply["winner"] is None for reply in replies)
    assert numbers["completion_tokens"] <= 6 * len(replies)
    assert numbers["replies_without_usage"] == 0

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert server.received == asked
