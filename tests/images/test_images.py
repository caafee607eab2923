"""Pixels to what a backbone takes, and seeded choices."""

from __future__ import annotations

from collections import Counter

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.pictures import refusal
from zipeft.api import settings
from zipeft.images.reading import fit, to_rgb
from zipeft.images.task import ImageTask
from zipeft.sources.splits import choose_classes, cut
from zipeft.tasks.folder import Folder

# --- splits -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcde"), max_size=60), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_a_cut_is_stratified(labels, fraction, seed):
    stay, taken = cut(labels, fraction, seed)
    assert sorted(stay + taken) == list(range(len(labels)))
    assert stay == sorted(stay)
    assert taken == sorted(taken)
    total, part = Counter(labels), Counter(labels[index] for index in taken)
    for label, count in total.items():
        assert part[label] == (0 if count == 1 else min(max(round(fraction * count), 1), count - 1))
    assert cut(labels, fraction, seed) == (stay, taken)


def test_seeds_give_different_cuts():
    assert len({tuple(cut("a" * 50, 0.2, seed)[1]) for seed in range(10)}) == 10


def test_cuts_are_the_same_on_every_machine():
    assert cut("ababababab", 0.4, 3)[1] == [3, 5, 6, 8]


@given(st.integers(1, 20), st.integers(0, 1000))
def test_fewer_classes_are_a_part_of_more(count, seed):
    classes = [f"class {index}" for index in range(20)]
    chosen = choose_classes(classes[::-1], count, seed)
    assert len(chosen) == count
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(choose_classes(classes, min(count + 1, 20), seed))
    assert choose_classes(classes, 0, seed) == choose_classes(classes, 99, seed) == sorted(classes)


@pytest.mark.parametrize(("part", "count"), [(0.5, 10), (0.24, 5), (0.01, 2), (0.99, 20)])
def test_a_part_of_the_classes_is_as_many_as_it_makes(part, count):
    classes = [f"class {index}" for index in range(20)]
    assert choose_classes(classes, part, 0) == choose_classes(classes, count, 0)


# --- to what a backbone takes -----------------------------------------------------------------------------------------


class Identity:
    def image_transform(self, size):
        return lambda image: (size, np.asarray(image))


def striped(width, height):
    """A black image with a white middle third."""
    image = PIL.Image.new("RGB", (width, height))
    image.paste("white", (width // 3, 0, width - width // 3, height))
    return image


def test_stretch_keeps_the_edges_and_crop_the_shape():
    stretched = np.asarray(fit(striped(96, 32), 32, "stretch"))[16, :, 0]
    cropped = np.asarray(fit(striped(96, 32), 32, "crop"))[16, :, 0]
    assert stretched[[2, 16, 29]].tolist() == [0, 255, 0]
    assert cropped.min() == 255


def test_crop_equals_resizing_to_256_and_cropping_224():
    noise = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype="uint8")
    image = PIL.Image.fromarray(noise).resize((480, 320), PIL.Image.Resampling.BICUBIC)
    reference = image.resize((384, 256), PIL.Image.Resampling.BICUBIC).crop((80, 16, 304, 240))
    difference = np.abs(np.asarray(fit(image, 224, "crop"), dtype=int) - np.asarray(reference, dtype=int))
    assert difference.max() <= 1


def test_a_long_thin_image_is_cropped_without_a_huge_one_in_between():
    assert fit(PIL.Image.new("RGB", (60_000, 1)), 224, "crop").size == (224, 224)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["stretch", "crop"]))
def test_any_shape_becomes_the_square(width, height, size, resize):
    assert fit(PIL.Image.new("RGB", (width, height), "red"), size, resize).getcolors() == [(size * size, (255, 0, 0))]


def test_the_encoder_takes_any_mode_to_the_backbones_transform():
    size, pixels = Folder(image_size=16).encoder(Identity())(PIL.Image.new("L", (9, 5), 7))
    assert size == 16
    assert pixels.shape == (16, 16, 3)
    assert (pixels == 7).all()


def test_rgb_is_not_copied():
    image = PIL.Image.new("RGB", (4, 4))
    assert to_rgb(image) is image


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image_size": "0"}, "image_size is 0"),
        ({"resize": "pad"}, "'pad' is not one of stretch, crop"),
        ({"split_seed": "-1"}, "split_seed is -1"),
        ({"skip_broken": "perhaps"}, "'perhaps' is not true or false"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(settings.override, Folder, values)


def test_an_unknown_resize_is_refused_in_python_too():
    assert "stretch or crop" in refusal(Folder, resize="pad")
    assert issubclass(Folder, ImageTask)
