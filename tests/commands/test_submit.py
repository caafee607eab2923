"""``zipeft submit``: what is whole and clean goes into a submission; of anything else one line says what is wrong."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import pytest

from support.result_factory import make_failure, make_result, make_trial
from zipeft import registry
from zipeft.api.protocol import TrainingProtocol
from zipeft.commands import main as zipeft
from zipeft.experiments import submission
from zipeft.results import RESULT_VERSION, Epoch, Result, Store, Trial, Tried, current_environment, read_records

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
HISTORY = (Epoch(1, 2.5, {"accuracy": 0.25}, ()), Epoch(2, 1.5, {"accuracy": 0.5}, ()))
COMMIT = "0f" * 20


def preset() -> TrainingProtocol:
    return TrainingProtocol(preset="standard", **registry.tasks.get("fgvc").presets["standard"].protocol)


@cache
def clean_environment():
    return dataclasses.replace(current_environment("run it"), commit=COMMIT, dirty=False)


def made(record, protocol):
    """Return a record as a clean run of today makes it."""
    own = {"protocol": protocol, "environment": clean_environment(), "history": HISTORY, "selected_epoch": 2}
    return dataclasses.replace(record, **own)


def board(methods=("linear", "lora"), seeds=(0, 1, 2)):
    """Return the records of a small board: every trial of each method's search, and a run of its best for each seed."""
    records = []
    for method in methods:
        trials = []
        for index in range(preset().trials):
            settings = {"learning_rate": 0.001 + index / 10_000}
            trial = make_trial(method, index=index, **{"method.settings": settings})
            trials.append(made(dataclasses.replace(trial, validation={"accuracy": 0.5}), preset().of_trial()))
        tried = tuple(Tried(each.id, dict(each.method.settings), 0.5, 40.0, "") for each in trials)
        records += trials
        for seed in seeds:
            run = made(make_result(method, seed=seed, space=SPACE), preset().of_run())
            scores = (1.0, 1.0, 1.0, 0.0)
            changes = {"test": {"accuracy": 0.75}, "item_scores": scores, "validation": {"accuracy": 0.5}}
            records.append(dataclasses.replace(run, search=tried, **changes))
    return records


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submission, "is_known_commit", lambda commit: commit == COMMIT)


def saved(records, folder="results"):
    for record in records:
        Store(Path(folder)).save(record)


def submit(capsys, *arguments):
    status = zipeft(["submit", "results", *arguments])
    return status, *capsys.readouterr()


def test_a_clean_board_is_packed_and_summed_up(capsys):
    records = board()
    saved(records)
    before = {path: path.read_bytes() for path in Path("results").rglob("*.json")}
    status, out, err = submit(capsys)
    assert (status, err) == (0, "")
    assert sorted(map(str, Path("submission").rglob("*.*"))) == [
        "submission/README.md",
        "submission/vit-fgvc/icons.jsonl",
    ]
    assert sorted(read_records(["submission"])[0].values(), key=repr) == sorted(records, key=repr)
    assert {path: path.read_bytes() for path in Path("results").rglob("*.json")} == before
    summary = Path("submission/README.md").read_text()
    assert COMMIT in summary
    assert "no board of this backbone and task is published yet" in summary
    assert "75.0" in summary
    assert zipeft(["validate", "submission"]) == 0
    assert "wrote submission/vit-fgvc/icons.jsonl" in out


def test_a_summary_says_which_tables_the_rows_join(capsys):
    saved(board())
    saved([dataclasses.replace(record, seed=record.seed + 9) for record in board()], "boards")
    assert submit(capsys, "--boards", "boards", "--out", "one")[0] == 0
    assert "comparable with rows of the published board" in Path("one/README.md").read_text()
    for path in Path("boards").rglob("*.json"):
        path.unlink()
    saved(
        [dataclasses.replace(r, task=dataclasses.replace(r.task, settings={"image_size": 9})) for r in board()],
        "boards",
    )
    assert submit(capsys, "--boards", "boards", "--out", "two")[0] == 0
    assert "a table of its own (image_size 84 / 9)" in Path("two/README.md").read_text()


def test_nothing_is_written_over_and_a_check_writes_nothing(capsys):
    saved(board())
    assert submit(capsys, "--check")[0] == 0
    assert not Path("submission").exists()
    assert submit(capsys)[0] == 0
    status, _, err = submit(capsys)
    assert status == 2
    assert "submission is not empty" in err


def part(record, of, **changes):
    return {of: dataclasses.replace(getattr(record, of), **changes)}


def last_item(record, value):
    return {"item_scores": (*record.item_scores[:-1], value)}


ALTERED = {
    "an answer that counts as right": lambda r: {**last_item(r, 1.0), "test": {"accuracy": 1.0}},
    "a prediction": lambda r: {"predictions": (3, *r.predictions[1:])},
    "targets": lambda r: {"targets": (0, 1, 2, 3), **last_item(r, 1.0), "test": {"accuracy": 1.0}},
    "validation": lambda r: {"validation": {"accuracy": 0.6}},
    "another epoch": lambda r: {"selected_epoch": 1, "validation": {"accuracy": 0.25}},
    "the history": lambda r: {"history": (Epoch(1, 2.5, {"accuracy": 0.9}, ()), HISTORY[1])},
    "dirty code": lambda r: part(r, "environment", dirty=True),
    "no commit": lambda r: part(r, "environment", commit=""),
    "an unknown commit": lambda r: part(r, "environment", commit="ab" * 20),
    "a version of zipeft to come": lambda r: part(
        r, "environment", versions={**r.environment.versions, "zipeft": "99.0"}
    ),
    "an old library": lambda r: part(r, "environment", versions={**r.environment.versions, "torch": "1.0"}),
    "another library": lambda r: part(r, "environment", versions={**r.environment.versions, "numpy": "99.0"}),
    "no version": lambda r: part(
        r, "environment", versions={k: v for k, v in r.environment.versions.items() if k != "torch"}
    ),
    "what is no version": lambda r: part(r, "environment", versions={**r.environment.versions, "torch": "newest"}),
    "epochs": lambda r: {"protocol": {**r.protocol, "epochs": 99}},
    "the choice": lambda r: {"protocol": {**r.protocol, "selection": "best on test"}},
    "a preset that is none": lambda r: {"protocol": {**r.protocol, "preset": "mine"}},
    "the version of results": lambda r: {"version": RESULT_VERSION + 1},
    "a seed": lambda r: {"seed": 7},
    "what was chosen": lambda r: part(r, "method", settings={"learning_rate": 0.005}),
    "a trial left out": lambda r: {"search": r.search[:-1]},
    "a trial that scored less": lambda r: {"search": (dataclasses.replace(r.search[0], validation=0.1), *r.search[1:])},
    "a trial of nobody": lambda r: {"search": (dataclasses.replace(r.search[0], id="0" * 16), *r.search[1:])},
    "a task that is not here": lambda r: part(r, "task", name="none"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_what_was_altered_and_sealed_again_is_found(capsys, name):
    records = board()
    (index, *_) = [index for index, record in enumerate(records) if isinstance(record, Result)]
    records[index] = dataclasses.replace(records[index], **ALTERED[name](records[index]))
    saved(records)
    status, out, err = submit(capsys)
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[-1].startswith("refused: ")
    assert all(line.startswith("results/") for line in lines[:-1])
    if "zipeft" not in name and name not in (
        "a seed",
        "targets",
        "another library",
    ):  # the others are then the odd ones
        assert any(str(Store(Path("results")).path(records[index])) in line for line in lines)
    assert not Path("submission").exists()


EDITED = {
    "id": lambda c: c.update(id="0" * 16),
    "comparability": lambda c: c.update(comparability="0" * 16),
    "sha256": lambda c: c.update(sha256="0" * 64),
    "seed": lambda c: c.update(seed=5),
    "score": lambda c: c["test"].update(accuracy=0.76),
    "target": lambda c: c["targets"].__setitem__(0, 3),
    "item": lambda c: c["item_scores"].__setitem__(0, 0.0),
    "prediction": lambda c: c["predictions"].__setitem__(0, 3),
    "time": lambda c: c["cost"].update(train_seconds=1.0),
    "commit": lambda c: c["environment"].update(commit="ab" * 20),
    "setting": lambda c: c["method"]["settings"].update(learning_rate=0.5),
    "epochs": lambda c: c["protocol"].update(epochs=99),
    "data": lambda c: c["task"].update(checksum="ab" * 32),
    "schema": lambda c: c.update(schema=99),
    "a field": lambda c: c.update(more=1),
}


@pytest.mark.parametrize("name", EDITED)
def test_a_file_that_was_edited_is_found(capsys, name):
    records = board()
    saved(records)
    path = Store(Path("results")).path(next(record for record in records if isinstance(record, Result)))
    content = json.loads(path.read_text())
    EDITED[name](content)
    path.write_text(json.dumps(content))
    status, out, _ = submit(capsys)
    assert status == 1
    assert str(path) in out
    assert not Path("submission").exists()


def test_what_is_missing_is_found(capsys):
    for left_out, words in (
        (lambda r: isinstance(r, Result) and r.seed == 2, "seeds 0 and 1 alone; 3 seeds are needed"),
        (lambda r: isinstance(r, Result) and r.seed == 2 and r.method.name == "lora", "lora on icons lacks seed 2"),
        (lambda r: isinstance(r, Trial) and r.index == 1, "whose record is missing"),
    ):
        for path in Path().rglob("*.json"):
            path.unlink()
        saved([record for record in board() if not left_out(record)])
        status, out, _ = submit(capsys)
        assert status == 1
        assert words in out


def test_a_trial_that_failed_is_part_of_a_search(capsys):
    records = []
    for record in board():
        if isinstance(record, Trial) and record.index == 1:
            record = make_failure(record)
        elif isinstance(record, Result):
            failed = dataclasses.replace(record.search[1], validation=None, error="the loss is not finite")
            record = dataclasses.replace(record, search=(record.search[0], failed, *record.search[2:]))
        records.append(record)
    saved(records)
    assert submit(capsys)[0] == 0


def test_a_protocol_of_ones_own_is_taken_where_that_is_said(capsys):
    saved([dataclasses.replace(r, protocol={**r.protocol, "epochs": 2}) for r in board() if isinstance(r, Trial)])
    trials = {(r.method.name, r.index): r.id for r in read_records(["results"])[0].values()}
    for run in board():
        if isinstance(run, Result):
            search = tuple(
                dataclasses.replace(tried, id=trials[run.method.name, index]) for index, tried in enumerate(run.search)
            )
            saved([dataclasses.replace(run, protocol={**run.protocol, "epochs": 2}, search=search)])
    status, out, _ = submit(capsys)
    assert status == 1
    assert "protocol.epochs is not that of the preset standard (2 / " in out
    assert submit(capsys, "--own-protocol")[0] == 0


def test_right_answers_have_to_be_those_of_the_boards(capsys):
    saved(board())
    other = next(record for record in board() if isinstance(record, Result))
    saved([dataclasses.replace(other, seed=9, targets=(3, 1, 2, 0))], "boards")
    status, out, _ = submit(capsys, "--boards", "boards")
    assert status == 1
    assert "targets are not those of" in out


@pytest.mark.parametrize("folder", ["none", "file"])
def test_what_is_no_folder_of_results_is_refused(capsys, folder):
    Path("file").write_text("")
    assert zipeft(["submit", folder]) == 2
    assert capsys.readouterr().err.count("\n") == 1
