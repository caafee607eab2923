"""The few-shot task: its settings, its texts, embedded icons, and whole runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from support.coop_trees import make_set
from support.experiments import experiment, run
from support.method_cases import methods_for
from support.pictures import SPLITS, refusal
from support.toys import ToyCLIP, split_of
from zipeft import registry
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.settings import override
from zipeft.tasks.coop import icons as fewshot_icons
from zipeft.tasks.coop.fewshot import FewShot
from zipeft.tasks.coop.presets import SPACES
from zipeft.tasks.coop.sets import SETS
from zipeft.tasks.fgvc import icons

# --- the task ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", FewShot.presets)
def test_presets_are_settings_of_the_task(preset):
    chosen = FewShot.presets[preset]
    task = FewShot(**chosen.task)
    assert task.datasets() == tuple(f"icons-{shots}shot" for shots in task.shots)
    assert TrainingProtocol(preset=preset, **chosen.protocol)
    for name in chosen.methods:
        assert "image-text" in registry.methods.get(name).modalities
    for name, space in chosen.spaces.items():
        assert set(space) <= set(registry.methods.get(name).__dataclass_fields__)


def test_what_has_no_head_searches_no_rate_of_one():
    without = [name for name in methods_for("image-text") if name not in ("linear", "untuned")]
    assert set(without) <= set(SPACES)
    assert not [name for name, space in SPACES.items() if "head_learning_rate" in space]


def test_published_means_are_those_of_the_columns():
    table = FewShot.published[0]
    for method, row in table.rows.items():
        *scores, mean = map(float, row)
        assert fmean(scores) == pytest.approx(mean, abs=0.006), method
    assert set(table.columns) <= {*SETS, "mean"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shots": ""}, "shots is empty"),
        ({"shots": "4,0"}, "shots has 0"),
        ({"template": "a photo"}, "write {} once"),
        ({"template": "{} and {}"}, "write {} once"),
        ({"split_seed": "-1"}, "split_seed is -1"),
        ({"shifted": "imagenetv2"}, "give that too"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(override, FewShot, values)


def test_sets_that_are_not_there_are_refused(tmp_path):
    assert "no data set 'eurosat' embedded; name its folder with --data-dir" in refusal(
        FewShot(sets=("eurosat",)).datasets
    )
    assert "no data set 'icons': give its name and the number of shots" in refusal(FewShot().load, "icons")
    assert "no data set 'dtd' embedded" in refusal(FewShot().load, "dtd-4shot")
    assert "does not exist" in refusal(FewShot(data_dir=tmp_path / "gone").datasets)


def test_texts_are_those_of_the_data_set_or_of_the_user():
    task = FewShot()
    assert task.objective("icons-4shot", []).templates == ("a {} icon",)
    assert task.objective("eurosat-16shot", []).templates == ("a centered satellite photo of {}.",)
    assert task.objective("caltech101-1shot", []).templates == ("a photo of a {}.",)
    assert FewShot(template="{}!").objective("eurosat-1shot", []).templates == ("{}!",)
    assert all(published.template.count("{}") == 1 for published in SETS.values())


# --- icons ------------------------------------------------------------------------------------------------------------

CONCEPTS = ("arrow-up", "bell", "cat", "star_half")


@pytest.fixture
def stand_ins(monkeypatch):
    """Let squares of grey stand in for the drawings of four concepts: ten by fonts of training, three by the others."""
    places = [("Phosphor", 10), (icons.TEST_FONTS[0], 2), (icons.TEST_FONTS[1], 1)]
    fonts = [font for font, count in places for _ in range(count)]
    glyphs = [
        icons.Glyph(font, f"{concept}-{index}", 20 * at + index)
        for at, concept in enumerate((*CONCEPTS, "other"))
        for index, font in enumerate(fonts)
    ]
    monkeypatch.setattr(fewshot_icons, "HELD_OUT", CONCEPTS[::-1])
    monkeypatch.setattr(fewshot_icons, "read_glyphs", lambda: glyphs)
    monkeypatch.setattr(icons, "_ink", lambda glyph: PIL.Image.new("L", (30, 30), 100 + glyph.codepoint))


def test_icons_are_tested_on_fonts_that_training_never_saw(stand_ins):
    data = FewShot().load("icons-4shot")
    assert list(data.classes) == ["arrow up", "bell", "cat", "star half"]
    assert [Counter(split_of(data, split).targets) for split in SPLITS] == [
        dict.fromkeys(range(4), count) for count in (8, 2, 3)
    ]
    for split in SPLITS:
        for name, target in zip(split_of(data, split).names, split_of(data, split).targets, strict=True):
            font, glyph = name.split(":")
            assert glyph.startswith(CONCEPTS[target])
            assert (font in icons.TEST_FONTS) == (split == "test")
    assert data.counts() == (16, 8, 12)
    assert FewShot(split_seed=1).load("icons-4shot").train.names != data.train.names
    assert "4 classes with fewer images, 8.0 a class on average" in FewShot().load("icons-16shot").note


def test_the_shifted_icons_are_the_test_icons_in_white_on_black(stand_ins):
    data = FewShot().load("icons-1shot")
    test, inverted = split_of(data, "test"), split_of(SimpleNamespace(test=data.shifted["inverted"]), "test")
    assert inverted.targets == test.targets
    assert inverted.names == [f"inverted/{name}" for name in test.names]
    for one, other in zip(test.examples, inverted.examples, strict=True):
        assert (np.asarray(one).astype(int) + np.asarray(other) == 255).all()
        assert np.asarray(one)[0, 0, 0] == 255


# --- runs -------------------------------------------------------------------------------------------------------------


def measured(task, dataset, method, seed=0, **protocol):
    protocol = {"epochs": 1, "batch_size": 8} | protocol
    return experiment(ToyCLIP(), task, names=("toy", "fewshot"), **protocol).measure(run(dataset, method, seed))[0]


@pytest.mark.parametrize("method", ["untuned", "linear", "coop", "zero_gated"])
def test_methods_run_on_a_folder(tmp_path, method):
    make_set(tmp_path / "caltech-101")
    make_set(tmp_path / "drawn", base="images")
    result = measured(FewShot(data_dir=tmp_path, shifted=("drawn",)), "caltech101-2shot", method)
    assert result.task.metric == "accuracy"
    assert (result.task.sizes.train, result.task.sizes.validation, result.task.sizes.test) == (10, 10, 20)
    assert set(result.test) == {"accuracy", "drawn accuracy"}
    assert result.test["accuracy"] == result.test["drawn accuracy"] == fmean(result.item_scores)  # the same images
    assert (result.cost.head_parameters > 0) == (method == "linear")
    assert {"data_dir", "sets", "shots"}.isdisjoint(result.task.settings)


def test_an_untuned_model_scores_the_same_whatever_the_seed_draws(stand_ins):
    results = [measured(FewShot(), f"icons-{shots}shot", "untuned", seed) for shots in (1, 4) for seed in (0, 1)]
    assert len({result.test["accuracy"] for result in results}) == 1
    assert len({result.predictions for result in results}) == 1


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_icons():
    data = FewShot().load("icons-8shot")
    assert len(data.classes) == len(set(data.classes)) == 41
    sizes = Counter(data.train.targets)
    assert set(sizes) == set(range(41))
    assert min(sizes.values()) >= 6
    drawn = {
        split: {hashlib.sha256(image.tobytes()).digest() for image in split_of(data, split).examples}
        for split in SPLITS
    }
    assert not drawn["test"] & (drawn["train"] | drawn["validation"])
    assert {image.size for image in data.train.examples} == {(96, 96)}
