"""Results: what a file holds, what is refused, what identifies a run, and that a write is whole or not at all."""

from __future__ import annotations

import copy
import errno
import json
import math
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_factory import PROTOCOL, make_result

from zipeft import results
from zipeft.errors import UserError
from zipeft.results import Result, comparability, current_environment, differences, find, load_results, save_result

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(st.text(), JSON_VALUES, max_size=4)


def error_of(data) -> str:
    with pytest.raises(UserError) as caught:
        Result.from_json(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(
    settings=SETTINGS, seed=st.integers(0), note=st.text(), predictions=st.lists(JSON_VALUES, min_size=4, max_size=4)
)
def test_a_result_reads_back_as_it_was(settings, seed, note, predictions):
    changes = {"task.note": note, "backbone.settings": settings, "predictions": tuple(predictions)}
    result = make_result(seed=seed, settings={"x": settings}, **changes)
    back = Result.from_json(json.loads(json.dumps(result.to_json())))
    assert back == result
    assert back.id == result.id


def test_a_saved_result_is_found_by_its_id_and_loaded(tmp_path):
    results = [make_result(method, dataset, seed) for method in "ba" for dataset in ("y", "x") for seed in (1, 0)]
    paths = [save_result(tmp_path, result) for result in results]
    assert paths[0] == tmp_path / "vit-fgvc" / "y" / f"b-seed1-{results[0].id}.json"
    order = [(result.task.dataset, result.method.name, result.seed) for result in load_results(tmp_path)]
    assert order == sorted(order)
    assert len(order) == 8
    assert find(tmp_path, results[3].id) == results[3]
    assert find(tmp_path, "0" * 16) is None
    assert find(tmp_path / "missing", results[0].id) is None
    assert load_results(tmp_path / "missing") == []


def test_names_cannot_leave_the_folder(tmp_path):
    odd = make_result("../../etc/passwd", "../x y", **{"backbone.name": "..", "task.name": "a/b"})
    path = save_result(tmp_path, odd)
    assert tmp_path.resolve() in path.resolve().parents
    assert len(path.relative_to(tmp_path).parts) == 3
    assert load_results(tmp_path) == [odd]


def paths_of(value, path=()):
    """Yield the path of every field below a JSON object, free-form settings left out."""
    for key, item in value.items():
        yield (*path, key)
        if isinstance(item, dict) and key not in ("settings", "protocol", "test", "validation", "versions"):
            yield from paths_of(item, (*path, key))


FIELDS = [path for path in paths_of(make_result().to_json()) if path != ("id",)]


def parent_of(data, path):
    for key in path[:-1]:
        data = data[key]
    return data


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_every_field_is_needed_and_has_its_type(path):
    data = make_result().to_json()
    del parent_of(data, path)[path[-1]]
    assert path[-1] in error_of(data)
    for wrong in ("nonsense", 1.5, -1, True, None, [1], {"a": object()}):
        data = make_result().to_json()
        parent = parent_of(data, path)
        right = type(parent[path[-1]])
        if (right in (str, bool) and isinstance(wrong, right)) or (right is float and wrong == 1.5):
            continue
        parent[path[-1]] = wrong
        assert ".".join(path) in error_of(data)


@pytest.mark.parametrize("where", [(), ("task",), ("cost",), ("task", "sizes"), ("environment",)], ids=str)
def test_unknown_fields_are_refused(where):
    data = make_result().to_json()
    parent_of(data, (*where, "x"))["surprise"] = 1
    assert error_of(data) == ".".join((*where, "surprise")) + " is not a field of this schema"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "path",
    [
        ("cost", "train_seconds"),
        ("scores", "test", "accuracy"),
        ("history", 1, "train_loss"),
        ("history", 0, "validation", "accuracy"),
        ("method", "settings", "learning_rate"),
        ("protocol", "warmup"),
        ("predictions", 2),
    ],
    ids=str,
)
def test_what_is_not_a_finite_number_is_refused(path, bad, tmp_path):
    data = copy.deepcopy(json.loads(json.dumps(make_result().to_json())))
    parent_of(data, path)[path[-1]] = bad
    message = error_of(data)
    assert "finite" in message
    assert str(path[-1]) in message
    file = tmp_path / "x.json"
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"x\.json: .*finite"):
        load_results(tmp_path)


def test_a_number_beyond_floats_is_refused():
    data = make_result().to_json()
    data["cost"]["train_seconds"] = 10**400
    assert error_of(data).startswith("cost.train_seconds must be finite")


def test_what_is_not_finite_is_not_written(tmp_path):
    for change in ({"method.settings": {"rate": math.nan}}, {"cost.train_seconds": math.inf}):
        with pytest.raises(UserError, match="must be finite"):
            save_result(tmp_path, make_result(**change))
    with pytest.raises(UserError, match=r"predictions\[0\] must be a JSON value"):
        save_result(tmp_path, make_result(predictions=(b"1", 1, 2, 3)))
    assert list(tmp_path.rglob("*")) == []


CONTRADICTIONS = {
    "scores.test.accuracy is missing": {"scores.test": {"f1": 0.5}},
    "scores.validation.accuracy is missing": {"scores.validation": {}},
    "scores.test.accuracy is 61.2; scores are fractions, at most 1": {"scores.test": {"accuracy": 61.2}},
    "predictions has 3 entries for 4 test examples": {"predictions": (1, 2, 3)},
    "targets has 5 entries for 4 test examples": {"targets": (1, 2, 3, 4, 5)},
    "scores.selected_epoch is 7, which history does not have": {"scores.selected_epoch": 7},
    "cost.train_seconds is -1.0; it cannot be negative": {"cost.train_seconds": -1.0},
    "cost.peak_memory_kind is 'guess'; it is one of resident set, cuda allocated": {"cost.peak_memory_kind": "guess"},
    "protocol.epochs is missing": {"protocol": {"preset": "quick"}},
    "created is 'yesterday', not an ISO 8601 time in UTC such as 2026-01-31T12:00:00Z": {"created": "yesterday"},
    "created is '2026-01-31T12:00:00', not": {"created": "2026-01-31T12:00:00"},
    "created is '2026-01-31T12:00:00+02:00', not": {"created": "2026-01-31T12:00:00+02:00"},
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_contradictions_are_refused(message):
    assert error_of(make_result(**CONTRADICTIONS[message]).to_json()).startswith(message)


def test_an_edited_file_is_refused():
    data = make_result(seed=3).to_json()
    data["seed"] = 4
    assert error_of(data).endswith("the file was edited")
    assert error_of({**data, "schema": 2}) == "schema is 2; this version of zipeft reads schema 1"
    assert error_of([1]) == "a result must be a JSON object"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}', b"null"])
def test_a_broken_file_is_named(tmp_path, content):
    save_result(tmp_path, make_result())
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.json: ") as caught:
        load_results(tmp_path)
    assert "\n" not in str(caught.value)


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
METHOD_AND_SEED = {"method.name": "full", "method.settings": {"learning_rate": 0.002}, "seed": 1}
TELLING = {
    "backbone.source": "hub",
    "task.source": "folder",
    "task.note": "?",
    "cost.train_seconds": 1.0,
    "environment.device": "cuda",
    "created": "2026-02-01T00:00:00Z",
    "scores.test": {"accuracy": 0.1},
}


def test_the_id_covers_what_decides_a_result_and_no_more():
    base = make_result()
    deciding = DECIDING | METHOD_AND_SEED
    ids = {make_result(**{name: value}).id for name, value in deciding.items()} | {base.id}
    assert len(ids) == len(deciding) + 1
    assert {make_result(**{name: value}).id for name, value in TELLING.items()} == {base.id}
    assert len(base.id) == 16
    assert set(base.id) <= set("0123456789abcdef")
    assert results.run_id(base.backbone, base.task, base.method, dict(reversed(PROTOCOL.items())), 0) == base.id


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
    assert load_results(tmp_path)[0].score == 0.9


def test_what_a_killed_process_leaves_is_not_read(tmp_path):
    path = save_result(tmp_path, make_result())
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from result_factory import make_result
from zipeft.results import save_result
os.replace = lambda *_: os._exit(9)
save_result(Path({str(tmp_path)!r}), make_result(score=0.9))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert len(list(path.parent.iterdir())) == 2
    assert [result.score for result in load_results(tmp_path)] == [0.5]


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*; choose a folder that can be written"):
        save_result(tmp_path / "file", make_result())


def test_a_folder_that_cannot_be_read_is_not_taken_for_empty(tmp_path, monkeypatch):
    folder = save_result(tmp_path, make_result()).parent

    def scandir(path, scan=os.scandir):
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"cannot read .*icons: Permission denied"):
        load_results(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"cannot read .*gone\.json: No such file"):
        load_results(tmp_path)


def test_files_have_the_usual_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    assert save_result(tmp_path, make_result()).stat().st_mode == plain.stat().st_mode


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
