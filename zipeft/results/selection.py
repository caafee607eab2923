"""Which results a word on the command line means: a folder, those in it of one commit or version, or a folder as it
stood in git."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from zipeft.errors import UserError, one_line
from zipeft.results.reading import read_results
from zipeft.results.record import Result

FORMS = "give a folder, a file, FOLDER@COMMIT, FOLDER@VERSION, or REVISION:FOLDER as git has it"


def select(text: str) -> list[Result]:
    """Return the runs that ``text`` means, with a warning on the log for each place that holds no valid record.

    - "results": those in a file or folder;
    - "results@a8090bc", "results@0.1.0": those that were made at a commit, or by a version, of zipeft;
    - "HEAD~3:leaderboards/results": those of a folder as it stood in a revision of this git repository.

    Raises ``UserError`` where there are none.
    """
    if Path(text).exists():
        return _some(read_results([Path(text)]).values(), text)
    folder, at, maker = text.rpartition("@")
    if at and Path(folder).exists():
        return _some((each for each in read_results([Path(folder)]).values() if _made_by(each, maker)), text)
    revision, colon, path = text.partition(":")
    if colon and revision and path:
        with TemporaryDirectory() as unpacked:
            _unpack(revision, path, Path(unpacked))
            return _some(read_results([Path(unpacked)]).values(), text)
    raise UserError(f"no such file or folder: {text}; {FORMS}")


def _some(results: Iterable[Result], text: str) -> list[Result]:
    found = list(results)
    if not found:
        raise UserError(f"no valid results of runs in {text}; {FORMS}")
    return found


def _made_by(result: Result, maker: str) -> bool:
    used = result.environment
    return bool(maker) and (used.commit.startswith(maker) or used.versions.get("zipeft") == maker)


def _unpack(revision: str, path: str, folder: Path) -> None:
    """Write the files under a path, as they stood in a revision, into a folder."""
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    content = _git("archive", "--format=tar", commit, "--", path)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if member.isfile() and not name.is_absolute() and ".." not in name.parts:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]  # it is a file


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise UserError("REVISION:FOLDER needs git, which is not installed") from error
    if done.returncode:
        said = one_line(ValueError(done.stderr.decode(errors="replace"))) if done.stderr else "no such revision"
        raise UserError(f"git has no such folder of results ({said}); {FORMS}")
    return done.stdout
