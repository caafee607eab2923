"""Image files to pixels, pixels to what a backbone takes, and seeded choices."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections import Counter

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import refusal, save

from zipeft import settings
from zipeft.images import BrokenImage, ImageFiles, ImageTask, fit, read_image, to_rgb
from zipeft.splits import choose_classes, cut
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


# --- decoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode", "color", "expected"),
    [
        ("a.png", "RGB", (10, 20, 30), (10, 20, 30)),
        ("a.png", "L", 77, (77, 77, 77)),
        ("a.png", "1", 1, (255, 255, 255)),
        ("a.png", "LA", (77, 255), (77, 77, 77)),
        ("a.png", "RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("a.png", "RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("a.png", "I;16", 0x80FF, (0x80, 0x80, 0x80)),
        ("a.tif", "CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("a.tif", "I", 0x4000, (0x40, 0x40, 0x40)),
        ("a.gif", "P", 0, None),
        ("a.BMP", "RGB", (10, 20, 30), (10, 20, 30)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, name, mode, color, expected):
    image = read_image(save(tmp_path / name, color, mode=mode))
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert expected is None or image.getpixel((3, 3)) == expected


def test_a_cmyk_jpeg_is_read(tmp_path):
    red, green, blue = read_image(save(tmp_path / "a.jpg", (0, 255, 255, 0), mode="CMYK")).getpixel((3, 3))
    assert red > 200
    assert max(green, blue) < 60


def test_half_transparency_is_mixed_with_white(tmp_path):
    values = read_image(save(tmp_path / "a.png", (0, 0, 0, 128), mode="RGBA")).getpixel((0, 0))
    assert all(125 <= value <= 129 for value in values)


def test_a_transparent_palette_colour_is_white(tmp_path):
    image = PIL.Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    assert read_image(tmp_path / "a.png").getpixel((1, 1)) == (10, 20, 30)


def test_orientation_is_applied(tmp_path):
    image = PIL.Image.new("RGB", (8, 4), "black")
    image.paste("white", (0, 0, 4, 4))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    turned = read_image(tmp_path / "a.png")
    assert turned.size == (4, 8)
    assert turned.getpixel((1, 1)) == (255, 255, 255)
    assert turned.getpixel((1, 6)) == (0, 0, 0)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [PIL.Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").getpixel((1, 1)) == (255, 0, 0)


def bomb():
    """A PNG header that promises 40,000 x 40,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "bomb", "missing", "folder"])
def test_a_broken_image_is_named(tmp_path, kind):
    path = tmp_path / "broken.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype="uint8"))
        noise.save(path)
        path.write_bytes(
            {"empty": b"", "text": b"no image", "truncated": path.read_bytes()[:900], "bomb": bomb()}[kind]
        )
    message = refusal(read_image, path)
    assert message.startswith(f"{path} does not decode (")
    assert "set skip_broken=true to leave such images out" in message
    assert message.count(str(path)) == 1


def test_a_broken_image_survives_pickling():
    error = pickle.loads(pickle.dumps(BrokenImage("a.jpg", "why")))  # noqa: S301 - as loader processes hand it over
    assert str(error) == str(BrokenImage("a.jpg", "why"))


def test_image_files_are_read_when_asked_for(tmp_path):
    files = ImageFiles((save(tmp_path / "a.png", "red"), tmp_path / "missing.png"))
    assert len(files) == 2
    assert files[0].getpixel((0, 0)) == (255, 0, 0)
    assert len(files[:1]) == 1
    assert "missing.png" in refusal(lambda: files[1])


# --- to what a backbone takes -----------------------------------------------------------------------------------------


class Identity:
    def image_transform(self, size):
        return lambda image: (size, np.asarray(image))


def striped(width, height):
    """A black image with a white middle third."""
    image = PIL.Image.new("RGB", (width, height))
    image.paste("white", (width // 3, 0, width - width // 3, height))
    return image


def test_squash_keeps_the_edges_and_crop_the_shape():
    squashed = np.asarray(fit(striped(96, 32), 32, "squash"))[16, :, 0]
    cropped = np.asarray(fit(striped(96, 32), 32, "crop"))[16, :, 0]
    assert squashed[[2, 16, 29]].tolist() == [0, 255, 0]
    assert cropped.min() == 255


def test_crop_equals_resizing_to_256_and_cropping_224():
    noise = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype="uint8")
    image = PIL.Image.fromarray(noise).resize((480, 320), PIL.Image.Resampling.BICUBIC)
    reference = image.resize((384, 256), PIL.Image.Resampling.BICUBIC).crop((80, 16, 304, 240))
    difference = np.abs(np.asarray(fit(image, 224, "crop"), dtype=int) - np.asarray(reference, dtype=int))
    assert difference.max() <= 1


def test_a_long_thin_image_is_cropped_without_a_huge_one_in_between():
    assert fit(PIL.Image.new("RGB", (60_000, 1)), 224, "crop").size == (224, 224)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["squash", "crop"]))
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
        ({"resize": "stretch"}, "'stretch' is not one of squash, crop"),
        ({"split_seed": "-1"}, "split_seed is -1"),
        ({"skip_broken": "perhaps"}, "'perhaps' is not true or false"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(settings.override, Folder, values)


def test_an_unknown_resize_is_refused_in_python_too():
    assert "squash or crop" in refusal(Folder, resize="stretch")
    assert issubclass(Folder, ImageTask)
