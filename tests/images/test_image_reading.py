"""Image files to pixels: every kind and mode, broken EXIF, numbers without a range, broken files."""

from __future__ import annotations

import io
import logging
import pickle
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo

from support.pictures import refusal, save
from zipeft.images import reading
from zipeft.images.reading import BrokenImage, ImageFiles, decoded, read_image, suffixes

# --- modes ------------------------------------------------------------------------------------------------------------


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


# --- EXIF -------------------------------------------------------------------------------------------------------------

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED_LONG, DOUBLE = 1, 2, 3, 4, 5, 9, 12
WIDTH, HEIGHT, TURN, RESOLUTION, EXIF, GPS, MAKER = 0x100, 0x101, 0x112, 0x11A, 0x8769, 0x8825, 0x927C

SIX = (TURN, SHORT, 1, 6)
"""To be turned by 90 degrees clockwise."""


def tiff(*entries, rest=b"", order="<", start=8, count=None):
    """Return a directory of tags (tag, type, number of values, value or offset) as EXIF has it; ``rest`` follows it, at
    offset 14 + 12 for each entry."""
    listed = b"".join(struct.pack(order + "HHI", *entry[:3]) + _value(entry[3], entry[1], order) for entry in entries)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    number = struct.pack(order + "H", len(entries) if count is None else count)
    return header + number + listed + b"\0\0\0\0" + rest


def _value(value, kind, order):
    if isinstance(value, bytes):
        return value
    return struct.pack(order + ("Hxx" if kind == SHORT else "i" if kind == SIGNED_LONG else "I"), value)


HALVES = PIL.Image.new("RGB", (16, 8), "black")
HALVES.paste("white", (0, 0, 8, 8))


def with_exif(kind, exif=None, **options):
    """Return a file whose left half is white, with these bytes as its EXIF."""
    buffer = io.BytesIO()
    HALVES.save(buffer, kind, **({} if exif is None else {"exif": b"Exif\0\0" + exif}), **options)
    return buffer.getvalue()


def raw_profile(text):
    info = PngInfo()
    info.add_text("Raw profile type exif", text)
    return with_exif("png", pnginfo=info)


ZERO = struct.pack("<II", 0, 0)

TURNED = {
    "signed": with_exif("jpeg", tiff((WIDTH, SIGNED_LONG, 1, -16), SIX)),
    "width as text": with_exif("jpeg", tiff((WIDTH, ASCII, 4, b"abc\0"), SIX)),
    "0 / 0": with_exif("jpeg", tiff(SIX, (RESOLUTION, RATIONAL, 1, 38), rest=ZERO)),
    "0 / 0 in the place": with_exif(
        "jpeg", tiff(SIX, (GPS, LONG, 1, 38), rest=struct.pack("<HHHII", 1, 2, RATIONAL, 1, 56) + bytes(4) + ZERO)
    ),
    "no fault": with_exif("jpeg", tiff(SIX)),
    "no fault, other order": with_exif("jpeg", tiff(SIX, order=">")),
    "a long number": with_exif("jpeg", tiff((TURN, LONG, 1, 6))),
    "directory in itself": with_exif("jpeg", tiff(SIX, (EXIF, LONG, 1, 8))),
    "directory behind the end": with_exif("jpeg", tiff(SIX, (EXIF, LONG, 1, 10**6))),
    "text behind the end": with_exif("jpeg", tiff(SIX, (RESOLUTION, ASCII, 900, 10**6))),
    "unknown type": with_exif("jpeg", tiff((HEIGHT, 99, 1, 1), SIX)),
    "huge number": with_exif("jpeg", tiff((WIDTH, LONG, 1, 2**32 - 1), (HEIGHT, SIGNED_LONG, 1, -(2**31)), SIX)),
    "a png": with_exif("png", tiff((WIDTH, ASCII, 4, b"abc\0"), SIX)),
    "a webp": with_exif("webp", tiff((WIDTH, SIGNED_LONG, 1, -16), SIX), lossless=True),
}

AS_IT_IS = {
    "png without a header": with_exif("png", b"no TIFF"),
    "png, raw profile": raw_profile("\nexif\n      12\nno hexadecimal"),
    "png, raw profile cut": raw_profile("\nexif"),
    "png, nothing": with_exif("png", b""),
    "garbage": with_exif("jpeg", bytes(range(64))),
    "text": with_exif("jpeg", tiff((TURN, ASCII, 2, b"6\0\0\0"))),
    "nine": with_exif("jpeg", tiff((TURN, SHORT, 1, 9))),
    "zero": with_exif("jpeg", tiff((TURN, SHORT, 1, 0))),
    "list behind the end": with_exif("jpeg", tiff(SIX, start=10**6)),
    "a webp's garbage": with_exif("webp", b"MM\0*\xff\xff", lossless=True),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of EXIF that it cannot read
@pytest.mark.parametrize("name", [*TURNED, *AS_IT_IS])
def test_whole_pixels_are_read_whatever_their_exif(name):
    image = decoded({**TURNED, **AS_IT_IS}[name], "a picture")
    pixels = np.asarray(image.convert("L")) > 127
    assert pixels.shape == ((16, 8) if name in TURNED else (8, 16))
    white, black = (pixels[:8], pixels[8:]) if name in TURNED else (pixels[:, :8], pixels[:, 8:])
    assert white.all()
    assert not black.any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_those_of_pillow(orientation):
    from PIL import ImageOps

    noise = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype="uint8")
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise).save(buffer, "png", exif=tiff((TURN, SHORT, 1, orientation)))
    with PIL.Image.open(buffer) as image:
        assert (np.asarray(decoded(buffer.getvalue(), "a")) == np.asarray(ImageOps.exif_transpose(image))).all()


def test_a_tiff_is_turned_once(tmp_path):
    HALVES.save(tmp_path / "a.tif", tiffinfo={TURN: 6})
    image = read_image(tmp_path / "a.tif")
    assert image.size == (8, 16)
    assert image.getpixel((0, 0)) == (255, 255, 255)


# --- numbers without a range ------------------------------------------------------------------------------------------


def tif(values):
    buffer = io.BytesIO()
    PIL.Image.fromarray(values).save(buffer, "tiff")
    return buffer.getvalue()


def ramp(least, greatest, kind):
    return np.linspace(least, greatest, 48).reshape(6, 8).astype(kind)


def wide_pgm(greatest):
    return b"P5 8 6 65535\n" + ramp(0, greatest, ">u2").tobytes()


def pfm():
    return b"Pf\n8 6\n-1.0\n" + ramp(0, 1, "<f4").tobytes()


NO_RANGE = {
    "floats to 1": (tif(ramp(0, 1, "f4")), "mode F"),
    "floats to 65535": (tif(ramp(0, 65535, "f4")), "mode F"),
    "32 bits": (tif(ramp(0, 65_535_000, "i4")), "numbers from 0 to 65,535,000 (mode I)"),
    "floats to 255": (tif(ramp(0, 255, "f4")), "mode F"),
    "floats around 0": (tif(ramp(-1, 1, "f4")), "mode F"),
    "no number": (tif(np.full((6, 8), np.nan, "f4")), "mode F"),
    "infinity": (tif(np.full((6, 8), np.inf, "f4")), "mode F"),
    "all 0": (tif(np.zeros((6, 8), "f4")), "mode F"),
    "a float map": (pfm(), "mode F"),
    "below 0": (tif(ramp(-1, 255, "i4")), "numbers from -1 to 255 (mode I)"),
    "one too many": (tif(ramp(0, 65536, "i4")), "numbers from 0 to 65,536 (mode I)"),
    "all of 32 bits": (tif(ramp(-(2**31), 2**31 - 1, "i4")), "mode I"),
}

IN_RANGE = {
    "16 bits": tif(ramp(0, 65535, "u2")),
    "16 bits in 32": tif(ramp(0, 65535, "i4")),
    "16 bits, other order": b"P5 8 6 65535\n" + ramp(0, 65535, ">u2").tobytes(),
    "16 bits above 0": tif(ramp(1000, 65535, "u2")),
}

IN_12_BITS = {
    "12 bits": tif(ramp(0, 4095, "u2")),
    "10 bits": tif(ramp(0, 1023, "u2")),
    "8 bits in 16": tif(ramp(0, 255, "u2")),
    "8 bits in 32": tif(ramp(0, 255, "i4")),
    "12 bits, other order": wide_pgm(4095),
}


@pytest.fixture
def said(monkeypatch, caplog):
    monkeypatch.setattr(reading, "_dark", [])
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.mark.parametrize("name", NO_RANGE)
def test_numbers_without_a_range_are_refused(name):
    content, mode = NO_RANGE[name]
    message = refusal(decoded, content, "a.tif")
    assert message.startswith("a.tif does not decode (its pixels are ")
    assert mode in message
    assert "save it with 8 or 16 bits" in message
    with pytest.raises(BrokenImage):  # which skip_broken leaves out
        decoded(content, "a.tif")


@pytest.mark.parametrize("name", IN_RANGE)
def test_numbers_of_16_bits_are_read_by_their_upper_byte(said, name):
    values = np.asarray(decoded(IN_RANGE[name], "a.tif"))[..., 0]
    assert (values.min(), values.max()) == (0 if "above" not in name else 3, 255)
    assert not said.records


@pytest.mark.parametrize("name", IN_12_BITS)
def test_the_first_image_with_fewer_bits_than_16_is_named(said, name):
    for place in ("first.tif", "second.tif"):
        assert np.asarray(decoded(IN_12_BITS[name], place)).max() < 16
    (record,) = said.records
    assert record.getMessage().startswith("first.tif has 16-bit values up to ")
    assert "read as almost black" in record.getMessage()


def test_a_black_image_is_nothing_to_speak_of(said):
    assert np.asarray(decoded(tif(np.zeros((6, 8), "u2")), "a.tif")).max() == 0
    assert not said.records


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_what_pillow_decodes_is_an_image():
    assert {".jpe", ".tga", ".jp2", ".pbm", ".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff"} <= set(suffixes())
    assert {".eps", ".ps", ".pdf", ".mpg", ".h5", ".txt", ".heic", ""}.isdisjoint(suffixes())


@pytest.mark.parametrize("name", ["a.tga", "a.jpe", "a.jp2", "a.pcx", "a.ico", "a.sgi"])
def test_rarer_kinds_are_read(tmp_path, name):
    if name.endswith("jp2"):
        pytest.importorskip("PIL._imaging").__dict__.get("jpeg2k_decoder") or pytest.skip("Pillow without JPEG 2000")
    colour = read_image(save(tmp_path / name, (200, 30, 40), size=(16, 16))).getpixel((8, 8))
    assert np.abs(np.subtract(colour, (200, 30, 40))).max() < 6


def test_an_interpreter_is_never_started(tmp_path):
    """Pillow would hand EPS over to Ghostscript, whatever the file is called."""
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    path = (tmp_path / "a.eps").rename(tmp_path / "a.png")
    assert "it is no image of a kind that Pillow decodes" in refusal(read_image, path)


# --- broken files -----------------------------------------------------------------------------------------------------


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


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content := b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    for place, message in ((path, refusal(read_image, path)), ("b.jpg", refusal(decoded, content, "b.jpg"))):
        said = "is a pointer of Git LFS and not the file itself: run git lfs pull there"
        assert message.startswith(f"{place} does not decode (it {said}): ")


def test_a_broken_image_survives_pickling():
    error = pickle.loads(pickle.dumps(BrokenImage("a.jpg", "why")))  # noqa: S301 - as loader processes hand it over
    assert str(error) == str(BrokenImage("a.jpg", "why"))


def test_image_files_are_read_when_asked_for(tmp_path):
    files = ImageFiles((save(tmp_path / "a.png", "red"), tmp_path / "missing.png"))
    assert len(files) == 2
    assert files[0].getpixel((0, 0)) == (255, 0, 0)
    assert len(files[:1]) == 1
    assert "missing.png" in refusal(lambda: files[1])


def test_a_file_that_cannot_be_opened_is_refused_in_words_whatever_the_system_says(tmp_path, monkeypatch):
    def fails(path):
        raise OSError("the share is gone")  # without a number, and so without the system's own words

    monkeypatch.setattr(reading, "open_file", fails)
    with pytest.raises(BrokenImage, match=r"does not decode \(the share is gone\)"):
        read_image(tmp_path / "a.png")
