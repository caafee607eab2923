"""The base-to-novel task: which classes are which, what is learnt from, and whole runs."""

from __future__ import annotations

import json
from statistics import fmean, harmonic_mean

import pytest

from support.coop_trees import CLASSES, entries, make_set
from support.experiments import experiment, run
from support.pictures import refusal
from support.toys import ToyCLIP, split_of
from zipeft import registry
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.settings import override
from zipeft.tasks.coop.base2novel import OF_AVERAGES, BaseToNovelTask


def load(tmp_path, classes=5, shots=2):
    root = make_set(tmp_path / "caltech-101", entries(CLASSES[:classes]))
    return BaseToNovelTask(data_dir=root, shots=shots).load("caltech101")


@pytest.mark.parametrize(("classes", "base"), [(4, 2), (5, 3)])
def test_training_and_validation_are_of_base_classes_alone(tmp_path, classes, base):
    data = load(tmp_path, classes)
    names = [name.replace("_", " ") for name in CLASSES[:classes]]
    assert list(data.classes) == names
    for split in (data.train, data.validation):
        assert set(split.targets) == set(range(base))
        assert {name.split("/")[1] for name in split.names} == set(CLASSES[:base])
    test = split_of(data, "test")
    assert set(test.targets) == set(range(classes))
    assert all(CLASSES[target] == name.split("/")[1] for target, name in zip(test.targets, test.names, strict=True))
    assert data.counts() == (2 * base, 2 * base, 4 * classes)
    assert f"base classes: the first {base} of {classes}" in data.note
    objective = BaseToNovelTask().objective("caltech101", data.classes)
    assert (objective.base, objective.classes) == (base, tuple(names))


def test_too_few_classes_are_refused(tmp_path):
    assert "has 3 classes: base and novel ones need two each" in refusal(load, tmp_path, 3)


def test_bad_settings_are_refused():
    assert "shots is 0" in refusal(override, BaseToNovelTask, {"shots": "0"})
    assert "write {} once" in refusal(override, BaseToNovelTask, {"template": "{} {}"})
    assert "no data set 'icon' embedded; did you mean 'icons'" in refusal(BaseToNovelTask(sets=("icon",)).datasets)
    assert BaseToNovelTask().datasets() == ("icons",)


@pytest.mark.parametrize("preset", BaseToNovelTask.presets)
def test_presets_leave_out_what_learns_a_head(preset):
    chosen = BaseToNovelTask.presets[preset]
    assert BaseToNovelTask(**chosen.task).shots == 16
    assert TrainingProtocol(preset=preset, **chosen.protocol)
    assert chosen.methods
    assert "linear" not in chosen.methods
    assert all("image-text" in registry.methods.get(name).modalities for name in chosen.methods)


def test_published_harmonic_means_are_those_of_their_sources():
    three_sets, eleven_sets = BaseToNovelTask.published
    for method, row in three_sets.rows.items():
        values = [float(value) for value in row]
        sets = [values[at : at + 3] for at in range(0, 12, 3)]
        for base, novel, harmonic in sets[:3]:
            assert harmonic_mean([base, novel]) == pytest.approx(harmonic, abs=0.011), method
        assert [fmean(column) for column in zip(*sets[:3], strict=True)] == pytest.approx(sets[3], abs=0.011), method
    for method, row in eleven_sets.rows.items():
        base, novel, harmonic = map(float, row)
        assert harmonic_mean([base, novel]) == pytest.approx(harmonic, abs=0.011), method


def test_the_harmonic_mean_of_the_averages_is_not_the_average_of_harmonic_means():
    """Two data sets by hand, 0.9 and 0.3, 0.5 and 0.5: the averages are 0.7 and 0.4."""
    assert OF_AVERAGES.of({"base_accuracy": 0.7, "novel_accuracy": 0.4}) == pytest.approx(0.56 / 1.1)
    assert fmean([harmonic_mean([0.9, 0.3]), harmonic_mean([0.5, 0.5])]) == pytest.approx(0.475)
    assert OF_AVERAGES.of({"base_accuracy": 0.0, "novel_accuracy": 0.4}) == 0
    assert BaseToNovelTask.summaries == (OF_AVERAGES,)


# --- runs -------------------------------------------------------------------------------------------------------------


def measured(tmp_path, method, **settings):
    task = BaseToNovelTask(data_dir=make_set(tmp_path / "caltech-101"), shots=2)
    made = experiment(ToyCLIP(), task, names=("toy", "base2novel"), epochs=2, batch_size=8)
    return made.measure(run("caltech101", method, **settings))


@pytest.mark.parametrize("method", ["untuned", "coop", "lora", "zero_gated"])
def test_methods_are_scored_on_both_kinds_of_classes(tmp_path, method):
    result, _ = measured(tmp_path, method)
    assert set(result.validation) == {"harmonic_mean", "base_accuracy"}
    scores = result.test
    assert set(scores) == {"harmonic_mean", "base_accuracy", "novel_accuracy"}
    assert scores["harmonic_mean"] == pytest.approx(fmean(result.item_scores))
    for kind, own in (("base", range(3)), ("novel", range(3, 5))):
        pairs = [pair for pair in zip(result.predictions, result.targets, strict=True) if pair[1] in own]
        assert all(guess[kind == "novel"] in own for guess, _ in pairs)
        right = fmean(guess[kind == "novel"] == target for guess, target in pairs)
        assert scores[f"{kind}_accuracy"] == pytest.approx(right)
    json.dumps([*result.predictions, *result.targets])


def test_a_linear_probe_is_refused(tmp_path):
    assert "take fewshot" in refusal(measured, tmp_path, "linear")
