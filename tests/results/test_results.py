"""Results: what a record holds, what is refused, and what identifies it."""

from __future__ import annotations

import copy
import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.result_factory import PROTOCOL, make_failure, make_result, make_trial
from support.result_records import JSON_VALUES, RECORDS, SETTINGS, content_of, error_of, leaves_of, parent_of, paths_of
from zipeft import results
from zipeft.errors import UserError
from zipeft.results import Store, differences, from_json, read_records, read_results, record_id


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


FIELDS = [(kind, path) for kind, record in RECORDS.items() for path in paths_of(record.to_json())]
CHECKED_LAST = ("comparability", "id", "sha256")
UNMEASURED = ("cpu_seconds", "threads", "steps", "tokens_per_second", "training_flops", "inference_flops")
MAY_BE_NONE = [("trivial",), *(("cost", name) for name in UNMEASURED)]


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
    reads = "this version of zipeft reads schemas 1, 2, 3, 4, 5, 6"
    assert (
        error_of({**data, "schema": 7})
        == f"schema is 7; {reads}; a newer zipeft wrote the file: update zipeft to read it"
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
    "trivial.test.accuracy is missing": make_result(trivial=results.Trivial("mean", {})),
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
    base = make_result().comparability
    assert base not in {make_result(**{name: value}).comparability for name, value in DECIDING.items()}
    for name, value in (METHOD_AND_SEED | TELLING).items():
        assert make_result(**{name: value}).comparability == base


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
