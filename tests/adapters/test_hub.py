"""Adapters on the hub, for which a stand-in takes its place: what is uploaded, what comes back, what is refused."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard, errors
from huggingface_hub.utils import are_progress_bars_disabled, logging, tqdm
from safetensors.torch import save

from support.experiments import experiment, run
from support.result_factory import make_result, make_trial
from support.toys import ToyViT, registered
from zipeft.adapters.hub import published
from zipeft.adapters.saved import load_adapter, read_record, save_adapter
from zipeft.commands import pull, push
from zipeft.formatting import percent
from zipeft.results import Store, save_result
from zipeft.results.packing import pack

FILES = {"adapter.safetensors", "adapter.json", "README.md"}


@pytest.fixture(autouse=True)
def toys():
    with registered():
        yield


@pytest.fixture(scope="module")
def trained():
    """A run on toy data: its result, what it learnt, and the adapter's record."""
    with registered():
        measured, gated = experiment(epochs=1, batch_size=8), run("colours", "zero_gated", length=2, layers=1)
        result, learner = measured.measure(gated)
        return result, learner, replace(measured.describer.adapter(gated), run=measured.id(gated))


@pytest.fixture
def saved(trained, tmp_path):
    result, learner, record = trained
    return SimpleNamespace(
        adapter=save_adapter(tmp_path / "adapter", learner, record), result=save_result(tmp_path / "results", result)
    )


class Hub:
    """As much of the hub as is asked of it; each call is checked against the real client's signature."""

    def __init__(self, monkeypatch):
        self.repositories, self.calls = {}, []
        for name in ("create_repo", "model_info", "upload_folder"):
            monkeypatch.setattr(huggingface_hub.HfApi, name, self._method(name))
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self._function("snapshot_download"))
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")

    def add(self, name, private=False, **files):
        self.repositories[name] = SimpleNamespace(files=files or {".gitattributes": b""}, private=private)
        return self.repositories[name]

    def _method(self, name):
        call = self._call(name, inspect.signature(getattr(huggingface_hub.HfApi, name)))
        return lambda api, *args, **options: call(api, *args, **options)

    def _function(self, name):
        return self._call(name, inspect.signature(getattr(huggingface_hub, name)))

    def _call(self, name, signature):
        def call(*args, **options):
            given = signature.bind(*args, **options).arguments
            given.pop("self", None)
            self.calls.append((name, given))
            return getattr(self, name)(**given)

        return call

    def create_repo(self, repo_id, private, exist_ok):
        if repo_id not in self.repositories:
            self.add(repo_id, bool(private))
        return f"https://huggingface.co/{repo_id}"

    def model_info(self, repo_id, timeout, revision=None):
        if repo_id not in self.repositories:
            raise errors.RepositoryNotFoundError.__new__(errors.RepositoryNotFoundError)
        if revision not in (None, "main"):
            raise errors.RevisionNotFoundError.__new__(errors.RevisionNotFoundError)
        found = self.repositories[repo_id]
        siblings = [SimpleNamespace(rfilename=name) for name in found.files]
        return SimpleNamespace(siblings=siblings, private=found.private, sha="a1b2")

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
        files = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}
        self.repositories[repo_id].files |= {name: files[name] for name in files if name in allow_patterns}

    def snapshot_download(self, repo_id, revision, allow_patterns, repo_type):
        assert revision == "a1b2"
        folder = self.cache / repo_id.replace("/", "--")
        folder.mkdir(parents=True)
        for name, content in self.repositories[repo_id].files.items():
            if any(fnmatchcase(name, pattern) for pattern in allow_patterns):
                (folder / name).write_bytes(content)
        return str(folder)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = Hub(monkeypatch)
    hub.cache = tmp_path / "hub-cache"
    return hub


def refusal(capsys, command, *arguments):
    capsys.readouterr()
    assert command.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def edit(folder, **changes):
    record = json.loads((folder / "adapter.json").read_text())
    for part, change in changes.items():
        record[part] = {**record[part], **change} if isinstance(change, dict) else change
    (folder / "adapter.json").write_text(json.dumps(record))


# --- the model card ---------------------------------------------------------------------------------------------------


def carded(saved, *options):
    assert push.main([str(saved.adapter), "owner/name", "--dry-run", *map(str, options)]) == 0
    return ModelCard.load(saved.adapter / "README.md")


def test_the_card_says_what_the_adapter_is(saved, trained):
    result, learner, _ = trained
    card = carded(saved, "--result", saved.result)
    assert card.data.library_name == "zipeft"
    assert card.data.metrics == ["accuracy"]
    assert {"zipeft", "toy", "zero_gated"} <= set(card.data.tags)
    assert (card.data.base_model, card.data.datasets) == (None, None)  # a toy is on no hub
    parameters = sum(parameter.numel() for parameter in learner.trainable().values())
    for words in (
        f"{parameters} parameters",
        "`zero_gated.length` | 2 ",
        "`epochs` | 1 ",
        f"`accuracy` | {percent(result.test['accuracy'])} ",
        f"{result.task.sizes.test} test examples",
        "zipeft pull owner/name --out adapter",
    ):
        assert words in " ".join(card.text.replace("|", " | ").split()) + " ", words


def test_the_card_takes_the_scores_of_its_run_from_an_archive(saved, trained, tmp_path):
    text = carded(saved, "--result", saved.result).text
    (saved.adapter / "README.md").unlink()
    store = Store(tmp_path / "results")
    store.save(replace(trained[0], seed=9))
    ((archive, records),) = pack(store)
    assert records == 2
    assert carded(saved, "--result", archive).text == text


def test_the_card_has_no_scores_where_none_are_given(saved):
    card = carded(saved, "--base-model", "timm/vit", "--dataset", "owner/colours")
    assert (card.data.base_model, card.data.datasets, card.data.metrics) == ("timm/vit", ["owner/colours"], None)
    assert "None were given" in card.text


def test_names_on_the_hub_are_taken_from_the_records(saved, tmp_path):
    result = make_result(**{"task.source": "hub nyu-mll/glue@bcdcba7"})
    edit(saved.adapter, run=result.id, backbone={"checkpoint": "meta-llama/Llama-3.2-1B"})
    card = carded(saved, "--result", save_result(tmp_path / "hub-results", result))
    assert (card.data.base_model, card.data.datasets) == ("meta-llama/Llama-3.2-1B", ["nyu-mll/glue"])


def test_a_converted_adapter_says_so(saved):
    edit(saved.adapter, origin="peft: folder")
    text = carded(saved).text
    assert "converted from another format (peft: folder)" in text
    assert "zero_gated.length" in text
    assert "learning_rate" not in text  # nobody knows it


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing.json", "is no result of a run"),
        (lambda folder: save_result(folder, make_result()), "does not have the scores of this adapter: its run has"),
        (lambda folder: save_result(folder, make_trial()), "is no result of a run"),
        (lambda folder: (folder / "bad.json").write_text("{") and folder / "bad.json", "not a JSON file"),
    ],
    ids=["missing", "of another run", "trial", "damaged"],
)
def test_scores_of_something_else_are_refused(make, message, saved, tmp_path, capsys):
    options = (saved.adapter, "owner/name", "--dry-run", "--result", make(tmp_path))
    assert message in refusal(capsys, push, *options)
    assert not (saved.adapter / "README.md").exists()


def test_a_card_that_is_there_is_taken_as_it_is(saved, hub, capsys):
    carded(saved)
    (saved.adapter / "README.md").write_text("Mine.")
    said = refusal(capsys, push, saved.adapter, "owner/name", "--result", saved.result)
    assert "is taken as it is" in said
    assert push.main([str(saved.adapter), "owner/name"]) == 0
    assert hub.repositories["owner/name"].files["README.md"] == b"Mine."


def test_a_dry_run_uploads_nothing(saved, hub):
    carded(saved)
    assert hub.calls == []


# --- the hub ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def outputs(folder, backbone=None):
    learner, _ = load_adapter(folder, backbone)
    return learner(torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("private", [False, True])
def test_an_adapter_comes_back_from_the_hub(private, saved, hub, tmp_path, capsys):
    (saved.adapter / "notes.txt").write_text("mine alone")
    assert push.main([str(saved.adapter), "owner/name", *(["--private"] if private else [])]) == 0
    assert capsys.readouterr().out == "https://huggingface.co/owner/name\n"
    stored = hub.repositories["owner/name"]
    assert stored.files.keys() == {*FILES, ".gitattributes"}
    assert stored.private == private
    stored.files |= {"evil.py": b"print()", "pytorch_model.bin": b"\0"}
    out = tmp_path / "pulled"
    assert pull.main(["owner/name", "--out", str(out)]) == 0
    assert "zero_gated on toy (toy), for toy" in capsys.readouterr().out
    assert {file.name for file in out.iterdir()} == FILES
    assert torch.equal(outputs(out), outputs(saved.adapter))


def test_an_adapter_is_pushed_again(saved, hub):
    for _ in range(2):
        assert push.main([str(saved.adapter), "owner/name"]) == 0


def test_no_path_of_this_machine_is_published(saved, hub):
    edit(
        saved.adapter,
        backbone={"checkpoint": "vit", "settings": {"checkpoint": "/home/me/vit", "pretrained": True}},
        task={"settings": {"data_dir": "/home/me/pictures", "classes": 3}},
    )
    before = (saved.adapter / "adapter.json").read_bytes()
    assert push.main([str(saved.adapter), "owner/name"]) == 0
    assert not any(b"/home/me" in content for content in hub.repositories["owner/name"].files.values())
    record = json.loads(hub.repositories["owner/name"].files["adapter.json"])
    assert record["backbone"]["settings"] == {"checkpoint": "vit", "pretrained": True}
    assert record["task"]["settings"] == {"data_dir": None, "classes": 3}
    assert (saved.adapter / "adapter.json").read_bytes() == before


def test_what_is_published_still_loads(saved):
    expected = outputs(saved.adapter)
    edit(saved.adapter, **published(read_record(saved.adapter)).to_json())
    assert torch.equal(outputs(saved.adapter, ToyViT()), expected)


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (lambda hub, adapter: None, ["no-owner"], "give owner/name"),
        (lambda hub, adapter: None, ["a/b/c"], "give owner/name"),
        (lambda hub, adapter: None, ["owner/na me"], "give owner/name"),
        (lambda hub, adapter: hub.add("owner/name"), ["owner/name", "--private"], "is public"),
        (
            lambda hub, adapter: hub.add("owner/name", **{"model.safetensors": b"", "README.md": b""}),
            ["owner/name"],
            "holds something else (model.safetensors)",
        ),
        (lambda hub, adapter: (adapter / "adapter.safetensors").unlink(), ["owner/name"], "cannot be read"),
        (lambda hub, adapter: (adapter / "adapter.json").unlink(), ["owner/name"], "holds no adapter"),
    ],
)
def test_a_push_that_should_not_be_uploads_nothing(prepare, options, message, saved, hub, capsys):
    prepare(hub, saved.adapter)
    assert message in refusal(capsys, push, saved.adapter, *options)
    assert "upload_folder" not in [name for name, _ in hub.calls]


def test_a_push_without_a_token(saved, hub, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "`hf auth login`" in refusal(capsys, push, saved.adapter, "owner/name")
    assert hub.calls == []


def test_a_hub_out_of_reach(saved, monkeypatch, tmp_path, capsys):
    """By the real client, which is told to stay offline."""
    assert "the hub did not give owner/name (" in refusal(capsys, pull, "owner/name", "--out", tmp_path / "out")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    assert "the hub did not take owner/name (" in refusal(capsys, push, saved.adapter, "owner/name")


def test_a_hub_that_breaks_off_is_one_line(saved, hub, monkeypatch, tmp_path, capsys):
    """Whatever the client tells of its attempts, and draws."""
    assert push.main([str(saved.adapter), "owner/name"]) == 0

    def breaks_off(*arguments, **options):
        with tqdm(range(2)):
            logging.get_logger("huggingface_hub.utils._http").warning("Retrying in 8s [Retry 4/5].")
            raise ConnectionError("the server is gone")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", breaks_off)
    verbosity = logging.get_verbosity()
    assert "(ConnectionError: the server is gone)" in refusal(capsys, pull, "owner/name", "--out", tmp_path / "out")
    assert (logging.get_verbosity(), are_progress_bars_disabled()) == (verbosity, False)


def test_what_a_record_says_does_not_command_the_terminal(saved, hub, tmp_path, capsys):
    edit(saved.adapter, backbone={"checkpoint": "\x1b[2Jvit\u202e\x07"})
    assert push.main([str(saved.adapter), "owner/name"]) == 0
    assert pull.main(["owner/name", "--out", str(tmp_path / "out")]) == 0
    assert r"(\x1b[2Jvit\u202e\x07)" in capsys.readouterr().out


def damaged(name, content):
    def prepare(hub):
        hub.repositories["owner/name"].files[name] = content

    return prepare


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda hub: hub.repositories.clear(), "there is no such repository, or your token may not see it"),
        (lambda hub: hub.repositories["owner/name"].files.pop("adapter.json"), "no adapter of zipeft: it has no"),
        (damaged("adapter.json", b"{}"), "is not the record of an adapter"),
        (damaged("adapter.json", b"[" * 100_000), "owner/name on the hub is no adapter that can be used: "),
        (damaged("adapter.safetensors", b"\0" * 99), "owner/name on the hub is no adapter that can be used: "),
        (damaged("adapter.safetensors", save({"x": torch.tensor([torch.inf])})), "numbers that are not finite"),
    ],
)
def test_what_is_no_adapter_on_the_hub_leaves_no_folder(prepare, message, saved, hub, tmp_path, capsys):
    assert push.main([str(saved.adapter), "owner/name"]) == 0
    prepare(hub)
    assert message in refusal(capsys, pull, "owner/name", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_revision_that_is_not_there(saved, hub, tmp_path, capsys):
    assert push.main([str(saved.adapter), "owner/name"]) == 0
    said = refusal(capsys, pull, "owner/name", "--out", tmp_path / "out", "--revision", "v2")
    assert "it has no such revision" in said


def test_a_pull_writes_over_nothing(saved, hub, capsys):
    hub.add("owner/name")
    assert "is there already" in refusal(capsys, pull, "owner/name", "--out", saved.adapter)
    assert hub.calls == []
