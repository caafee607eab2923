"""Results: what a file holds, what is refused, what identifies a record, and that a write is whole or not at all."""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_factory import PROTOCOL, make_failure, make_result, make_trial

from zipeft import results
from zipeft.errors import UserError
from zipeft.results import (
    Failure,
    Result,
    Store,
    Trial,
    comparability,
    current_environment,
    differences,
    from_json,
    read_records,
    read_results,
    record_id,
    save_result,
)

ROOT = Path(__file__).parents[1]
OLD_STORE = ROOT / "tests" / "data" / "schema-1"
OLD_FILE = OLD_STORE / "vit-fgvc" / "icons" / "linear-seed0-c520999984949398.json"

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(st.text(), JSON_VALUES, max_size=4)

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
RECORDS = {
    "run": make_result(space=SPACE),
    "trial": make_trial(),
    "failure": make_failure(make_trial(index=1), details="Traceback"),
}


def content_of(record):
    """Return a record's content as a file gives it back."""
    return json.loads(json.dumps(record.to_json()))


def error_of(data) -> str:
    with pytest.raises(UserError) as caught:
        from_json(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(
    kind=st.sampled_from(list(RECORDS)),
    settings=SETTINGS,
    seed=st.integers(0),
    note=st.text(),
    predictions=st.lists(JSON_VALUES, min_size=4, max_size=4),
)
def test_a_record_reads_back_as_it_was(kind, settings, seed, note, predictions):
    changes = {"task.note": note, "backbone.settings": settings, "protocol": {**settings, **PROTOCOL}, "seed": seed}
    record = {
        "run": make_result(predictions=tuple(predictions), **changes),
        "trial": make_trial(**changes),
        "failure": make_failure(make_result(), **changes, reason=note),
    }[kind]
    back = from_json(content_of(record))
    assert back == record
    assert type(back) is type(record)
    assert back.id == record.id


# Fields.


def paths_of(value, path=()):
    """Yield the path of every field below a JSON object, free-form settings left out."""
    free = ("settings", "space", "protocol", "test", "validation", "versions")
    for key, item in value.items():
        yield (*path, key)
        if isinstance(item, dict) and key not in free:
            yield from paths_of(item, (*path, key))


FIELDS = [(kind, path) for kind, record in RECORDS.items() for path in paths_of(record.to_json())]
CHECKED_LAST = ("comparability", "id", "sha256")
MAY_BE_NONE = [("cost", name) for name in ("steps", "tokens_per_second", "training_flops", "inference_flops")]


def parent_of(data, path):
    for key in path[:-1]:
        data = data[key]
    return data


@pytest.mark.parametrize(
    ("kind", "path"), FIELDS, ids=lambda value: value if isinstance(value, str) else ".".join(value)
)
def test_every_field_is_needed_and_has_its_type(kind, path):
    data = content_of(RECORDS[kind])
    del parent_of(data, path)[path[-1]]
    assert path[-1] in error_of(data)
    for wrong in ("nonsense", 1.5, -1, True, None, [1], {"a": object()}):
        data = content_of(RECORDS[kind])
        parent = parent_of(data, path)
        right = type(parent[path[-1]])
        if (right in (str, bool) and isinstance(wrong, right)) or (right is float and wrong == 1.5):
            continue
        if wrong is None and path in MAY_BE_NONE:
            continue
        parent[path[-1]] = wrong
        assert ".".join(path) in error_of(data)


def leaves_of(value, path=()):
    """Yield the path of every value in JSON that holds no other."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from leaves_of(item, (*path, key))
    if not isinstance(value, dict | list) or not value:
        yield path


@pytest.mark.parametrize("kind", RECORDS)
def test_no_edit_of_any_value_goes_unnoticed(kind):
    data = content_of(RECORDS[kind])
    for path in leaves_of(data):
        edited = copy.deepcopy(data)
        parent = parent_of(edited, path)
        old = parent[path[-1]]
        edits = {bool: not old, int: 2, float: 0.123, str: f"{old}x", type(None): 1, dict: {"x": 1}, list: [1]}
        parent[path[-1]] = edits[type(old)]
        if edited != data:
            error_of(edited)


@pytest.mark.parametrize("kind", RECORDS)
def test_an_edit_that_contradicts_nothing_is_told_by_the_checksum(kind):
    data = content_of(RECORDS[kind])
    data["task"]["note"] = "better"
    assert error_of(data).startswith("sha256 is ")
    assert error_of(data).endswith("the file was edited")


def test_an_edit_of_what_decides_is_told_by_the_id():
    data = content_of(make_result(seed=3))
    assert error_of({**data, "seed": 4}).startswith("id is ")
    assert error_of({**data, "id": "0" * 16}).startswith("id is '0000000000000000', but the content has ")
    assert error_of({**data, "comparability": None}).startswith("comparability is None, but the content has ")


def test_another_layout_is_refused():
    data = content_of(make_result())
    assert error_of([1]) == "a result must be a JSON object"
    assert error_of({**data, "kind": "rumour"}) == "kind is 'rumour'; it is one of run, trial, failure"
    assert error_of({**data, "kind": []}).startswith("kind is []; ")
    reads = "this version of zipeft reads schemas 1, 2, 3, 4"
    assert (
        error_of({**data, "schema": 5})
        == f"schema is 5; {reads}; a newer zipeft wrote the file: update zipeft to read it"
    )
    for schema in (0, -1, True, 3.0, "3", None, [3]):
        assert error_of({**data, "schema": schema}) == f"schema is {schema!r}; {reads}"
    nested = []
    for _ in range(5000):
        nested = [nested]
    assert error_of({**data, "predictions": nested}) == "the content is nested too deeply to be a result"


@pytest.mark.parametrize(
    "where", [(), ("task",), ("cost",), ("task", "sizes"), ("environment",), ("search", 0)], ids=str
)
def test_unknown_fields_are_refused(where):
    data = content_of(RECORDS["run"])
    parent_of(data, (*where, "x"))["surprise"] = 1
    message = error_of(data)
    assert message.endswith("surprise is not a field of this schema")
    assert str(where[-1] if where else "surprise") in message
    assert error_of({**content_of(make_trial()), "a\nb": 1}) == "'a\\nb' is not a field of this schema"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "path",
    [
        ("cost", "train_seconds"),
        ("test", "accuracy"),
        ("history", 1, "train_loss"),
        ("history", 0, "validation", "accuracy"),
        ("method", "settings", "learning_rate"),
        ("method", "space", "learning_rate", "low"),
        ("protocol", "warmup"),
        ("predictions", 2),
        ("item_scores", 3),
        ("search", 1, "validation"),
    ],
    ids=str,
)
def test_what_is_not_a_finite_number_is_refused(path, bad, tmp_path):
    data = content_of(RECORDS["run"])
    parent_of(data, path)[path[-1]] = bad
    message = error_of(data)
    assert "finite" in message
    assert str(path[-1]) in message
    file = tmp_path / "x.json"
    file.write_text(json.dumps(data))
    assert "finite" in read_records([file])[1][file]


def test_a_number_beyond_floats_is_refused():
    data = content_of(make_result())
    data["cost"]["train_seconds"] = 10**400
    assert error_of(data).startswith("cost.train_seconds must be finite")


def test_what_is_not_finite_is_not_written(tmp_path):
    for change in ({"method.settings": {"rate": math.nan}}, {"cost.train_seconds": math.inf}):
        for make in (make_result, make_trial):
            with pytest.raises(UserError, match="must be finite"):
                Store(tmp_path).save(make(**change))
    with pytest.raises(UserError, match=r"predictions\[0\] must be a JSON value"):
        Store(tmp_path).save(make_result(predictions=(b"1", 1, 2, 3)))
    assert list(tmp_path.rglob("*")) == []


def test_whole_numbers_may_stand_for_fractions(tmp_path):
    result = make_result(**{"cost.train_seconds": 38, "test": {"accuracy": 1}})
    file = Store(tmp_path).save(result)
    assert read_results([file]) == {file: result}


ONE_TRIED = results.Tried("0" * 16, {"learning_rate": 0.1}, 0.5, 1.0, "")
CONTRADICTIONS = {
    "test.accuracy is missing": make_result(test={"f1": 0.5}),
    "validation.accuracy is missing": make_trial(validation={}),
    "test.accuracy is 61.2; scores are fractions, at most 1": make_result(test={"accuracy": 61.2}),
    "predictions has 3 entries for 4 test examples": make_result(predictions=(1, 2, 3)),
    "targets has 5 entries for 4 test examples": make_result(targets=(1, 2, 3, 4, 5)),
    "item_scores has 2 entries for 4 test examples": make_result(item_scores=(0.5, 0.5)),
    "test.accuracy is 0.5, but the mean of item_scores is 0.25": make_result(item_scores=(1.0, 0.0, 0.0, 0.0)),
    "test.accuracy is 0.5, but the mean of item_scores is 1.79": make_result(item_scores=(sys.float_info.max,) * 4),
    "selected_epoch is 7, which history does not have": make_trial(selected_epoch=7),
    "cost.train_seconds is -1.0; it cannot be negative": make_trial(**{"cost.train_seconds": -1.0}),
    "cost.peak_memory_kind is 'guess'; it is one of resident set, cuda allocated": make_result(
        **{"cost.peak_memory_kind": "guess"}
    ),
    "protocol.epochs is missing": make_failure(make_result(), protocol={"preset": "quick"}),
    "method.space has 'length', which method.settings lacks": make_trial(**{"method.space": {"length": {}}}),
    "search[0].settings has 'learning_rate', which method.space lacks": make_result(search=(ONE_TRIED,)),
    "search[0] must have either a validation score or an error": make_result(
        search=(results.Tried("0" * 16, {}, None, 1.0, ""),)
    ),
    "of is 'failure'; it is trial or run": make_failure(make_result(), of="failure"),
    "created is 'yesterday', not an ISO 8601 time in UTC such as 2026-01-31T12:00:00Z": make_result(
        created="yesterday"
    ),
    "created is '2026-01-31T12:00:00', not": make_trial(created="2026-01-31T12:00:00"),
    "created is '2026-01-31T12:00:00+02:00', not": make_result(created="2026-01-31T12:00:00+02:00"),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_contradictions_are_refused(message, tmp_path):
    assert error_of(CONTRADICTIONS[message].to_json()).startswith(message)
    with pytest.raises(UserError):
        Store(tmp_path).save(CONTRADICTIONS[message])
    assert list(tmp_path.iterdir()) == []


# Older schemas.


def old_content() -> dict:
    return json.loads(OLD_FILE.read_text())


def test_a_file_of_schema_1_is_read_in_the_present_schema():
    raw, result = old_content(), read_results([OLD_FILE])[OLD_FILE]
    assert (result.test, result.validation) == (raw["scores"]["test"], raw["scores"]["validation"])
    assert result.selected_epoch == raw["scores"]["selected_epoch"]
    assert (result.method.settings, result.method.space) == (raw["method"]["settings"], {})
    assert result.protocol == {**raw["protocol"], "trials": 0}
    assert (result.cost.steps, result.cost.training_flops, result.cost.inference_flops) == (None, None, None)
    assert result.item_scores == tuple(float(p == t) for p, t in zip(raw["predictions"], raw["targets"], strict=True))
    assert sum(result.item_scores) / len(result.item_scores) == pytest.approx(result.score)
    assert result.search == ()
    assert from_json(content_of(result)) == result


def of_schema(schema: int) -> list:
    files = sorted((ROOT / "tests" / "data" / f"schema-{schema}").rglob("*.json"))
    return [pytest.param(schema, file, id=f"{schema}-{file.stem}") for file in files]


@pytest.mark.parametrize(("schema", "file"), [*of_schema(2), *of_schema(3)])
def test_a_file_of_schema_2_or_3_is_read_in_the_present_schema(schema, file):
    raw, record = json.loads(file.read_text()), from_json(json.loads(file.read_text()))
    assert raw["schema"] == schema
    assert (record.kind, record.id) == (raw["kind"], file.stem.rpartition("-")[2])
    assert record.cost.tokens_per_second == (None if schema == 2 else raw["cost"]["tokens_per_second"])
    assert all(epoch.losses == () for epoch in record.history)
    here = content_of(record)
    unlike = {name for name in raw if here[name] != raw[name]}
    assert unlike == {"schema", "history", "sha256", *(["cost"] if schema == 2 else [])}
    assert [epoch.train_loss for epoch in record.history] == [epoch["train_loss"] for epoch in raw["history"]]
    assert from_json(here) == record
    for path in (("seed",), ("cost", "steps"), ("sha256",), ("validation", raw["task"]["metric"])):
        edited = copy.deepcopy(raw)
        parent_of(edited, path)[path[-1]] = 1
        assert error_of(edited).endswith("the file was edited")
    del raw["sha256"]
    assert error_of(raw) == "sha256 is missing"


def test_all_committed_results_are_read_with_their_scores():
    files = read_results([ROOT / "leaderboards" / "results"])
    records, faults = read_records([ROOT / "leaderboards" / "results"])
    assert faults == {}
    assert len(records) >= len(files) > 0
    for file, result in files.items():
        raw = json.loads(file.read_text())
        assert (result.test, result.validation) == (
            (raw["scores"]["test"], raw["scores"]["validation"])
            if raw["schema"] == 1
            else (raw["test"], raw["validation"])
        )


def old_id(raw) -> str:
    """The id as schema 1 has it, written down anew."""
    keys = ("name", "checkpoint", "checksum", "settings")
    deciding = {
        "backbone": {key: raw["backbone"][key] for key in keys},
        "task": {key: raw["task"][key] for key in ("name", "dataset", "checksum", "settings")},
        **{key: raw[key] for key in ("method", "protocol", "seed", "version")},
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def test_item_scores_of_schema_1_are_only_those_whose_mean_is_the_metric():
    raw = old_content()
    raw["task"]["metric"] = "f1"
    for split in ("test", "validation"):
        raw["scores"][split]["f1"] = raw["scores"][split]["accuracy"]
    assert from_json(raw).item_scores == ()
    raw = old_content()
    raw["scores"]["test"]["accuracy"] = 0.25
    assert from_json(raw).item_scores == ()


def test_an_edited_file_of_schema_1_is_refused():
    assert old_content()["id"] == old_id(old_content())
    for path in (
        ("seed",),
        ("task", "dataset"),
        ("method", "settings", "learning_rate"),
        ("protocol", "epochs"),
        ("id",),
    ):
        raw = old_content()
        parent_of(raw, path)[path[-1]] = 7 if path[-1] != "dataset" else "typefaces"
        assert error_of(raw).endswith("the file was edited")


@pytest.mark.parametrize("path", [path for path in paths_of(old_content()) if path != ("schema",)], ids=".".join)
def test_a_malformed_file_of_schema_1_names_the_field(path):
    raw = old_content()
    del parent_of(raw, path)[path[-1]]
    assert path[-1] in error_of(raw)
    raw = old_content()
    parent = parent_of(raw, path)
    parent[path[-1]] = "nonsense" if isinstance(parent[path[-1]], list) else [1]
    with contextlib.suppress(TypeError):  # where the id can be taken, only the type is wrong
        raw["id"] = old_id(raw) if path != ("id",) else raw["id"]
    assert path[-1] in error_of(raw)


# Finding.


def test_a_saved_record_is_found_where_it_belongs(tmp_path):
    store = Store(tmp_path / "results")
    runs = [make_result(method, dataset, seed) for method in "ba" for dataset in ("y", "x") for seed in (1, 0)]
    trial, failure = make_trial("a", "y", 3), make_failure(make_result("c", "y"))
    paths = [store.save(record) for record in (*runs, trial, failure)]
    place = tmp_path / "results" / "vit-fgvc" / "y"
    assert paths[0] == place / f"b-seed1-{runs[0].id}.json"
    assert paths[-2:] == [
        place / "trials" / f"a-trial3-{trial.id}.json",
        place / "failures" / f"c-run-{failure.id}.json",
    ]
    assert paths == [store.path(record) for record in (*runs, trial, failure)]
    order = [(result.task.dataset, result.method.name, result.seed) for result in read_results([tmp_path]).values()]
    assert order == sorted(order)
    assert len(order) == 8
    assert store.find(Result, "vit", "fgvc", runs[3].task.dataset, runs[3].id) == runs[3]
    assert store.find(Trial, "vit", "fgvc", "y", trial.id) == trial
    assert store.find(Failure, "vit", "fgvc", "y", failure.id) == failure


def test_what_is_not_there_is_not_found(tmp_path):
    store, result = Store(tmp_path / "results"), make_result()
    place = ("vit", "fgvc", "icons")
    assert store.find(Result, *place, result.id) is None
    assert read_results([tmp_path / "missing"]) == {}
    store.save(result)
    assert store.find(Result, *place, "0" * 16) is None
    assert store.find(Result, "vit", "fgvc", "typefaces", result.id) is None
    for kind in (Trial, Failure):
        assert store.find(kind, *place, result.id) is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def edit(path):
    path.write_text(path.read_text().replace('"note": "What', '"note": "Not what'))


def of_another(path):
    path.write_text(json.dumps(make_result(seed=5).to_json()))


def of_another_kind(path):
    path.write_text(json.dumps(make_failure(make_result()).to_json()))


def renamed_and_cut(path):
    cut(path.rename(path.with_name(path.name.replace("lora", "lora-old"))))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (cut, "not a JSON file"),
        (edit, "the file was edited"),
        (of_another, "holds the run "),
        (of_another_kind, "holds the failure "),
        (renamed_and_cut, "not a JSON file"),
    ],
)
def test_a_broken_file_counts_as_missing_and_is_replaced(tmp_path, caplog, spoil, fault):
    store, result = Store(tmp_path), make_result()
    path = store.save(result)
    spoil(path)
    for _ in range(2):  # a sweep looks often; it warns once
        assert store.find(Result, "vit", "fgvc", "icons", result.id) is None
    (warning,) = caplog.messages
    assert warning.endswith("; it counts as missing")
    assert fault in warning
    assert result.id in warning.split(".json: ")[0]
    assert store.save(result) == path
    assert list(path.parent.iterdir()) == [path]
    assert store.find(Result, "vit", "fgvc", "icons", result.id) == result


@pytest.mark.parametrize("record", [make_result(), make_trial()], ids=["run", "trial"])
def test_a_success_takes_the_place_of_its_failure(tmp_path, record):
    store = Store(tmp_path)
    others = [store.save(make_failure(make_result(seed=8))), store.save(make_result(seed=8, dataset="typefaces"))]
    failure = store.save(make_failure(record))
    assert store.save(make_failure(record, reason="again")) == failure
    path = store.save(record)
    assert sorted(read_records([tmp_path])[0]) == sorted([*others, path])


def test_a_superseded_file_that_cannot_be_deleted_is_said(tmp_path, monkeypatch, caplog):
    store, result = Store(tmp_path), make_result()
    failure = store.save(make_failure(result))

    def refuse(self, **_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    store.save(result)
    assert caplog.messages == [f"cannot delete {failure}, which is superseded: Permission denied"]


@pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))
def test_names_cannot_leave_the_folder(tmp_path, record):
    names = {"method.name": "../../etc/passwd", "task.dataset": "../x y", "backbone.name": "..", "task.name": "a/b"}
    make = {"run": make_result, "trial": make_trial}.get(record.kind, lambda **kw: make_failure(make_trial(**kw)))
    odd = make(**names)
    path = Store(tmp_path).save(odd)
    assert tmp_path.resolve() in path.resolve().parents
    assert len(path.relative_to(tmp_path).parts) == (3 if record.kind == "run" else 4)
    assert read_records([tmp_path]) == ({path: odd}, {})


# Reading.


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}', b'{"schema": 2}', b"null"]
)
def test_a_broken_file_is_named_and_the_others_are_read(tmp_path, caplog, content):
    path = save_result(tmp_path, make_result())
    trial = Store(tmp_path).save(make_trial())
    broken = tmp_path / "broken.json"
    broken.write_bytes(content)
    records, faults = read_records([tmp_path])
    assert list(records) == [path, trial]
    assert list(faults) == [broken]
    assert "\n" not in faults[broken]
    assert list(read_results([tmp_path])) == [path]
    assert caplog.messages == [f"{broken}: {faults[broken]}; it is left out (see zipeft validate)"]


@given(kind=st.sampled_from(["run", "trial", "failure", "old"]), data=st.data())
def test_nothing_but_a_user_error_comes_of_whatever_a_file_holds(kind, data):
    content = old_content() if kind == "old" else content_of(RECORDS[kind])
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(leaves_of(content)) + [(key,) for key in content]))
        parent_of(content, path)[path[-1]] = data.draw(JSON_VALUES)
    with contextlib.suppress(UserError):
        from_json(content)


def test_files_and_folders_are_read_once_without_hidden_ones(tmp_path):
    store = Store(tmp_path / "results")
    path = store.save(make_result())
    for hidden in (path.with_name(f".{path.name}"), tmp_path / "results" / ".old" / path.name):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes(path.read_bytes())
    (tmp_path / "results" / "notes.txt").write_text("?")
    (tmp_path / "results" / "result.schema.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "results")
    assert list(read_results([tmp_path / "results", path, path.parent, tmp_path / "missing"])) == [path]
    assert len(read_results([tmp_path / "link", tmp_path / "results"])) == 1
    assert len(read_results([tmp_path / "results" / ".old"])) == 1


def test_a_folder_that_cannot_be_read_is_not_taken_for_empty(tmp_path, monkeypatch):
    folder = save_result(tmp_path, make_result()).parent

    def scandir(path, scan=os.scandir):
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"cannot read .*icons: Permission denied"):
        read_results([tmp_path])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    gone = tmp_path / "gone.json"
    gone.symlink_to(tmp_path / "nowhere")
    assert read_records([tmp_path]) == ({}, {gone: "cannot be read: No such file or directory"})


# Identity.

DECIDING = {
    "backbone.name": "clip",
    "backbone.checkpoint": "other",
    "backbone.checksum": "ef" * 32,
    "backbone.settings": {"frozen": False},
    "task.name": "vtab",
    "task.dataset": "typefaces",
    "task.checksum": "ef" * 32,
    "task.settings": {"image_size": 112},
    "protocol": {**PROTOCOL, "epochs": 3},
    "version": results.RESULT_VERSION + 1,
}
METHOD_AND_SEED = {
    "method.name": "full",
    "method.settings": {"learning_rate": 0.002},
    "method.space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    "seed": 1,
}
TELLING = {
    "backbone.source": "hub",
    "task.source": "folder",
    "task.note": "?",
    "cost.train_seconds": 1.0,
    "environment.device": "cuda",
    "created": "2026-02-01T00:00:00Z",
    "test": {"accuracy": 0.1},
}


def test_the_id_covers_what_decides_a_result_and_no_more():
    base = make_result()
    deciding = DECIDING | METHOD_AND_SEED
    ids = {make_result(**{name: value}).id for name, value in deciding.items()} | {base.id}
    assert len(ids) == len(deciding) + 1
    assert {make_result(**{name: value}).id for name, value in TELLING.items()} == {base.id}
    assert make_trial(seed=0, **{"method.space": {}}).id != base.id
    assert len(base.id) == 16
    assert set(base.id) <= set("0123456789abcdef")
    assert record_id("run", base.backbone, base.task, base.method, dict(reversed(PROTOCOL.items())), 0) == base.id


def test_a_failure_has_the_id_of_what_failed():
    for record in (make_result(), make_trial()):
        assert make_failure(record).id == record.id
    assert make_failure(make_result()).id != make_failure(make_trial(seed=0, **{"method.space": {}})).id


def test_comparability_covers_all_but_method_and_seed():
    base = comparability(make_result())
    assert base not in {comparability(make_result(**{name: value})) for name, value in DECIDING.items()}
    for name, value in (METHOD_AND_SEED | TELLING).items():
        assert comparability(make_result(**{name: value})) == base


def test_differences_say_what_differs():
    base = make_result()
    assert differences(base, make_result(seed=5, method="full")) == []
    other = make_result(
        protocol={**PROTOCOL, "epochs": 3, "clip": None},
        **{"task.settings": {"image_size": 112, "augment": {"flip": True}}, "backbone.checksum": "ef" * 32},
    )
    assert differences(base, other) == [
        "backbone checksum abababab / efefefef",
        "clip unset / none",
        "epochs 10 / 3",
        "augment flip unset / true",
        "image_size 84 / 112",
    ]
    both = {"backbone.settings": {"size": 1}, "task.settings": {"image_size": 84, "size": 1}}
    twice = {"backbone.settings": {"size": 2}, "task.settings": {"image_size": 84, "size": 2}}
    named = ["backbone.settings.size 1 / 2", "task.settings.size 1 / 2"]
    assert differences(make_result(**both), make_result(**twice)) == named
    assert differences(base, make_result(dataset="typefaces", **{"task.checksum": "ef" * 32})) == [
        "dataset icons / typefaces"
    ]
    assert differences(base, make_result(**{"task.checksum": "ef" * 32})) == [
        "dataset icons checksum cdcdcdcd / efefefef"
    ]


# Writing.


def test_a_crash_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = save_result(tmp_path, make_result(score=0.5))
    old = path.read_bytes()
    for name in ("replace", "fsync"):

        def crash(*arguments):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, name, crash)
            with pytest.raises(KeyboardInterrupt):
                save_result(tmp_path, make_result(score=0.9))
        assert path.read_bytes() == old
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
    save_result(tmp_path, make_result(score=0.9))
    assert read_results([tmp_path])[path].score == 0.9


def test_a_crash_keeps_the_failure_of_what_is_not_saved_yet(tmp_path, monkeypatch):
    failure = Store(tmp_path).save(make_failure(make_result()))

    def crash(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).save(make_result())
    assert list(read_records([tmp_path])[0]) == [failure]


def python(script: str, *arguments: object) -> subprocess.Popen:
    """Start a script that finds the tests' helpers and has the arguments in ``sys.argv[1:]``."""
    setup = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    command = [sys.executable, "-c", setup + script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_leaves_is_not_read(tmp_path):
    path = save_result(tmp_path, make_result())
    script = """
import os, sys
from pathlib import Path
from result_factory import make_result
from zipeft.results import save_result
os.replace = lambda *_: os._exit(9)
save_result(Path(sys.argv[1]), make_result(score=0.9))
"""
    with python(script, tmp_path) as process:
        process.communicate()
    assert process.returncode == 9
    assert len(list(path.parent.iterdir())) == 2
    assert [result.score for result in read_results([tmp_path]).values()] == [0.5]


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*; choose a folder that can be written"):
        save_result(tmp_path / "file", make_result())
    with (
        pytest.raises(UserError, match=r"cannot lock .*; choose a folder that can be written"),
        Store(tmp_path / "file").claim("0" * 16),
    ):
        pass


def test_files_have_the_usual_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    assert save_result(tmp_path, make_result()).stat().st_mode == plain.stat().st_mode


# Claims.

CLAIM = """
import sys
from pathlib import Path
from zipeft.results import Store
with Store(Path(sys.argv[1])).claim("0123456789abcdef") as mine:
    print(mine, flush=True)
    sys.stdin.readline()
"""


def test_only_one_process_holds_a_claim(tmp_path):
    with python(CLAIM, tmp_path) as first, python(CLAIM, tmp_path) as second:
        answers = [process.stdout.readline().strip() for process in (first, second)]
        assert sorted(answers) == ["False", "True"]
        with Store(tmp_path).claim("0123456789abcdef") as third, Store(tmp_path).claim("0" * 16) as other:
            assert not third
            assert other
        for process in (first, second):
            process.communicate("\n")
    with Store(tmp_path).claim("0123456789abcdef") as mine:
        assert mine
    assert list((tmp_path / ".claims").iterdir()) == []


def test_a_killed_holder_frees_its_claim(tmp_path):
    with python(CLAIM, tmp_path) as holder:
        assert holder.stdout.readline() == "True\n"
        holder.send_signal(signal.SIGKILL)
    with Store(tmp_path).claim("0123456789abcdef") as mine:
        assert mine


@pytest.mark.parametrize("error", [UserError("bad"), KeyboardInterrupt()], ids=repr)
def test_a_claim_ends_with_whatever_ends_its_context(tmp_path, error):
    store = Store(tmp_path)

    def fail():
        with store.claim("0" * 16) as mine, store.claim("0" * 16) as again:
            assert (mine, again) == (True, False)
            raise error

    for _ in range(2):
        with pytest.raises(type(error)):
            fail()
    assert list((tmp_path / ".claims").iterdir()) == []
    assert read_records([tmp_path]) == ({}, {})


# Environment.


def test_environment_says_where_a_run_ran():
    here = current_environment("python -m x", "cuda:0")
    assert here.versions["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert {"torch", "zipeft", "numpy"} <= set(here.versions)
    assert (here.command, here.device) == ("python -m x", "cuda:0")
    assert here.cores >= 1
    assert here.cpu


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with a copy of the module, and what the module says of it."""
    import zipeft.results.environment as module

    source = tmp_path / "zipeft" / "results" / "environment.py"
    source.parent.mkdir(parents=True)
    source.write_text("old")
    monkeypatch.setattr(module, "__file__", str(source))
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    return tmp_path


def git(folder, *arguments) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_environment_has_the_commit_of_a_checkout(checkout):
    seen = [current_environment("")]
    git(checkout, "init", "-q")
    seen.append(current_environment(""))
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "x")
    head = git(checkout, "rev-parse", "HEAD")
    seen.append(current_environment(""))
    (checkout / "leaderboards").mkdir()
    (checkout / "leaderboards" / "new.json").write_text("{}")
    seen.append(current_environment(""))
    (checkout / "zipeft" / "environment.py").write_text("new")
    seen.append(current_environment(""))
    assert [(e.commit, e.dirty) for e in seen] == [("", False), ("", False), (head, False), (head, False), (head, True)]


def test_a_checkout_of_something_else_is_no_commit_of_zipeft(checkout):
    nested = checkout / "site-packages" / "zipeft" / "results"
    nested.mkdir(parents=True)
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "x")
    import zipeft.results.environment as module

    module.__file__ = str(nested / "environment.py")  # the fixture puts it back
    assert current_environment("").commit == ""


def test_environment_needs_no_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert current_environment("").commit == ""


def test_now_is_a_time_that_results_take():
    assert abs(make_result(created=results.now()).when - datetime.now(timezone.utc)) < timedelta(minutes=1)


def test_reading_results_imports_no_torch():
    code = "import sys, zipeft.results, zipeft.leaderboard; print([m for m in ('torch', 'timm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
