"""Files of results: found where they belong, read, written whole or not at all, and claimed by one process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import TESTS
from support.result_factory import make_failure, make_result, make_trial
from support.result_records import JSON_VALUES, RECORDS, content_of, leaves_of, old_content, parent_of
from zipeft.errors import UserError
from zipeft.results import Failure, Result, Store, Trial, from_json, read_records, read_results, save_result
from zipeft.results.packing import pack

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


def test_what_others_write_pack_and_delete_is_seen(tmp_path):
    """By a store that has listed its folder before."""
    ours, others, result = Store(tmp_path), Store(tmp_path), make_result()
    other, trial, failure = make_result(seed=1), make_trial(), make_failure(make_result(seed=2))
    names = {record.id: Store(tmp_path).path(record).name for record in (result, other, trial, failure)}

    def found(record):
        return ours.find(type(record), "vit", "fgvc", "icons", record.id, names[record.id])

    ours.save(result)
    assert [found(record) for record in (other, trial, failure)] == [None] * 3
    for record in (other, trial, failure):
        others.save(record)
    assert [found(record) for record in (other, trial, failure)] == [other, trial, failure]
    others.save(make_result(seed=2))
    assert found(failure) is None
    others.path(trial).unlink()
    assert found(trial) is None
    assert not ours.holds(trial)
    list(pack(others))
    assert not others.path(other).exists()
    assert [found(record) for record in (result, other)] == [result, other]
    assert ours.holds(other)


def test_a_file_of_another_name_is_found_by_its_id_and_superseded(tmp_path):
    """Two trials may have drawn the same, and a search of another length meets the second one first."""
    first, second = make_trial(index=0), make_trial(index=3)
    path = Store(tmp_path).save(first)
    store = Store(tmp_path)
    assert store.find(Trial, "vit", "fgvc", "icons", second.id, store.path(second).name) == first
    assert store.holds(second)
    assert store.save(second) != path
    assert not path.exists()


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
    record = None
    with contextlib.suppress(UserError):
        record = from_json(content)
    if record is not None:  # what was put in equals what was there: the checksum tells of all else
        assert from_json(content_of(record)) == record
        assert kind == "old" or content_of(record) == content


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
    setup = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    command = [sys.executable, "-c", setup + script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_leaves_is_not_read(tmp_path):
    path = save_result(tmp_path, make_result())
    script = """
import os, sys
from pathlib import Path
from support.result_factory import make_result
from zipeft.results import save_result
os.replace = lambda *_: os._exit(9)
save_result(Path(sys.argv[1]), make_result(score=0.9))
"""
    with python(script, tmp_path) as process:
        process.communicate()
    assert process.returncode == 9
    assert len(list(path.parent.iterdir())) == 2
    assert [result.score for result in read_results([tmp_path]).values()] == [0.5]
    save_result(tmp_path, make_result(seed=1))
    assert len(list(path.parent.iterdir())) == 3  # who writes another record leaves it: it might be in the making
    save_result(tmp_path, make_result(score=0.9))
    assert sorted(path.parent.iterdir()) == sorted(read_results([tmp_path]))


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
    with Store(tmp_path).claim("1" * 16) as mine:
        assert mine
        Store(tmp_path).forget_claims()
        assert [file.name for file in (tmp_path / ".claims").iterdir()] == [f"{'1' * 16}.lock"]
        with Store(tmp_path).claim("1" * 16) as again:
            assert not again
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
