"""zipeft fetch: what is got, what was there, what cannot be had, and going on after it was cut off."""

from __future__ import annotations

import io
import tarfile
from types import SimpleNamespace

import huggingface_hub
import PIL.Image
import pytest

from support.pictures import say_that_vtab_has
from zipeft.commands import fetch
from zipeft.tasks.vtab import embedded as vtab_embedded
from zipeft.tasks.vtab.sets import SETS


def run(capsys, *arguments):
    """Return the status, the outcome of each data set by name, and the error."""
    status = fetch.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, dict(line.split(": ", 1) for line in captured.out.splitlines()), captured.err


def shard(count, shade):
    """Return a tar of tiny images in two classes."""
    buffer, image = io.BytesIO(), io.BytesIO()
    PIL.Image.new("RGB", (1, 1), (shade,) * 3).save(image, "png")
    with tarfile.open(fileobj=buffer, mode="w") as bundle:
        for index in range(count):
            for suffix, content in (("png", image.getvalue()), ("cls", b"%d" % (index % 2))):
                info = tarfile.TarInfo(f"s{index:07}.{suffix}")
                info.size = len(content)
                bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Hub:
    """Repositories of the hub. ``limit`` cuts a download off after so many files."""

    def __init__(self, monkeypatch, *repositories):
        self.files = {
            **{"test/0.tar": shard(3, 90), "test/1.tar": shard(2, 91), "test/nshards.txt": b"2"},
            **{"train/0.tar": shard(1001, 8), "train/1.tar": shard(3, 9), "train/nshards.txt": b"2"},
        }  # in the order in which the hub's client gets them
        self.repositories, self.given, self.limit = set(repositories), [], 10
        monkeypatch.setattr(
            huggingface_hub.HfApi, "dataset_info", lambda api, name, **options: self.info(name, **options)
        )
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)

    def info(self, repository, revision, timeout):
        if repository not in self.repositories:
            raise ConnectionError("no route\nto host")
        assert revision == (SETS["camelyon"].revision if repository == CAMELYON else None)
        return SimpleNamespace(siblings=[], sha="", private=False)

    def download(self, repository, *, repo_type, revision, allow_patterns, local_dir):
        assert repo_type == "dataset"
        for name, content in self.files.items():
            if not (local_dir / name).exists():
                if len(self.given) == self.limit:
                    raise ConnectionError("cut off")
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                (local_dir / name).write_bytes(content)
                self.given.append(name)
        return str(local_dir)


CAMELYON = SETS["camelyon"].hub


@pytest.fixture(autouse=True)
def published(monkeypatch):
    say_that_vtab_has(monkeypatch, test=5)


@pytest.fixture
def embedded(monkeypatch):
    monkeypatch.setattr(vtab_embedded, "fetch", lambda name: "ready: nothing to get")


def test_embedded_sets_need_no_folder_and_published_ones_say_so(capsys, embedded):
    status, outcomes, error = run(capsys, "vtab")
    assert (status, error) == (0, "")
    assert list(outcomes) == [*vtab_embedded.EMBEDDED, *SETS]
    assert all(outcomes[name] == "ready: nothing to get" for name in vtab_embedded.EMBEDDED)
    assert all(outcomes[name].startswith("not there: name a folder with --data-dir") for name in SETS if SETS[name].hub)
    assert outcomes["sun397"].startswith("not there: put it into a folder sun397 of --data-dir")
    assert "smallnorb:2.0.0 of TensorFlow (train: the first 800; validation" in outcomes["smallnorb-azimuth"]


def test_drawn_sets_have_nothing_to_get(capsys):
    status, outcomes, _ = run(capsys, "vtab", "--set", "drawn-count", "--set", "drawn_count")
    assert (status, outcomes) == (0, {"drawn-count": "ready: drawn on demand, there is nothing to get"})


def test_a_set_is_named_as_for_a_run(capsys):
    assert run(capsys, "vtab/drawn-count") == (
        0,
        {"drawn-count": "ready: drawn on demand, there is nothing to get"},
        "",
    )


def test_a_file_is_no_folder(capsys):
    status, outcomes, error = run(capsys, "vtab", "--data-dir", __file__)
    assert (status, outcomes) == (2, {})
    assert error == f"zipeft: error: {__file__} is a file: name a folder with --data-dir\n"


def test_a_published_set_is_got_verified_and_not_got_again(capsys, tmp_path, monkeypatch):
    hub = Hub(monkeypatch, CAMELYON)
    arguments = ("vtab", "--data-dir", tmp_path / "new", "--set", "patch_camelyon")
    status, outcomes, error = run(capsys, *arguments)
    assert (status, error) == (0, "")
    assert outcomes["camelyon"].startswith("ready: wds_vtab-pcam, 2 classes; images: 800 train, 200 validation, 5 test")
    assert "not VTAB's own 1,000 images" in outcomes["camelyon"]
    assert outcomes["camelyon"].endswith("licence: CC0")
    given = list(hub.given)
    status, outcomes, _ = run(capsys, *arguments)
    assert status == 0
    assert outcomes["camelyon"].startswith("there already: wds_vtab-pcam")
    assert hub.given == given


@pytest.mark.parametrize("limit", range(6))
def test_it_goes_on_where_it_was_cut_off(capsys, tmp_path, monkeypatch, limit):
    hub = Hub(monkeypatch, CAMELYON)
    hub.limit = limit
    arguments = ("vtab", "--data-dir", tmp_path, "--set", "camelyon")
    status, outcomes, error = run(capsys, *arguments)
    assert status == 2
    assert (
        "the hub did not give clip-benchmark/wds_vtab-pcam (ConnectionError: cut off): connect, or put it"
        in outcomes["camelyon"]
    )
    assert "1 of 1 sets are not there: camelyon" in error
    hub.limit = 10
    status, outcomes, _ = run(capsys, *arguments)
    assert status == 0
    assert outcomes["camelyon"].startswith("ready: ")
    assert hub.given == list(hub.files)  # none a second time


def test_a_part_that_was_left_behind_is_not_taken_for_the_set(capsys, tmp_path, monkeypatch):
    """Without a process that says that it was cut off: what is there must say it."""
    hub = Hub(monkeypatch, CAMELYON)
    folder = tmp_path / "wds_vtab-pcam"
    for name in ("test/0.tar", "test/1.tar", "test/nshards.txt", "train/0.tar"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(hub.files[name])
    status, outcomes, _ = run(capsys, "vtab", "--data-dir", tmp_path, "--set", "camelyon")
    assert status == 0
    assert outcomes["camelyon"].startswith("ready: ")
    assert hub.given == ["train/1.tar", "train/nshards.txt"]


def test_two_folders_of_one_set_keep_no_other_back(capsys, tmp_path, monkeypatch):
    Hub(monkeypatch, CAMELYON)
    for name in ("svhn", "wds_vtab-svhn"):
        (tmp_path / name).mkdir()
    status, outcomes, _ = run(capsys, "vtab", "--data-dir", tmp_path, "--set", "camelyon", "--set", "svhn")
    assert status == 2
    assert outcomes["camelyon"].startswith("ready: ")
    assert "two folders of svhn, svhn and wds_vtab-svhn: keep one" in outcomes["svhn"]


def test_a_set_that_cannot_be_had_keeps_no_other_back(capsys, tmp_path, monkeypatch, embedded):
    Hub(monkeypatch, CAMELYON)
    status, outcomes, error = run(capsys, "vtab", "--data-dir", tmp_path)
    assert (status, error) == (0, "")
    assert outcomes["camelyon"].startswith("ready")
    assert "not on the hub as VTAB splits it: put it into a folder sun397 of --data-dir" in outcomes["sun397"]
    others = [outcomes[name] for name in SETS if name not in ("camelyon", "sun397")]
    assert all(outcome.startswith("not there: the hub did not give") for outcome in others)
    assert all("(ConnectionError: no route to host)" in outcome for outcome in others)


def test_what_is_there_but_damaged_is_said(capsys, tmp_path, monkeypatch):
    Hub(monkeypatch)
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn/test.txt").write_text("gone.png 1")
    status, outcomes, _ = run(capsys, "vtab", "--data-dir", tmp_path, "--set", "svhn")
    assert status == 2
    assert outcomes["svhn"].startswith("not there: ")
    assert "train800.txt does not exist" in outcomes["svhn"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fgvc"], "this task has nothing to fetch"),
        (["vtba"], "did you mean 'vtab'?"),
        (["vtab", "--set", "cifar1000"], "no data set 'cifar1000'"),
        ([], "required: TASK"),
    ],
)
def test_mistakes_are_one_line_and_status_2(capsys, arguments, said):
    status, outcomes, error = run(capsys, *arguments)
    assert (status, outcomes) == (2, {})
    assert error.startswith("zipeft: error: ")
    assert error.count("\n") == 1
    assert said in error
