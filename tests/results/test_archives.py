"""Archives: the records of a data set in one file, read as files of their own are, and never lost by packing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.result_factory import make_failure, make_result, make_trial
from zipeft import locks
from zipeft.commands import main as zipeft
from zipeft.errors import UserError
from zipeft.results import Failure, Result, Store, Trial, read_records, read_results
from zipeft.results.archive import Line
from zipeft.results.packing import pack

PLACE = ("vit", "fgvc", "icons")
RECORDS = [*(make_result(seed=seed) for seed in (0, 1)), make_trial(), make_failure(make_result(seed=7))]


@pytest.fixture
def store(tmp_path) -> Store:
    """A store with a record of each kind in an archive, and no other files."""
    store = Store(tmp_path / "results")
    for record in RECORDS:
        store.save(record)
    list(pack(store))
    return store


@pytest.fixture
def archive(store) -> Path:
    return store.root / "vit-fgvc" / "icons.jsonl"


def files(store: Store) -> list[Path]:
    return sorted(path for path in store.root.rglob("*") if path.is_file())


def test_an_archive_has_a_line_for_each_file_in_the_order_of_ids(tmp_path, capsys):
    store = Store(tmp_path)
    saved = [store.save(record) for record in RECORDS]
    contents = sorted((json.loads(path.read_text()) for path in saved), key=lambda content: content["id"])
    assert zipeft(["pack", str(tmp_path)]) == 0
    archive = tmp_path / "vit-fgvc" / "icons.jsonl"
    assert capsys.readouterr().out == f"wrote {archive}: 4 records\n"
    assert files(store) == [archive]
    assert [json.loads(line) for line in archive.read_text().splitlines()] == contents
    before = archive.read_bytes()
    assert zipeft(["pack", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("nothing to pack: ")
    for record in RECORDS:
        store.save(record)
    list(pack(store))
    assert archive.read_bytes() == before


def test_records_are_found_in_an_archive_as_in_files(store, archive):
    records, faults = read_records([store.root])
    assert faults == {}
    assert list(records) == [Line(archive, number) for number in (1, 2, 3, 4)]
    assert list(records.values()) == sorted(RECORDS, key=lambda record: record.id)
    assert len(read_results([archive, store.root])) == 2
    assert store.find(Result, *PLACE, RECORDS[1].id) == RECORDS[1]
    assert store.find(Trial, *PLACE, RECORDS[2].id) == RECORDS[2]
    assert store.find(Failure, *PLACE, RECORDS[3].id) == RECORDS[3]
    assert store.find(Failure, *PLACE, RECORDS[1].id) is None
    assert store.find(Result, *PLACE, "0" * 16) is None
    assert store.find(Result, "vit", "fgvc", "typefaces", RECORDS[1].id) is None
    assert all(store.holds(record) for record in RECORDS)
    assert not store.holds(make_result(seed=9))


def test_the_newest_records_of_a_method_are_found_in_an_archive(tmp_path):
    store = Store(tmp_path)
    runs = [make_result(seed=seed, created=f"2026-01-0{seed + 1}T00:00:00Z") for seed in (1, 2, 0)]
    for record in (*runs, make_result("linear", seed=8), make_trial()):
        store.save(record)
    list(pack(store))
    assert store.newest(Result, *PLACE, "lora", 2) == [runs[1], runs[0]]
    store.save(runs[2])
    assert store.newest(Result, *PLACE, "lora", 2) == [runs[2], runs[1]]


def test_a_file_takes_the_place_of_the_line_of_its_id(store, archive, capsys):
    again = make_result(score=0.25)
    assert again.id == RECORDS[0].id
    path = store.save(again)
    succeeded = store.save(make_result(seed=7))  # what failed before
    assert store.find(Result, *PLACE, again.id) == again
    records, _ = read_records([store.root])
    assert len(records) == 4
    assert (records[path], records[succeeded]) == (again, make_result(seed=7))
    assert not any(isinstance(record, Failure) for record in records.values())
    assert zipeft(["validate", str(store.root)]) == 0
    assert capsys.readouterr().out == "valid: 3 runs, 1 trial, 0 failures; not valid: 0 files\n"
    list(pack(store))
    assert files(store) == [archive]
    assert list(read_records([store.root])[0].values()) == sorted(records.values(), key=lambda record: record.id)


def test_the_failure_of_what_succeeded_before_stays_a_file(store, archive):
    failure = store.save(make_failure(RECORDS[0]))
    list(pack(store))
    assert files(store) == [failure, archive]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"note": "', '"note": "not ', "the file was edited"),
        ('{"schema"', '{"schema', "not JSON ("),
        ('"kind": "run"', '"kind": "rumour"', "kind is 'rumour'"),
    ],
)
def test_a_broken_line_is_said_and_what_it_held_is_measured_again(store, archive, capsys, old, new, fault):
    text = archive.read_text()
    number = next(number for number, line in enumerate(text.splitlines(), 1) if f'"id": "{RECORDS[1].id}"' in line)
    lines = text.splitlines()
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    archive.write_text("\n".join(lines) + "\n")
    assert list(read_records([store.root])[1]) == [Line(archive, number)]
    assert zipeft(["validate", str(store.root)]) == 1
    line, summary = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{archive}, line {number}: ")
    assert fault in line
    assert summary.endswith("not valid: 1 file")
    assert store.find(Result, *PLACE, RECORDS[1].id) is None
    assert store.find(Result, *PLACE, RECORDS[0].id) == RECORDS[0]
    path = store.save(RECORDS[1])
    if fault == "the file was edited":
        list(pack(store))  # whose line it was can be told: it is replaced
        assert archive.read_text() == text
    else:
        with pytest.raises(UserError, match=rf"icons.jsonl, line {number}: "):
            list(pack(store))
        assert path.exists()


def test_an_archive_out_of_place_is_said(store, archive, capsys):
    archive.rename(archive.with_name("typefaces.jsonl"))
    assert zipeft(["validate", str(store.root)]) == 1
    assert "typefaces.jsonl, line 1: its content belongs into vit-fgvc/icons.jsonl" in capsys.readouterr().out


def test_an_archive_that_cannot_be_read_is_said(store, archive, capsys, caplog):
    archive.unlink()
    archive.symlink_to(store.root / "nowhere")
    assert read_records([store.root])[1] == {archive: "cannot be read: No such file or directory"}
    assert store.find(Result, *PLACE, RECORDS[0].id) is None
    archive.unlink()
    os.mkfifo(archive)
    assert list(read_records([store.root])[1]) == [archive]
    with pytest.raises(UserError, match=r"icons.jsonl cannot be read: it is a FIFO, not a file: remove it"):
        store.find(Result, *PLACE, RECORDS[0].id)


@pytest.mark.parametrize("name", ["replace", "unlink"])
def test_a_pack_that_is_cut_off_loses_nothing(tmp_path, monkeypatch, name):
    store = Store(tmp_path)
    for record in RECORDS:
        store.save(record)

    def crash(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, name, crash)
        with pytest.raises(KeyboardInterrupt):
            list(pack(store))
    found = read_records([store.root])[0].values()
    assert sorted(record.id for record in found) == sorted(record.id for record in RECORDS)
    list(pack(store))
    assert [path.name for path in files(store)] == ["icons.jsonl"]
    assert len(read_records([store.root])[0]) == 4


def test_what_is_measured_anew_meanwhile_keeps_its_file(tmp_path):
    store = Store(tmp_path)
    kept, packed = (store.save(record) for record in RECORDS[:2])
    with store.claim(RECORDS[0].id):
        list(pack(store))
    assert kept.exists()
    assert not packed.exists()
    assert len(read_records([store.root])[0]) == 2


def test_only_one_process_packs_an_archive(store, archive):
    store.save(make_result(seed=3))
    lock = locks.take(archive.with_name(f".{archive.name}.lock"))
    with pytest.raises(UserError, match="is being packed by another process: wait for it"):
        list(pack(store))
    lock.release()
    assert len(list(pack(store))) == 1


def test_a_file_that_is_no_record_is_not_packed(store, capsys):
    (store.root / "vit-fgvc" / "icons" / "notes.json").write_text("{}")
    assert zipeft(["pack", str(store.root)]) == 2
    assert "notes.json: schema is missing" in capsys.readouterr().err
    assert zipeft(["pack", str(store.root / "nowhere")]) == 2
    assert "no such folder: " in capsys.readouterr().err
