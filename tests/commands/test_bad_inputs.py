"""Whatever a command is given, it ends within seconds: with a status, one line that says what is wrong, no traceback.

What it takes is truly fine: it gives what the unedited input gives. ``bad_inputs`` draws what is tried here.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import re
import shutil
import signal
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from support import bad_inputs
from support.bad_inputs import REFUSED, SAME, draw
from support.benchmark_files import save_mme
from support.chat_server import serving
from support.pictures import save_noisy
from support.result_factory import make_result
from support.toys import ToyDecoder, ToyEncoder, ToyInstructions, ToyTask, ToyViT, registered, toy_tokenizer
from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import save_adapter
from zipeft.api.learner import build_learner
from zipeft.commands import main
from zipeft.methods.zero_gated import ZeroGated
from zipeft.registry import Named
from zipeft.results import save_result

MANY, FEW = 1000, 100
PATIENCE = 20
"""Seconds."""

DEFECT = re.compile(r"Traceback|\b(?:Type|Attribute|Key|Index|Value|Runtime|Recursion|Assertion|ZeroDivision)Error\b")
"""What says that an error is one of the code's, also in the record of a run that failed."""


# --- good inputs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with a good input of every kind."""
    folder = tmp_path_factory.mktemp("good")
    _save(folder / "adapter", ("toy", ToyViT()), ("toy", ToyTask()), "colours", ["red", "green", "blue"])
    _save(folder / "words", ("toy_instruct", ToyDecoder()), ("toy_instruct", ToyInstructions()), "summaries", [])
    for name in ("results", "one", "kept"):
        (folder / name).mkdir()
    save_result(folder / "one", make_result())
    _save_data(folder)
    save_mme(folder / "mme", {"count": 1})
    _save_model(folder / "model")
    _save_checkpoint(folder / "adapter.pth")
    _save_peft(folder / "peft")
    for name in "ab":
        lines = [{"id": f"q{i}", "instruction": f"say {i}", "answer": f"{name} {i}", "model": name} for i in range(4)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with registered(), _wide(), serving(lambda prompt, times: "8 6\nThe first is better.") as server:
        world = World(folder, server.url, tmp_path_factory)
        for argv in (bad_inputs.RUN, bad_inputs.TEXTS, bad_inputs.PICTURES, bad_inputs.SQUAD, bad_inputs.LABELS):
            status, _, err = world.run(argv, folder)  # what is measured here need not be measured in each draw
            assert status == 0, err
        yield world


class Wide(ToyEncoder):
    """The toy on texts, of more tokens: a question and a part of a context need them."""

    def build(self):
        model = super().build()
        embedding = model.embeddings.position_embeddings
        model.embeddings.position_embeddings = torch.nn.Embedding(130, embedding.embedding_dim, padding_idx=0)
        torch.nn.init.zeros_(model.embeddings.position_embeddings.weight)
        model.embeddings.register_buffer("position_ids", torch.arange(130)[None], persistent=False)
        model.embeddings.register_buffer("token_type_ids", torch.zeros(1, 130, dtype=torch.long), persistent=False)
        return model

    def max_length(self):
        return 128


@contextlib.contextmanager
def _wide():
    registry.backbones.register("wide", Wide)
    try:
        yield
    finally:
        registry.backbones.unregister("wide")


def _save(folder, backbone, task, dataset, classes):
    method = ZeroGated(length=2, layers=1)
    torch.manual_seed(3)
    objective = method.objective(task[1].objective(dataset, classes))
    learner = build_learner(method.apply, backbone[1], backbone[1].build().requires_grad_(False), objective, classes)
    for parameter in learner.trainable().values():
        torch.nn.init.normal_(parameter)
    parts = Named(*backbone), Named("zero_gated", method), Named(*task)
    save_adapter(folder, learner, AdapterRecord.of(*parts, dataset, classes))


def _save_data(folder):
    for name in ("sst2", "pictures", "squad", "conll"):
        (folder / name).mkdir()
    for split in ("train", "dev"):
        content = bad_inputs.FORMATS["tsv"](bad_inputs.rows_of(split))
        (folder / f"sst2/{split}.tsv").write_bytes(content)
    for index in range(20):
        color = ("red", "green")[index % 2]
        save_noisy(folder / "pictures" / color / f"{index}.png", color, size=(16 + index, 16))
    for split, numbers in (("train", range(6)), ("dev", range(6, 8))):
        content = {"version": "1.1", "data": [_article(bad_inputs.words(number)) for number in numbers]}
        (folder / f"squad/{split}-v1.1.json").write_text(json.dumps(content))
    for split, start in (("train", 0), ("dev", 20), ("test", 40)):
        texts = [bad_inputs.words(start + index).split() for index in range(12)]
        sentences = ["".join(f"{word} O\n" for word in text) + "good B-MISC\n" for text in texts]
        (folder / f"conll/{split}.txt").write_text("\n".join(sentences))


def _article(words):
    context = f"{words} it was very good end"
    answers = [{"text": "very good", "answer_start": context.index("very good end")}]
    question = {"id": words, "question": f"was {words} good", "answers": answers}
    return {"title": words, "paragraphs": [{"context": context, "qas": [question]}]}


def _save_model(folder):
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlamaConfig(**size, vocab_size=len(toy_tokenizer()), max_position_embeddings=64, initializer_range=0.2)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = copy.deepcopy(toy_tokenizer())
    tokenizer.eos_token = "end"
    tokenizer.save_pretrained(folder)


def _save_checkpoint(path):
    gates = {f"layers.{layer}.attention.gate": torch.randn(1, 2, 1, 1) for layer in range(2)}
    torch.save({"adapter_query.weight": torch.randn(6, 32), **gates}, path)


def _save_peft(folder):
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"peft_type": "ADAPTION_PROMPT", "adapter_len": 3, "adapter_layers": 1, "base_model_name_or_path": "x"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.1.self_attn.adaption_"
    tensors = {f"{name}prompt": torch.randn(1, 3, 32), f"{name}gate": torch.ones(1)}
    save_file(tensors, folder / "adapter_model.safetensors")


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class World:
    """Runs commands on copies of the good files."""

    good: Path
    endpoint: str
    folders: pytest.TempPathFactory

    def run(self, argv, folder):
        """Return status, output and errors of a command in a folder. Fails where it takes too long."""
        out, err = io.StringIO(), io.StringIO()
        arguments = [self.endpoint if argument == "ENDPOINT" else argument for argument in argv]
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(PATIENCE)
        try:
            with _in(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _log(err):
                status = main(arguments)
        finally:
            signal.alarm(0)
        return status, out.getvalue(), err.getvalue()

    def on_a_copy(self, argv, files, edit=None):
        folder = self.folders.mktemp("draw")
        for name in files:
            source = self.good / name
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
        if edit:
            edit(folder)
        try:
            return self.run(argv, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @lru_cache  # noqa: B019, there is one world
    def unedited(self, argv, files):
        """Return what a command prints where nothing was edited."""
        status, out, err = self.on_a_copy(argv, files)
        assert status == 0, err
        return out


@contextlib.contextmanager
def _in(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _too_long(*_):
    raise TimeoutError(f"more than {PATIENCE} seconds")


@contextlib.contextmanager
def _log(stream):
    """Write warnings to where errors go, as a process does."""
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def fault(case, world):
    """Return what is wrong with what came of a case, "" if it is as it must be."""
    try:
        status, out, err = world.on_a_copy(case.argv, case.files, case.edit)
    except SystemExit as stopped:
        return f"left with {stopped.code}"
    except Exception as error:  # what a user would see as a traceback
        return f"{type(error).__name__}: {error}"
    told = [line for line in err.splitlines() if line.strip() and "%|" not in line]  # bars are no words
    if status not in (0, 1, 2):
        return f"status {status}"
    if DEFECT.search(err):
        return f"a defect shows: {err[-600:]}"
    words = [line for line in told if not line.startswith("zipeft: warning: ")]
    if status == 2 and (len(words) != 1 or not words[0].startswith("zipeft: error: ") or len(words[0]) > 2000):
        return f"not one line: {err[:2000]}"
    if status == 1 and not (told or out):
        return "it failed without a word"
    if case.expected == REFUSED and status == 0:
        return f"it was taken: {out[-300:]}"
    if case.expected == SAME and (status, out) != (0, world.unedited(case.unedited or case.argv, case.files)):
        return f"it made a difference: status {status}, {out[-300:]} {err[-300:]}"
    return ""


def check(seeds, world):
    found = {}
    for seed in seeds:
        case = draw(seed, world.good)
        if wrong := fault(case, world):
            found[seed] = f"{seed}: {' '.join(case.argv)[:200]!r} where {case.what[:200]!r} ({case.expected}): {wrong}"
    assert not found, "\n".join(found.values())


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ZIPEFT_OFFLINE", "1")


COMMANDS = [argv for argv in bad_inputs.FLAGS if argv[0] not in ("pull", "lm-eval", "fetch")]
OTHERS = [bad_inputs.TEXTS, bad_inputs.PICTURES, bad_inputs.SQUAD, bad_inputs.LABELS, bad_inputs.SPEAK]


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
def test_the_good_commands_are_good(argv, good):
    assert good.unedited(argv, bad_inputs.GOOD_OF.get(argv[0], ()))


def test_a_few_bad_inputs(good):
    check(range(FEW), good)


@pytest.mark.slow
def test_many_bad_inputs(good):
    check(range(FEW, MANY + FEW), good)
