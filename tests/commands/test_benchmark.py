"""MME and MMBench from the command line: what is refused, what is printed, and what the file says."""

from __future__ import annotations

import json

import pytest

from support import toys
from support.benchmark_files import row, save_mmbench, save_mme
from support.seeing_decoders import save_decoder, save_gated
from zipeft.adapters.saved import load_adapter
from zipeft.api.data import Picture
from zipeft.benchmarks.mme import MME
from zipeft.benchmarks.respondent import Respondent
from zipeft.commands.benchmark import main
from zipeft.objectives.options import Choice

WORDS = ("Yes", "No", *"ABCD", "Question", "Answer", "Options", ":", "red", "blue", "Is", "it", "cat", "dog", "fox")


@pytest.fixture(autouse=True)
def toys_known():
    with toys.registered():
        yield


@pytest.fixture
def decoder(tmp_path):
    return save_decoder(tmp_path / "decoder", WORDS)


@pytest.fixture
def adapter(tmp_path, decoder):
    return save_gated(tmp_path / "gated", decoder)


def line(capsys, *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_bad_input_is_one_line(capsys, tmp_path):
    assert "argument BENCHMARK: invalid choice: 'mmme'" in line(capsys, "mmme", "--data-dir", tmp_path)
    assert "give the folder of an adapter, or a --backbone" in line(capsys, "mme", "--data-dir", tmp_path)
    assert "--data-dir" in line(capsys, "mme", "--backbone", "toy_vlm")
    where = ("--data-dir", save_mme(tmp_path, {"count": 1}))
    assert "the backbone toy takes images" in line(capsys, "mme", "--backbone", "toy", *where)
    assert "holds no adapter" in line(capsys, "mme", tmp_path, *where)
    assert "the backbone is toy_vlm" in line(capsys, "mme", "--backbone", "toy_vlm", "--set", "vlm.x=1", *where)
    assert "--set goes with a --backbone" in line(capsys, "mme", tmp_path, "--set", "vlm.x=1", *where)
    (tmp_path / "count/0000.png").write_bytes(b"no image")
    assert "0000.png does not decode" in line(capsys, "mme", "--backbone", "toy_vlm", *where)


def test_mme_of_an_adapter_comes_with_its_answers_and_their_origin(capsys, tmp_path, adapter):
    folder, out = save_mme(tmp_path / "mme", {"count": 4, "OCR": 2}), tmp_path / "out.json"
    assert main(["mme", str(adapter), "--data-dir", str(folder), "--out", str(out)]) == 0
    shown, record = capsys.readouterr().out, json.loads(out.read_text())
    benchmark = MME.read(folder)
    choices = [
        Choice(max(range(2), key=each["log_probs"].__getitem__), tuple(each["log_probs"]), each["written"])
        for each in record["answers"]
    ]
    assert record["scores"] == json.loads(json.dumps(benchmark.results(choices).scores))
    assert record["scores"]["written"]["perception"] is None
    assert "posters" in shown
    assert "| gated (measured)" in shown
    assert "| LLaMA-Adapter + VQAv2 204K |" in shown
    assert record["model"]["adapter"] == {
        **{"folder": "gated", "run": "run-of-the-test", "method": "zero_gated"},
        **{"task": "toy_vlm", "dataset": "films"},
    }
    assert record["model"]["backbone"]["checkpoint"].endswith("decoder + toy")
    assert len(record["model"]["backbone"]["checksum"]) in (0, 64)
    assert record["data"]["checksum"] == benchmark.checksum


def test_mmbench_of_a_backbone_as_it_is(capsys, tmp_path, decoder):
    table = save_mmbench(tmp_path / "dev.tsv", [row(1), row(2, ("cat", "dog"), "B")])
    asked = ["mmbench", "--backbone", "vlm", "--data-dir", str(table), "--out", str(tmp_path / "out.json")]
    settings = [f"vlm.language=llama:{decoder}", "vlm.vision=toy", f"vlm.image_size={toys.SIZE}"]
    assert main([*asked, *(word for each in settings for word in ("--set", each))]) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["model"]["adapter"] is None
    assert len(record["answers"]) == 5
    assert record["scores"]["written"]["overall"]["questions"] == 2
    shown = capsys.readouterr().out
    assert "circular" in shown
    assert "39.5" in shown


def test_batches_change_no_answer_and_images_do(tmp_path, adapter):
    questions = MME.read(save_mme(tmp_path / "mme", {"count": 5, "code_reasoning": 2})).questions
    questions = [each._replace(context="red " * at) for at, each in enumerate(questions)]  # all of their own length
    learner, _ = load_adapter(adapter)
    alone, together = (Respondent(learner.backbone, learner.model, size).choices(questions, False) for size in (1, 4))
    for one, other in zip(alone, together, strict=True):
        assert (one.index, one.written) == (other.index, other.written)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    other_image = [each._replace(picture=questions[-1].picture) for each in questions[:2]]
    changed = Respondent(learner.backbone, learner.model).choices(other_image, False)
    assert changed[0].log_probs != pytest.approx(alone[0].log_probs, abs=1e-2)


def test_an_image_is_read_once_however_often_it_is_asked_about(tmp_path, adapter):
    read = []
    questions = MME.read(save_mme(tmp_path / "mme", {"count": 2})).questions
    image = questions[0].picture.read()
    shown = [
        each._replace(picture=Picture(each.picture.name, lambda each=each: read.append(each.picture.name) or image))
        for each in questions
    ]
    learner, _ = load_adapter(adapter)
    Respondent(learner.backbone, learner.model).choices(shown, False)
    assert read == [questions[0].picture.name, questions[2].picture.name]


def test_an_adapter_that_sees_nothing_is_refused(capsys, tmp_path):
    from zipeft.adapters.record import AdapterRecord, BackbonePart, MethodPart, TaskPart

    record = AdapterRecord(BackbonePart("toy", "toy", "", {}), MethodPart("linear", {}), TaskPart("toy", "x", {}), ())
    (tmp_path / "adapter.json").write_bytes(record.write())
    where = ("--data-dir", save_mme(tmp_path / "mme", {"count": 1}))
    assert f"the adapter {tmp_path} takes images" in line(capsys, "mme", tmp_path, *where)
