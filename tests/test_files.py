"""Files: what is no file is not opened, and nothing is replaced that is none."""

from __future__ import annotations

import errno
import fcntl
import os
import re

import pytest

from support.result_factory import make_result
from zipeft import locks
from zipeft.adapters.saved import read_record, read_tensors
from zipeft.commands import generate, harness, judge
from zipeft.commands.run import main
from zipeft.errors import CannotWrite, UserError
from zipeft.files import NotAFile, open_file, read_text, read_whole, safe_name, write_atomically
from zipeft.generation.questions import read_questions
from zipeft.json_lines import JsonLines
from zipeft.judge.contest import read_contest
from zipeft.results import Result, Store, read_records
from zipeft.sources import tensors
from zipeft.sources.package_index import sha256_of
from zipeft.tasks.labelling import conll
from zipeft.tasks.squad import files as squad_files
from zipeft.text.tables import read_table


def test_names_that_differ_stay_apart():
    safe = ["one", "SST-2", "my_data", "vit_base.patch16", "_"]
    assert [safe_name(name) for name in safe] == safe
    names = [
        *safe,
        "数据一",
        "数据二",
        "my data",
        "my_data ",
        "café",
        "cafè",
        "cafe",
        "",
        ".",
        "..",
        "a/b",
        "a_b",
        "字" * 300,
    ]
    assert len({safe_name(name) for name in names}) == len(names)
    assert all(re.fullmatch(r"(?!\.)[A-Za-z0-9._~-]{1,120}", safe_name(name)) for name in names)
    assert safe_name("\udcff") != safe_name("\udcfe")  # a name of bytes that are no text


@pytest.fixture(params=["a FIFO", "a device", "a folder"])
def odd(request, tmp_path):
    """Return a function that puts something under a name that no file has, and what it is."""

    def put(name):
        path = tmp_path / name
        if request.param == "a FIFO":
            os.mkfifo(path)
        elif request.param == "a device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        return path, f"it is {request.param}, not a file"

    return put


def test_only_files_are_opened(odd, tmp_path):
    path, words = odd("x")
    for read in (open_file, read_whole, read_text, sha256_of):
        with pytest.raises(NotAFile) as caught:
            read(path)
        assert (caught.value.strerror, caught.value.filename) == (words, str(path))
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa\r\nb\rc")
    assert read_whole(tmp_path / "link") == b"\xef\xbb\xbfa\r\nb\rc"
    assert read_text(tmp_path / "link") == "a\nb\nc"


def test_a_file_is_read_whole_up_to_a_limit(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"." * (1 << 20))
    assert len(read_whole(path, 1 << 20)) == 1 << 20
    with path.open("ab") as file:
        file.write(b".")
    with pytest.raises(OSError, match="it is larger than 1 MiB"):
        read_whole(path, 1 << 20)


READERS = {
    "text.tsv": lambda path: read_table(path, [["text"]]),
    "text.json": lambda path: read_table(path, [["text"]]),
    "text.parquet": lambda path: read_table(path, [["text"]]),
    "squad.json": lambda path: squad_files.read_questions([path]),
    "squad.parquet": lambda path: squad_files.read_questions([path]),
    "train.txt": conll.read_table,
    "prompts.jsonl": read_questions,
    "answers.jsonl": lambda path: read_contest(path, path),
    "sweep.toml": lambda path: main(["--config", str(path)]),
    "adapter.json": lambda path: read_record(path.parent),
    "adapter.safetensors": lambda path: read_tensors(path.parent),
    "model.safetensors": tensors.read_tensors,
    "model.pth": tensors.read_tensors,
}


@pytest.mark.parametrize("name", READERS)
def test_readers_say_what_is_no_file(name, odd, capsys):
    path, words = odd(name)
    try:
        assert READERS[name](path) == 2
        said = capsys.readouterr().err
    except UserError as error:
        said = f"{error}\n"
    assert said.count("\n") == 1
    assert path.name in said
    assert words in said


def test_a_record_that_is_no_file_is_named_and_not_waited_for(odd, tmp_path):
    result = make_result()
    store = Store(tmp_path)
    store.path(result).parent.mkdir(parents=True)
    path, words = odd(store.path(result).relative_to(tmp_path))
    with pytest.raises(UserError, match=f"{path.name} cannot be read: {words}: remove it"):
        store.find(Result, result.backbone.name, result.task.name, result.task.dataset, result.id)
    with pytest.raises(CannotWrite, match=words):
        store.save(result)
    if not path.is_dir():
        assert read_records([path]) == ({}, {path: f"cannot be read: {words}"})


def test_what_is_no_file_is_not_written(odd, tmp_path, capsys):
    path, words = odd("out.jsonl")
    line = f"cannot write {path}: {words}; name another file"
    with pytest.raises(CannotWrite, match=line):
        write_atomically(path, b"")
    with pytest.raises(CannotWrite, match=line), JsonLines(path, "answer", b"{", lambda record, place: None):
        pass
    (tmp_path / "prompts.jsonl").write_text('{"text": "Hello"}\n')
    options = ["--backbone", "llama", "--file", str(tmp_path / "prompts.jsonl"), "--out", str(path)]
    assert generate.main(options) == 2
    assert capsys.readouterr().err == f"zipeft: error: {line}\n"
    assert judge.main(["a", "b", "--endpoint", "http://localhost/v1", "--model", "m", "--json", str(path)]) == 2
    assert capsys.readouterr().err == f"zipeft: error: {line}\n"
    assert harness.main(["--backbone", "llama", "--tasks", "arc_easy", "--out", str(path)]) == 2
    assert capsys.readouterr().err == f"zipeft: error: {line}\n"
    assert not path.is_file()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.jsonl", "prompts.jsonl"]


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "ENOTSUP"])
def test_a_file_system_without_locks_is_named_before_anything_is_done(name, tmp_path, monkeypatch, capsys):
    def flock(file, how):
        if not how & fcntl.LOCK_UN:
            raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(fcntl, "flock", flock)
    words = "its file system has no locks"
    line = f"zipeft: error: cannot lock a file in {tmp_path} ({words}): choose a folder on another file system\n"
    assert main(["--backbone", "vit", "--task", "fgvc", "--results", str(tmp_path), "--device", "cpu"]) == 2
    assert capsys.readouterr().err == line
    (tmp_path / "prompts.jsonl").write_text('{"text": "Hello"}\n')
    options = ["--file", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    assert generate.main(["--backbone", "llama", *options]) == 2
    assert capsys.readouterr().err == line
    with pytest.raises(UserError, match=rf"cannot lock .*: {words}; choose a folder on"), Store(tmp_path).claim("0"):
        pass
    lines = JsonLines(tmp_path / "x", "answer", b"{", lambda record, place: None)
    with pytest.raises(UserError, match=rf"cannot write .* \({words}\): choose a folder on"), lines:
        pass


def test_older_locks_without_flock_are_named_too(tmp_path, monkeypatch):
    def acquire(self, timeout):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(locks.FileLock, "acquire", acquire)
    with pytest.raises(UserError, match="its file system has no locks"):
        locks.check(tmp_path)
