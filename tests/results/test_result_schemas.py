"""Files of older schemas: read in the present one, and refused where they were edited."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json

import pytest

from support.result_records import OLD_FILE, ROOT, content_of, error_of, old_content, parent_of, paths_of
from zipeft.results import Result, from_json, read_records, read_results
from zipeft.results.reading import read_content


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


@pytest.mark.parametrize(("schema", "file"), [param for schema in (2, 3, 4, 5) for param in of_schema(schema)])
def test_a_file_of_schema_2_to_5_is_read_in_the_present_schema(schema, file):
    raw, record = json.loads(file.read_text()), from_json(json.loads(file.read_text()))
    assert raw["schema"] == schema
    assert (record.kind, record.id) == (raw["kind"], file.stem.rpartition("-")[2])
    assert record.cost.tokens_per_second == (None if schema == 2 else raw["cost"]["tokens_per_second"])
    costs = [raw["cost"][name] if schema == 5 else None for name in ("cpu_seconds", "threads")]
    assert [record.cost.cpu_seconds, record.cost.threads] == costs
    assert (getattr(record, "trivial", None) is None) == (schema < 5 or record.kind == "trial")
    assert record.environment.execution == {}
    assert all(epoch.losses == () for epoch in record.history) == (schema < 4)
    here = content_of(record)
    unlike = {name for name in raw if here[name] != raw[name]}
    later = {"history": 4, "cost": 5, "environment": 6}
    assert unlike == {"schema", "sha256", *(name for name, since in later.items() if schema < since)}
    assert [epoch.train_loss for epoch in record.history] == [epoch["train_loss"] for epoch in raw["history"]]
    assert from_json(here) == record
    for path in (("seed",), ("cost", "steps"), ("sha256",), ("validation", raw["task"]["metric"])):
        edited = copy.deepcopy(raw)
        parent_of(edited, path)[path[-1]] = 1
        assert error_of(edited).endswith("the file was edited")
    del raw["sha256"]
    assert error_of(raw) == "sha256 is missing"


def test_all_committed_results_are_read_with_their_scores():
    records, faults = read_records([ROOT / "leaderboards" / "results"])
    assert faults == {}
    results = {place: record for place, record in records.items() if isinstance(record, Result)}
    assert results
    for place, result in results.items():
        raw = read_content(place)
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
