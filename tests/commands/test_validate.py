"""``zipeft validate``: what it finds in files, how it says so, and the JSON Schema that it publishes."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from support import ROOT
from support.result_factory import make_failure, make_result, make_trial
from zipeft.commands import main as zipeft
from zipeft.commands.validate import main
from zipeft.results import SCHEMA, Store
from zipeft.results.json_schema import json_schema, text
from zipeft.results.reading import places, read_content, read_record

COMMITTED = ROOT / "leaderboards" / "results"
OLD = "linear-seed0-c520999984949398.json"
OLD_FOLDER = Path("vit-fgvc", "icons")

RECORDS = {
    "run": make_result(space={"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}),
    "trial": make_trial(),
    "failure": make_failure(make_trial(index=1), details="Traceback\n  ..."),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A store with a record of each kind, one of them in schema 1 too."""
    store = tmp_path / "results"
    for record in RECORDS.values():
        Store(store).save(record)
    shutil.copy(ROOT / "tests" / "data" / "schema-1" / OLD_FOLDER / OLD, store / OLD_FOLDER)
    return store


def lines(capsys) -> list[str]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_valid_files_are_counted(folder, capsys, monkeypatch):
    assert main([str(folder)]) == 0
    assert lines(capsys) == ["valid: 2 runs, 1 trial, 1 failure; not valid: 0 files"]
    monkeypatch.chdir(folder.parent)
    assert zipeft(["validate"]) == 0
    assert lines(capsys) == ["valid: 2 runs, 1 trial, 1 failure; not valid: 0 files"]
    trial = Store(folder).path(RECORDS["trial"])
    assert main([str(trial), str(trial.parent), f"{trial.parent}/../{OLD}"]) == 0
    assert lines(capsys) == ["valid: 1 run, 1 trial, 0 failures; not valid: 0 files"]


def test_committed_results_are_valid(capsys):
    assert main([str(ROOT / "leaderboards")]) == 0
    assert lines(capsys)[-1].endswith("; not valid: 0 files")


def truncate(path):
    path.write_bytes(path.read_bytes()[:500])


def corrupt(path):
    path.write_bytes(path.read_bytes().replace(b": ", b"; ", 1))


def empty(path):
    path.write_bytes(b"")


def binary(path):
    path.write_bytes(bytes(range(256)))


def edit(path):
    path.write_text(path.read_text().replace("carrier drawings", "carrier sketches"))


def edit_what_decides(path):
    path.write_text(path.read_text().replace('"epochs": 10', '"epochs": 11'))


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def contradict(path):
    change(path, created="yesterday")


def drop(path):
    content = json.loads(path.read_text())
    del content["task"]["metric"]
    path.write_text(json.dumps(content))


def newer(path):
    change(path, schema=SCHEMA + 1)


def unknown(path):
    change(path, schema="one")


def other_kind(path):
    change(path, kind="rumour")


def odd_field(path):
    change(path, **{"a\nb\ud800": 1})


def rename(path):
    path.rename(path.with_name("renamed.json"))


def misplace(path):
    place = path.parents[1] / "elsewhere" / path.name
    place.parent.mkdir()
    path.rename(place)


def copy_beside(path):
    shutil.copy(path, path.with_name(f"copy-of-{path.name}"))


FAULTS = {
    truncate: "not a JSON file (",
    corrupt: "not a JSON file (",
    empty: "not a JSON file (",
    binary: "not a JSON file (",
    edit: "sha256 is ",
    edit_what_decides: "id is ",
    contradict: "created is 'yesterday', not an ISO 8601 time",
    drop: "task.metric is missing",
    newer: f"schema is {SCHEMA + 1}; this version of zipeft reads schemas 1, 2, 3, 4, 5, 6; a newer zipeft wrote",
    unknown: "schema is 'one'; this version of zipeft reads schemas 1, 2, 3",
    other_kind: "kind is 'rumour'; it is one of run, trial, failure",
    odd_field: "'a\\nb\\ud800' is not a field of this schema",
    rename: "its content belongs into vit-fgvc/icons/",
    misplace: "its content belongs into vit-fgvc/icons/",
    copy_beside: "its content belongs into vit-fgvc/icons/",
}


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_a_file_that_is_not_valid_is_said_with_its_fault(folder, capsys, spoil, kind):
    spoil(Store(folder).path(RECORDS[kind]))
    assert main([str(folder)]) == 1
    line, summary = lines(capsys)
    path, fault = line.split(".json: ", 1)
    assert Path(f"{path}.json").exists()
    assert fault.startswith(FAULTS[spoil])
    assert summary.endswith("; not valid: 1 file")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"seed": 0', '"seed": 1', "id is 'c520999984949398', but the content has "),
        ('"selected_epoch"', '"chosen_epoch"', "scores.chosen_epoch is not a field of this schema"),
        ('"created"', '"creation"', "creation is not a field of this schema"),
    ],
)
def test_a_broken_file_of_schema_1_is_said(folder, capsys, old, new, fault):
    path = folder / OLD_FOLDER / OLD
    path.write_text(path.read_text().replace(old, new))
    assert main([str(path)]) == 1
    assert lines(capsys)[0].startswith(f"{path}: {fault}")


def test_two_files_of_the_same_id_are_said(folder, capsys):
    path = Store(folder).path(RECORDS["run"])
    twin = Store(folder.parent / "more").save(RECORDS["run"])
    assert main([str(folder.parent / "more"), str(folder)]) == 1
    assert lines(capsys)[0] == f"{path}: has the id of {twin}; keep one of them"


def test_a_failure_beside_what_succeeded_before_is_no_twin(folder, capsys):
    Store(folder).save(make_failure(RECORDS["run"]))
    assert main([str(folder)]) == 0


def test_a_file_name_that_is_no_text_can_be_said(folder, capsys):
    (folder / "\udcff.json").write_text("{}")
    assert main([str(folder)]) == 1
    assert "\\udcff.json: schema is missing" in lines(capsys)[0]


@pytest.mark.parametrize("arguments", [["nowhere"], ["--no-such"]])
def test_usage_errors_are_one_line_and_status_2(capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("zipeft: error: ")
    assert captured.err.count("\n") == 1
    assert main([]) == 2
    assert "no such file or folder: results; " in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "zipeft validate leaderboards/results" in capsys.readouterr().out


# The published schema.


def test_the_published_schema_is_the_present_one(capsys):
    assert main(["--schema"]) == 0
    assert capsys.readouterr().out == text()
    published = ROOT / "leaderboards" / "result.schema.json"
    assert published.read_text(encoding="utf-8") == text(), "zipeft validate --schema > leaderboards/result.schema.json"


@pytest.fixture(scope="module")
def accepts():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).is_valid


def test_the_schema_accepts_what_is_saved(accepts, folder):
    for record in RECORDS.values():
        assert accepts(json.loads(Store(folder).path(record).read_text()))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
def test_the_schema_accepts_what_is_committed(accepts, every):
    found = places([COMMITTED])
    chosen = found if every else found[::15]
    assert len(chosen) > 50
    for place in chosen:
        content = read_content(place)
        if content["schema"] < SCHEMA:  # as it would be written today
            content = json.loads(json.dumps(read_record(place).to_json()))
        assert accepts(content), place


MUTATIONS = {
    ("schema",): 1,
    ("kind",): "rumour",
    ("id",): "0",
    ("sha256",): "0" * 16,
    ("seed",): -1,
    ("task", "classes"): 1.5,
    ("task", "sizes", "test"): None,
    ("backbone", "settings"): [],
    ("protocol",): {},
    ("environment", "dirty"): "no",
    ("environment", "versions", "python"): 3.11,
    ("surprise",): 1,
}


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("path", MUTATIONS, ids=".".join)
def test_the_schema_refuses_another_layout(accepts, kind, path):
    content = json.loads(json.dumps(RECORDS[kind].to_json()))
    assert accepts(content)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = MUTATIONS[path]
    assert not accepts(content)


@pytest.mark.parametrize("kind", RECORDS)
def test_the_schema_needs_every_field(accepts, kind):
    content = json.loads(json.dumps(RECORDS[kind].to_json()))
    for name in content:
        assert not accepts({key: value for key, value in content.items() if key != name})
    other = copy.deepcopy(content)
    del other["environment"]["cores"]
    assert not accepts(other)


def test_the_schema_takes_none_only_where_it_may_stand(accepts):
    content = json.loads(json.dumps(RECORDS["trial"].to_json()))
    assert accepts({**content, "cost": {**content["cost"], "steps": None}})
    assert not accepts({**content, "cost": {**content["cost"], "train_seconds": None}})
    assert not accepts({**content, "cost": {**content["cost"], "peak_memory_kind": "guess"}})
