"""The embedded sets of drawings: icons and typefaces."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from support.pictures import SPLITS
from support.toys import split_of
from zipeft.sources import package_archive
from zipeft.tasks.fgvc import icons, typefaces
from zipeft.tasks.fgvc.task import FGVC

# --- embedded sets, drawn with other fonts than the carriers' ---------------------------------------------------------


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Let a font that matplotlib brings stand in for every font, and small lists of names for the icon fonts'."""
    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

    def member(carrier, path):
        if not path.endswith(".json"):
            return font
        rank = [stem for stem, _ in icons.FONTS.values()].index(re.search(r"fonts/(.*)-charmap", path)[1])
        names = ["home", "home-fill", "star-2", "star-bold-outline", "bell-thin", "bell", "lone"]
        if rank == 6:
            names = names[:4]  # Remix and Material Design 6 are held out: "bell" keeps a test drawing, from the latter
        charmap = tmp_path / f"{rank}.json"
        charmap.write_text(json.dumps({name: hex(ord(letters[7 * rank + at])) for at, name in enumerate(names)}))
        return charmap

    monkeypatch.setattr(package_archive, "member", member)


def test_concepts_are_names_without_style():
    names = ["bell", "bell-outline", "bell-2", "bell-bold-fill", "bell-fill-bold", "bell-line", "bell-thin-3"]
    assert {icons.concept_of(name) for name in names} == {"bell"}
    assert [icons.concept_of(name) for name in ("bell-ring", "outline", "360", "solid-bell")] == [
        "bell-ring",
        "outline",
        "360",
        "solid-bell",
    ]


def glyphs(concept, **fonts):
    return [icons.Glyph(font, f"{concept}-{index}", index) for font, count in fonts.items() for index in range(count)]


def test_concepts_need_drawings_and_fonts():
    listed = [*glyphs("a", F=4, G=4, H=2), *glyphs("b", F=9), *glyphs("c", F=5, G=5), *glyphs("d", F=4, G=4, H=1)]
    assert list(icons.concepts_of(listed)) == ["a"]
    twice = [icons.Glyph("F", name, 7) for name in ("a", "a-bold")]
    assert len(icons.concepts_of(listed + twice)["a"]) == 11


def test_concepts_need_drawings_for_training_and_test():
    test, other = icons.TEST_FONTS[0], "Phosphor"
    concepts = {
        "usable": glyphs("usable", **{test: 2, other: icons.MIN_TRAIN}),
        "no test": glyphs("no test", **{other: 9}),
        "few train": glyphs("few train", **{test: 9, other: icons.MIN_TRAIN - 1}),
    }
    assert list(icons.usable(concepts)) == ["usable"]


def test_icons_keep_the_test_fonts_out_of_training(stand_ins):
    data = FGVC(image_size=20).load("icons")
    assert list(data.classes) == ["bell", "home", "star"]
    fonts = {split: {name.partition(":")[0] for name in split_of(data, split).names} for split in SPLITS}
    assert fonts["test"] == set(icons.TEST_FONTS)
    assert not fonts["test"] & (fonts["train"] | fonts["validation"])
    assert Counter(data.validation.targets) == {0: 2, 1: 2, 2: 2}
    assert {image.size for split in SPLITS for image in split_of(data, split).examples} == {(20, 20)}
    assert data.note == (
        "all 3 concepts, 20 px; test drawings from Material Design 6 and Remix, fonts that training never saw; "
        "images: 24 train, 6 validation, 10 test"
    )
    assert data.source == "carrier qtawesome 1.4.2"


def test_an_icon_is_centred_at_a_fixed_extent(stand_ins):
    for image in split_of(FGVC(image_size=60).load("icons"), "test").examples:
        ink = np.argwhere(np.asarray(image)[..., 0] < 128)
        low, high = ink.min(0), ink.max(0)
        assert max(high - low) + 1 in (47, 48)
        assert np.abs((low + high) / 2 - 29.5).max() <= 1
        assert (np.asarray(image) == np.asarray(image)[..., :1]).all()


def test_the_same_drawing_is_kept_once(stand_ins):
    same = [icons.Glyph("Phosphor", "a", ord("A")), icons.Glyph("Remix", "a", ord("A"))]
    other = icons.Glyph("Remix", "b", ord("B"))
    assert [drawing.name for drawing in icons.draw("a", [*same, other], 16)] == ["Phosphor:a", "Remix:b"]


@pytest.mark.parametrize("module", [icons, typefaces])
def test_a_set_is_drawn_once_for_a_cache_and_anew_if_what_is_kept_is_damaged(stand_ins, monkeypatch, module):
    drawn, draw = [], module.draw
    monkeypatch.setattr(module, "draw", lambda *of: drawn.append(of) or draw(*of))

    def pixels(size):
        data = module.load(size, 0, 0)
        return [image.tobytes() for split in SPLITS for image in split_of(data, split).examples]

    first, count = pixels(16), len(drawn)
    assert count > 0
    assert pixels(16) == first
    assert len(drawn) == count  # none more
    for file in (package_archive.cache_dir() / "derived").glob("*/*.npz"):
        file.write_bytes(file.read_bytes()[:-9])
    assert pixels(16) == first
    assert len(drawn) == 2 * count
    assert pixels(17) != first
    assert len(drawn) == 3 * count


@pytest.mark.parametrize("name", ["icons", "typefaces"])
def test_embedded_splits_depend_on_the_settings_alone(stand_ins, name):
    def load(**options):
        data = FGVC(image_size=16, **options).load(name)
        return data.checksum, [(split_of(data, split).names, split_of(data, split).targets) for split in SPLITS]

    assert load() == load()
    (checksum, (train, _, test)), (other, (other_train, _, other_test)) = load(), load(split_seed=1)
    assert checksum != other
    assert train != other_train
    assert test == other_test
    assert load(classes=2)[0] not in (checksum, other)


@pytest.mark.parametrize("name", ["icons", "typefaces"])
def test_an_embedded_set_can_be_taken_in_part(stand_ins, name):
    data = FGVC(image_size=16, classes=2).load(name)
    assert len(data.classes) == 2
    assert all(set(split_of(data, split).targets) == {0, 1} for split in SPLITS)
    assert re.match(r"2 of \d+ \w+ \(seed 0\), ", data.note)


def test_embedded_drawings_are_never_cropped(stand_ins):
    class Identity:
        def image_transform(self, size):
            return np.asarray

    image = split_of(FGVC(image_size=24).load("typefaces"), "test").examples[0]
    assert (FGVC(image_size=24, resize="crop").encoder(Identity())(image) == np.asarray(image)).all()


def test_typefaces_share_their_words_and_keep_test_words_and_sizes_apart(stand_ins):
    data = FGVC(image_size=16).load("typefaces")
    texts = {}
    for split in SPLITS:
        part = split_of(data, split)
        for name, target in zip(part.names, part.targets, strict=True):
            typeface, text = name.split(":")
            assert typeface == data.classes[target]
            texts.setdefault(split, {}).setdefault(typeface, []).append(text)
    assert {split: {len(each) for each in found.values()} for split, found in texts.items()} == {
        "train": {24},
        "validation": {6},
        "test": {24},
    }
    for found in texts.values():
        assert len({tuple(each) for each in found.values()}) == 1
    words = {split: set(" ".join(found["Lato"]).split()) for split, found in texts.items()}
    for one, other in (("train", "test"), ("validation", "test")):  # words and sizes at once; "at" joins them
        assert words[one] & words[other] == {"at"}
    assert words["train"] & words["validation"] == {"at", *map(str, typefaces.TRAIN_SIZES)}


def test_word_lists_have_no_word_twice():
    words = [*typefaces.TRAIN_WORDS, *typefaces.TEST_WORDS]
    assert len(set(words)) == len(words)
    assert not set(typefaces.TRAIN_SIZES) & set(typefaces.TEST_SIZES)


# --- embedded sets, for real ------------------------------------------------------------------------------------------


def digests(split):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in split.examples]


def disjoint(data):
    seen = {*digests(data.train), *digests(data.validation)}
    assert not seen & set(digests(split_of(data, "test")))
    everything = [name for split in SPLITS for name in split_of(data, split).names]
    assert len(set(everything)) == len(everything)
    assert all(len(image.getcolors()) > 1 for split in SPLITS for image in split_of(data, split).examples)


@pytest.mark.slow
@pytest.mark.parametrize("size", [56, 112])
def test_the_real_icons(size):
    data = FGVC(image_size=size).load("icons")
    assert len(data.classes) == 83
    assert [len(split_of(data, split)) for split in SPLITS] == [505, 127, 318]
    assert all(len(set(split_of(data, split).targets)) == 83 for split in SPLITS)
    fonts = {split: {name.partition(":")[0] for name in split_of(data, split).names} for split in SPLITS}
    assert fonts["test"] == {"Material Design 6", "Remix"}
    assert fonts["train"] == set(icons.FONTS) - fonts["test"]
    disjoint(data)


@pytest.mark.slow
def test_no_real_glyph_stands_for_two_concepts():
    concepts = icons.usable(icons.concepts_of(icons.read_glyphs()))
    drawn = [(glyph.font, glyph.codepoint) for group in concepts.values() for glyph in group]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.slow
def test_the_real_typefaces():
    data = FGVC(image_size=56).load("typefaces")
    assert list(data.classes) == sorted(typefaces.FONTS)
    assert [len(split_of(data, split)) for split in SPLITS] == [336, 84, 336]
    disjoint(data)
    for split in SPLITS:
        for image, name in zip(split_of(data, split).examples, split_of(data, split).names, strict=True):
            pixels = np.asarray(image)
            edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
            assert min(edge.min() for edge in edges) == 255, f"{name} is cut off"


@pytest.mark.slow
def test_every_text_family_of_the_carrier_is_a_class():
    files = [path.as_posix() for path in package_archive.members(typefaces.ARCHIVE, "rendercv_fonts/*-Regular.?tf")]
    families = {path.split("/")[-2] for path in files}
    assert families == set(typefaces.FONTS)
