"""The user's own package index: find one pinned file of it and download that file, installing and running nothing.

The settings are pip's: its configuration files, its ``PIP_*`` variables, and uv's ``UV_*`` index variables after them.
"""

from __future__ import annotations

import configparser
import hashlib
import logging
import os
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import platformdirs

from zipeft.errors import one_line
from zipeft.files import open_file

if TYPE_CHECKING:
    from unearth import Link
    from unearth.fetchers.sync import PyPIClient

Result = TypeVar("Result")

PYPI = "https://pypi.org/simple"
ATTEMPTS = 3
BACKOFF = 0.5
"""Seconds before the second attempt; each further pause is twice as long."""

SPARE = 10_000_000
"""Bytes that may come beyond twice the size of a file, which is approximate: a server may send without an end."""


class IndexFailure(Exception):
    """The file could not be had; the text says in one phrase why."""


@dataclass(frozen=True)
class PinnedFile:
    """One file of a release. ``kind`` is "wheel" or "sdist"; ``size`` is in bytes, for the progress bar, and may be
    approximate."""

    name: str
    version: str
    kind: str
    sha256: str
    size: int


def fetch(file: PinnedFile, part: Path) -> None:
    """Download ``file`` into ``part``, going on from what ``part`` already holds. The caller checks the hash.

    Raises ``IndexFailure`` when no index of the user has the file or none can be reached.
    """
    settings = pip_settings()
    with _open_client(settings) as client:
        _download(client, _find(client, settings, file), part, file)


def answers(seconds: float) -> dict[str, str]:
    """Ask each index of the user once; return by its address, without a password, why it does not answer in so many
    seconds, or "". Raises ``IndexFailure`` where pip's settings cannot be used."""
    from unearth import Link

    settings = {**pip_settings(), "timeout": str(seconds)}
    found = {}
    with _open_client(settings) as client:
        expected: tuple[type[Exception], ...] = (*_http_errors(client), OSError, ValueError)
        for kind, location in _sources(settings):
            if kind == "index_urls":
                try:
                    client.get(f"{location.rstrip('/')}/pip/").raise_for_status()
                    found[Link(location).redacted] = ""
                except expected as error:
                    found[Link(location).redacted] = _phrase(error)
    return found


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open_file(path) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


# --- settings ---------------------------------------------------------------------------------------------------------


def pip_settings() -> dict[str, str]:
    """Return the options that ``pip install`` would use, by their long names ("index-url", "find-links", ...)."""
    options: dict[str, str] = {}
    parser = configparser.RawConfigParser()
    try:
        parser.read(_pip_config_files())
    except (configparser.Error, UnicodeDecodeError) as error:
        raise IndexFailure(f"pip's configuration cannot be read: {' '.join(str(error).split())}") from None
    for section in ("global", "install"):
        if parser.has_section(section):
            options.update((key.replace("_", "-"), value) for key, value in parser.items(section))
    for key, value in os.environ.items():
        if key.upper().startswith("PIP_"):
            options[key[4:].lower().replace("_", "-")] = value
    return {key: value.strip() for key, value in options.items() if value.strip()}


def _pip_config_files() -> list[Path]:
    """Return pip's configuration files, the later ones overriding the earlier, in pip's own order."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    basename = "pip.ini" if sys.platform == "win32" else "pip.conf"
    folders = platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
    if sys.platform not in ("win32", "darwin"):
        folders.append("/etc")
    if not (named and os.path.exists(named)):
        folders.append(os.path.expanduser("~/pip" if sys.platform == "win32" else "~/.pip"))
        user = platformdirs.user_config_dir("pip", appauthor=False, roaming=True)
        folders.append(user if os.path.isdir(user) else os.path.expanduser("~/.config/pip"))
    folders.append(sys.prefix)
    return [Path(folder, basename) for folder in folders] + ([Path(named)] if named else [])


def _sources(settings: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (kind, location) of all that may hold the file, kind "find_links" or "index_urls"; local folders first."""

    def uv(*names: str) -> list[str]:
        # uv lets an index carry a name: "mirror=https://..."
        return [re.sub(r"^[\w.-]+=", "", url) for name in names for url in os.environ.get(name, "").split()]

    links = [os.path.expanduser(link) for link in settings.get("find-links", "").split()] + uv("UV_FIND_LINKS")
    indexes: list[str] = []
    if settings.get("no-index", "").lower() not in ("1", "true", "yes", "on", "y", "t"):
        first = [settings["index-url"]] if "index-url" in settings else uv("UV_DEFAULT_INDEX", "UV_INDEX_URL")
        indexes = (first or [PYPI])[:1] + settings.get("extra-index-url", "").split()
        indexes += uv("UV_INDEX", "UV_EXTRA_INDEX_URL")
    return [("find_links", link) for link in links] + [("index_urls", url) for url in indexes]


@contextmanager
def _open_client(settings: Mapping[str, str]) -> Iterator[PyPIClient]:
    """Open an HTTP client with the user's certificates, proxy, trusted hosts, netrc and keyring."""
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers.sync import PyPIClient

    arguments: dict[str, Any] = {"trusted_hosts": settings.get("trusted-host", "").split(), "follow_redirects": True}
    if "proxy" in settings:
        arguments["proxy"] = settings["proxy"]
    certificate = settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    try:
        arguments["timeout"] = float(settings.get("timeout") or settings.get("default-timeout") or 15)
        if certificate:
            file, folder = (None, certificate) if os.path.isdir(certificate) else (certificate, None)
            arguments["verify"] = ssl.create_default_context(cafile=file, capath=folder)
        if "client-cert" in settings:
            arguments.setdefault("verify", ssl.create_default_context()).load_cert_chain(settings["client-cert"])
        client = PyPIClient(**arguments)
    except (OSError, ValueError) as error:
        raise IndexFailure(f"pip's certificate, timeout or proxy cannot be used: {_phrase(error)}") from None
    indexes = [location for kind, location in _sources(settings) if kind == "index_urls"]
    with client:
        # No prompt: a run that waits for a password in the night helps nobody.
        client.auth = MultiDomainBasicAuth(prompting=False, index_urls=indexes)
        yield client


# --- finding ----------------------------------------------------------------------------------------------------------


def _find(client: PyPIClient, settings: Mapping[str, str], file: PinnedFile) -> Link:
    """Return the link of ``file`` from the first source that has it; one that declares no hash is a last resort.

    Each source is asked by itself, so that one that is down or lacks the package hides none of the others.
    """
    from unearth import Link

    undeclared, reasons = [], []
    for kind, location in _sources(settings):
        shown = Link(location).redacted
        links, reason = _links(client, kind, location, file)
        for link in links:
            declared = _declared_sha256(link)
            if declared == file.sha256:
                return link
            if declared is None:
                undeclared.append(link)
            reason = reason or f"has a {file.kind} of this version with another SHA-256"
        reasons.append(f"{shown}: {reason or f'has no {file.kind} of this version'}")
    if undeclared:
        return undeclared[0]
    raise IndexFailure("; ".join(reasons) or "pip's settings name no index")


def _links(client: PyPIClient, kind: str, location: str, file: PinnedFile) -> tuple[list[Link], str]:
    """Return the links that one source has for ``file``'s release and kind, and what went wrong ("" if nothing)."""
    from unearth import PackageFinder

    def ask() -> list[Link]:
        source: dict[str, Any] = {kind: [location]}
        finder = PackageFinder(client, **source, ignore_compatibility=True)  # type: ignore[arg-type]  # its own client
        packages = finder.find_matches(f"{file.name}=={file.version}")
        return [package.link for package in packages if package.link.is_wheel == (file.kind == "wheel")]

    expected: tuple[type[Exception], ...] = (*_http_errors(client), OSError, ValueError, LookupError)
    with _captured_warnings("unearth") as warnings:
        try:
            return _retried(client, ask), "; ".join(text.rpartition(": ")[2] for text in warnings)
        except expected as error:
            return [], _phrase(error)


def _declared_sha256(link: Link) -> str | None:
    if link.is_file:
        return sha256_of(link.file_path) if link.file_path.is_file() else ""
    return (link.hash_option or {}).get("sha256", [None])[0]


@contextmanager
def _captured_warnings(logger_name: str) -> Iterator[list[str]]:
    """Collect what a logger has to say; with no handler at all, logging would print it on the user's terminal."""
    texts: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    logger, collector = logging.getLogger(logger_name), Collector(logging.WARNING)
    logger.addHandler(collector)
    try:
        yield texts
    finally:
        logger.removeHandler(collector)


# --- downloading ------------------------------------------------------------------------------------------------------


def _download(client: PyPIClient, link: Link, part: Path, file: PinnedFile) -> None:
    """Stream ``link`` into ``part`` with a progress bar; after a dropped connection go on from what is there."""
    # ValueError: of a redirection to another kind of address.
    expected: tuple[type[Exception], ...] = (*_http_errors(client), ValueError)
    try:
        _retried(client, lambda: _stream(client, link, part, file), lambda: _size(part))
    except IndexFailure:
        part.unlink(missing_ok=True)  # nothing of it is of use
        raise
    except expected as error:
        raise IndexFailure(f"{link.redacted}: {_phrase(error)}") from None


def _stream(client: PyPIClient, link: Link, part: Path, file: PinnedFile) -> None:
    from tqdm import tqdm

    done = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with client.get_stream(link.url_without_fragment, headers=headers) as response:
        if response.status_code == 416:  # nothing beyond what is there, and the caller found that it is not the file
            part.unlink()
            return _stream(client, link, part, file)
        response.raise_for_status()
        resumed = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        done = done if resumed else 0
        total = done + int(response.headers.get("Content-Length") or max(file.size - done, 0))
        title = f"downloading {file.name} {file.version}"
        with (
            part.open("ab" if resumed else "wb") as stream,
            tqdm(desc=title, total=total, initial=done, unit="B", unit_scale=True, mininterval=0.5) as bar,
        ):
            for chunk in response.iter_raw():
                done += len(chunk)
                if file.size and done > 2 * file.size + SPARE:
                    raise IndexFailure(f"{link.redacted} sends more than the {file.size:,} bytes of the {file.kind}")
                stream.write(chunk)
                bar.update(len(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _retried(client: PyPIClient, action: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
    """Return ``action()``, tried again with growing pauses while the network or the server fails.

    It gives up after ``ATTEMPTS`` failures in a row without new progress.
    """
    best, failures = progress(), 0
    while True:
        try:
            return action()
        except _http_errors(client) as error:
            reached = progress()
            best, failures = max(best, reached), 1 if reached > best else failures + 1
            status = getattr(getattr(error, "response", None), "status_code", 500)
            if failures == ATTEMPTS or (status < 500 and status != 429):
                raise
            time.sleep(BACKOFF * 2 ** (failures - 1))


def _http_errors(client: PyPIClient) -> tuple[type[Exception], ...]:
    """Return the client's errors: by its version, unearth builds on httpx or on its successor httpx2."""
    base = next(cls for cls in type(client).__mro__ if cls.__name__ == "Client")
    library = sys.modules[base.__module__.partition(".")[0]]
    return library.HTTPError, library.InvalidURL


def _phrase(error: Exception) -> str:
    """Return one line about an error; that of a status names no URL, which may carry a password."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason_phrase}"
    return one_line(error)
