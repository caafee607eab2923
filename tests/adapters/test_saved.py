"""Saved adapters: they come back as they were, and only on what they were made for."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from support import experiments
from support.method_cases import asked_for, covered, methods_for, slow
from support.toys import TOYS, ToyViT, registered, split_of
from zipeft import registry
from zipeft.adapters.saved import RECORD, TENSORS, adapter_bytes, load_adapter, read_record, save_adapter
from zipeft.api.backbone import Weights
from zipeft.errors import UserError
from zipeft.experiments.adapter_store import AdapterStore
from zipeft.training.dataset import encode
from zipeft.training.evaluation import Evaluator


@pytest.fixture(autouse=True)
def toys():
    with registered():
        yield


@pytest.fixture(scope="module")
def experiment():
    return experiments.experiment(epochs=2, batch_size=8)


def saved(experiment, folder, name="zero_gated"):
    run = experiments.run("colours", name)
    result, learner = experiment.measure(run)
    return save_adapter(folder, learner, experiment.describer.adapter(run)), result, learner


@pytest.fixture(scope="module")
def sound(experiment, tmp_path_factory):
    """The folder of an adapter, for tests to copy."""
    with registered():
        return saved(experiment, tmp_path_factory.mktemp("sound"))[0]


SAVED = ("toy", "toy_image_text", "toy_vlm")


@pytest.mark.parametrize(
    ("toy", "name"),
    [
        *covered((toy, name) for toy in SAVED for name in methods_for(TOYS[toy][0].modality)),
        *slow((toy, name) for toy in SAVED for name in asked_for(TOYS[toy][0].modality)),
    ],
)
def test_an_adapter_comes_back_with_the_same_predictions(toy, name, experiment, tmp_path):
    backbone, task = (part() for part in TOYS[toy])
    experiment = experiments.experiment(backbone, task, names=(toy, toy), epochs=2, batch_size=8)
    folder, result, learner = saved(experiment, tmp_path, name)
    loaded, record = load_adapter(folder)
    data = task.load("colours")
    test = encode(split_of(data, "test"), task.windows(backbone), backbone)
    objective = registry.methods.get(name)().objective(task.objective("colours", record.classes))
    _, predictions = Evaluator(objective, Accelerator(cpu=True)).test(loaded, test)
    assert tuple(map(objective.record, predictions)) == result.predictions
    assert record.classes == tuple(data.classes)
    assert (folder / TENSORS).stat().st_size == adapter_bytes(learner) == result.cost.adapter_bytes
    assert load_file(folder / TENSORS).keys() == learner.learnt().keys()


def test_an_adapter_keeps_what_was_chosen_on_validation_data(experiment, tmp_path):
    run = experiments.run("colours", "linear")
    _, learner = experiment.measure(run)
    learner.chosen = {"threshold": 0.25}
    loaded, _ = load_adapter(save_adapter(tmp_path, learner, experiment.describer.adapter(run)))
    assert loaded.chosen == {"threshold": 0.25}


def test_no_two_data_sets_share_an_adapters_folder(experiment, tmp_path):
    store = AdapterStore(tmp_path)
    names = ("one", "数据一", "数据二", "my data", "my_data")
    folders = [store.folder(experiment, experiments.run(name, "linear")) for name in names]
    assert folders[0] == tmp_path / "toy-toy" / "one" / "linear-seed0"
    assert len(set(folders)) == len(names)


def test_a_store_clears_what_a_kill_left_and_never_mixes_two_adapters(experiment, tmp_path, monkeypatch):
    store, run = AdapterStore(tmp_path), experiments.run("colours", "linear")
    _, learner = experiment.measure(run)
    store.keep(experiment, run, learner)
    folder = store.folder(experiment, run)
    edited(folder, run="0" * 16)  # of other settings

    def killed(temporary, path):
        os.rename(temporary, path)
        left.append(temporary)
        raise SystemExit

    left = []
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        store.keep(experiment, run, learner)
    monkeypatch.undo()
    left[0].write_bytes(b"half of what would follow")
    assert len(list(folder.iterdir())) == 2
    assert not (folder / RECORD).exists()  # or it would stand beside the tensors of another run
    assert not store.has(experiment, run)
    store.keep(experiment, run, learner)
    assert sorted(entry.name for entry in folder.iterdir()) == [RECORD, TENSORS]


def test_an_adapter_of_another_backbone_is_refused(sound):
    with pytest.raises(UserError, match=r"was made for the backbone toy .* not for other"):
        load_adapter(sound, ToyViT(checkpoint="other"))


def test_an_adapter_is_known_by_the_checksum_that_older_versions_took(sound, tmp_path, monkeypatch):
    folder = shutil.copytree(sound, tmp_path / "adapter")
    record = read_record(folder).to_json()["backbone"]

    def of(checksum, older=None):
        monkeypatch.setattr(ToyViT, "weights", lambda _: Weights("toy", "local folder", checksum, older))
        edited(folder, backbone={**record, "checksum": "weights alone"})
        return load_adapter(folder)

    of("weights alone")
    of("all that is read", "weights alone")
    for other in (("all that is read",), ("all that is read", "other weights"), ("", None)):
        with pytest.raises(UserError, match="was made for the backbone toy"):
            of(*other)


def edited(folder, **changes):
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, **changes}))


def edited_part(folder, part, **changes):
    edited(folder, **{part: {**json.loads((folder / RECORD).read_text())[part], **changes}})


def edited_tensors(folder, change):
    save_file({name: change(tensor) for name, tensor in load_file(folder / TENSORS).items()}, folder / TENSORS)


def edited_settings(folder, part, **changes):
    record = json.loads((folder / RECORD).read_text())[part]
    edited(folder, **{part: {**record, "settings": {**record["settings"], **changes}}})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / RECORD).unlink(), "holds no adapter"),
        (lambda folder: (folder / RECORD).write_text("{"), "is not the record of an adapter"),
        (lambda folder: (folder / RECORD).write_text("[]"), "is not the record of an adapter"),
        (lambda folder: edited(folder, format=99), "reads \\(format 1\\)"),
        (lambda folder: edited(folder, method={"name": "zero_gated"}), "is not the record of an adapter"),
        (lambda folder: edited(folder, task="toy"), "is not the record of an adapter"),
        (lambda folder: edited(folder, task={"name": "toy", "settings": {}}), "is not the record of an adapter"),
        (lambda folder: (folder / RECORD).write_text("[" * 100_000), "it is nested too deeply"),
        (lambda folder: edited(folder, format=True), "format must be a whole number"),
        (lambda folder: edited(folder, classes=[None]), r"classes\[0\] must be a string"),
        (lambda folder: edited(folder, run=5), "run must be a string"),
        (lambda folder: edited(folder, chosen={"threshold": float("nan")}), "chosen.threshold must be finite"),
        (lambda folder: edited(folder, comment=""), "comment is not a field"),
        (lambda folder: edited_part(folder, "backbone", name=[]), "backbone.name must be a string"),
        (lambda folder: edited_part(folder, "backbone", checksum=None), "backbone.checksum must be a string"),
        (lambda folder: edited_part(folder, "method", settings=[]), "method.settings must be an object"),
        (lambda folder: edited_part(folder, "task", name=None), "task.name must be a string"),
        (lambda folder: edited_settings(folder, "backbone", checkpoint=5), "toy does not take .checkpoint: 5 is not"),
        (lambda folder: edited_settings(folder, "task", data_dir="a\0b"), "toy does not take .data_dir: .* a path"),
        (lambda folder: edited_settings(folder, "method", lenth=1), "zero_gated does not take .no setting 'lenth'"),
        (lambda folder: edited_settings(folder, "method", length="ten"), "take .length: 'ten' is not an integer"),
        (lambda folder: edited_settings(folder, "method", length=1.5), "take .length: 1.5 is not an integer"),
        (lambda folder: edited_settings(folder, "method", length=10**12), "take .length must be 10,000 or less"),
        (lambda folder: edited_settings(folder, "method", gate="x"), "take .gate: 'x' is not one of 'head', 'layer'"),
        (lambda folder: edited_settings(folder, "method", length=0), "zero_gated does not take .length must be"),
        (lambda folder: edited_settings(folder, "task", example=1), "toy does not take .no setting 'example'"),
        (lambda folder: edited(folder, method={"name": "no_such", "settings": {}}), "unknown method 'no_such'"),
        (lambda folder: edited(folder, classes=["one", "two"]), "head.* differs"),
        (lambda folder: (folder / TENSORS).unlink(), "cannot be read"),
        (lambda folder: (folder / TENSORS).write_bytes(b"\0" * 100), "cannot be read"),
        (lambda folder: (folder / TENSORS).unlink() or os.mkfifo(folder / TENSORS), "it is a FIFO, not a file"),
        (lambda folder: save_file({"x": torch.zeros(1)}, folder / TENSORS), "does not fit"),
        (lambda folder: edited_tensors(folder, lambda x: x * torch.nan), "has numbers that are not finite"),
        (lambda folder: edited_tensors(folder, lambda x: x.long()), "holds torch.int64, which does not train"),
        (lambda folder: edited_tensors(folder, lambda x: x.double()), "does not fit"),
    ],
)
def test_a_damaged_adapter_is_refused_in_one_line(damage, message, sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "adapter")
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        load_adapter(folder)
    assert "\n" not in str(error.value)


def test_the_record_says_what_the_adapter_belongs_to(sound):
    record = read_record(sound)
    assert record.backbone.checkpoint == "toy"
    assert record.method.settings["length"] == 10
    assert record.task.dataset == "colours"
