"""The fine-grained task: published sets in a folder, and the two embedded sets."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import pytest
from zipeft.tasks import _icons, _typefaces
from zipeft.tasks.fgvc import FGVC, PUBLISHED_SETS

from zipeft import carriers
from zipeft.errors import UserError
from zipeft.registry import tasks
from zipeft.settings import override

SPLITS = ("train", "validation", "test")


def save(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (6, 6), (number % 256, number // 256, 9)).save(path)
    return path


def class_folders(root, classes=("a", "b"), splits=("train", "val", "test"), each=3):
    numbers = iter(range(10_000))
    for split in splits:
        for label in classes:
            for index in range(each):
                save(root / split / label / f"{index}.png", next(numbers))
    return root


def refusal(action, *arguments, **options):
    """Return the message of the ``UserError``, which is one line."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def digests(split):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in split.examples]


# --- the task ---------------------------------------------------------------------------------------------------------


def test_it_is_found_by_name():
    assert tasks.get("fgvc") is FGVC


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task(preset):
    chosen = FGVC.presets[preset]
    task = FGVC(**chosen.task)
    assert task.datasets() == ("icons", "typefaces")
    assert chosen.seeds >= 3
    assert task.resize == ("crop" if preset == "paper" else "squash")


def test_published_means_are_those_of_the_columns():
    (table,) = FGVC.published
    assert {len(row) for row in table.rows.values()} == {len(table.columns)}
    for method, row in table.rows.items():
        *scores, mean, _ = map(float, row)
        assert np.mean(scores) == pytest.approx(mean, abs=0.06), method


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sets": "icon"}, "no data set 'icon' embedded; did you mean 'icons'? (there: icons, typefaces)"),
        ({"sets": "CUB_200_2011"}, "name its folder with --data-dir"),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
    ],
)
def test_unknown_sets_are_refused(values, said):
    assert said in refusal(override(FGVC, values).datasets)


def test_bad_numbers_of_classes_are_refused():
    assert "give 2 or more" in refusal(FGVC, classes=1)
    assert "give 2 or more" in refusal(FGVC, classes=-3)
    assert "no data set 'cifar'" in refusal(FGVC().load, "cifar")


# --- published sets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("CUB_200_2011", "cub-200-2011"),
        ("CUB-200-2011", "cub-200-2011"),
        ("cub", "cub-200-2011"),
        ("nabirds", "nabirds"),
        ("NABirds", "nabirds"),
        ("OxfordFlower", "oxford-flowers-102"),
        ("oxford-102", "oxford-flowers-102"),
        ("flowers102", "oxford-flowers-102"),
        ("Oxford Flowers 102", "oxford-flowers-102"),
        ("Stanford-dogs", "stanford-dogs"),
        ("stanford_dogs", "stanford-dogs"),
        ("Stanford-cars", "stanford-cars"),
        ("stanford_cars", "stanford-cars"),
        ("cars", "stanford-cars"),
    ],
)
def test_folders_are_known_by_the_names_people_have(tmp_path, folder, name):
    class_folders(tmp_path / "fgvc data" / folder)
    for place in (tmp_path / "fgvc data", tmp_path / "fgvc data" / folder):
        assert FGVC(data_dir=place).datasets() == (name,)
        assert FGVC(data_dir=place).load(name).source == f"folder {folder}"


def test_several_sets_in_one_folder(tmp_path):
    for folder in ("stanford_cars", "CUB_200_2011", "something else"):
        class_folders(tmp_path / folder)
    assert FGVC(data_dir=tmp_path).datasets() == ("cub-200-2011", "stanford-cars")
    assert FGVC(data_dir=tmp_path, sets=("Stanford-cars", "cars")).datasets() == ("stanford-cars",)
    assert FGVC(data_dir=tmp_path).load("CUB_200_2011").name == "cub-200-2011"
    missing = refusal(FGVC(data_dir=tmp_path, sets=("stanford-cats",)).datasets)
    assert "did you mean 'stanford-cars'? (there: cub-200-2011, stanford-cars)" in missing
    class_folders(tmp_path / "cub")
    assert "two folders of cub-200-2011, CUB_200_2011 and cub" in refusal(FGVC(data_dir=tmp_path).datasets)


def test_a_folder_without_published_sets_is_refused(tmp_path):
    class_folders(tmp_path / "pets")
    assert "use --task folder" in refusal(FGVC(data_dir=tmp_path).datasets)


def test_class_folders_are_read(tmp_path):
    data = FGVC(data_dir=class_folders(tmp_path / "cub")).load("cub")
    assert [len(getattr(data, split)) for split in SPLITS] == [6, 6, 6]
    assert list(data.classes) == ["a", "b"]
    assert "2 classes where the published set has 200" in data.note


def test_the_published_number_of_classes_goes_without_saying(tmp_path):
    classes = [f"{index:03}.breed" for index in range(120)]
    root = class_folders(tmp_path / "dogs", classes, splits=("train", "test"), each=2)
    data = FGVC(data_dir=root).load("dogs")
    assert data.note.startswith("all 120 classes; images: 120 train, 120 validation, 240 test; validation cut from")
    assert "published" not in data.note


def test_a_part_of_the_classes_can_be_taken(tmp_path):
    root = class_folders(tmp_path / "cub", "abcdefgh")
    data = FGVC(data_dir=root, classes=3).load("cub")
    assert len(data.classes) == 3
    assert set(data.train.targets) == set(data.test.targets) == {0, 1, 2}
    assert data.note.startswith("3 of 8 classes, chosen with seed 0; ")
    more = FGVC(data_dir=root, classes=5).load("cub")
    assert set(data.classes) < set(more.classes)
    assert data.checksum != more.checksum


@pytest.mark.parametrize(
    ("folder", "base"),
    [
        ("CUB_200_2011", "images"),
        ("nabirds", "images"),
        ("OxfordFlower", "."),
        ("OxfordFlower", "jpg"),
        ("Stanford-dogs", "Images"),
        ("Stanford-cars", "."),
        ("Stanford-cars", "car_ims"),
    ],
)
@pytest.mark.parametrize("first", [0, 1, "1"])
def test_split_files_are_read(tmp_path, folder, base, first):
    root, number = tmp_path / folder, iter(range(1000))
    contents = {
        split: {
            f"class {label}/{split} {index}.png": str(label) if isinstance(first, str) else label
            for label in range(int(first), int(first) + 11)
            for index in range(each)
        }
        for split, each in (("train", 3), ("val", 1), ("test", 2))
    }
    for split, content in contents.items():
        for path in content:
            save(root / base / path, next(number))
        (root / f"{split}.json").write_text(json.dumps(content))
    (dataset,) = FGVC(data_dir=root).datasets()
    data = FGVC(data_dir=root).load(dataset)
    assert [len(getattr(data, split)) for split in SPLITS] == [33, 11, 22]
    assert list(data.classes) == [str(label) for label in range(int(first), int(first) + 11)]
    for split in SPLITS:
        for name, target in zip(getattr(data, split).names, getattr(data, split).targets, strict=True):
            assert name.split("/")[-2] == f"class {data.classes[target]}"
    (root / "val.json").unlink()
    without = FGVC(data_dir=root).load(dataset)
    assert Counter(without.validation.targets) == dict.fromkeys(range(11), 1)
    assert len(without.train) == 22


def test_an_image_that_a_split_file_names_must_be_there(tmp_path):
    save(tmp_path / "cub" / "images" / "a.png")
    (tmp_path / "cub" / "train.json").write_text('{"a.png": 1, "b/gone.png": 2}')
    (tmp_path / "cub" / "test.json").write_text('{"a.png": 1}')
    message = refusal(FGVC(data_dir=tmp_path / "cub").load, "cub")
    assert "train.json names b/gone.png, which is not in" in message
    (tmp_path / "cub" / "train.json").unlink()
    assert "train.json does not exist" in refusal(FGVC(data_dir=tmp_path / "cub").load, "cub")


def test_test_classes_that_train_lacks_are_named(tmp_path):
    for name in "abc":
        save(tmp_path / "cub" / "images" / f"{name}.png")
    (tmp_path / "cub" / "train.json").write_text('{"a.png": 1, "b.png": 2}')
    (tmp_path / "cub" / "test.json").write_text('{"c.png": 0}')
    assert "has class '0' in test (images/c.png) but not in train" in refusal(FGVC(data_dir=tmp_path).load, "cub")


def test_the_archives_as_they_come_have_no_splits(tmp_path):
    save(tmp_path / "CUB_200_2011" / "images" / "001.Albatross" / "x.png")
    save(tmp_path / "OxfordFlower" / "jpg" / "image_00001.png")
    for name in ("cub", "flowers"):
        assert "has no splits: add train.json and test.json" in refusal(FGVC(data_dir=tmp_path).load, name)


def test_every_published_set_has_distinct_names():
    names = [name for published in PUBLISHED_SETS.values() for name in published.folders]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9]+", name) for name in names)


# --- embedded sets, drawn with other fonts than the carriers' ---------------------------------------------------------


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Let a font that matplotlib brings stand in for every font, and small lists of names for the icon fonts'."""
    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

    def member(carrier, path):
        if not path.endswith(".json"):
            return font
        rank = [stem for stem, _ in _icons.FONTS.values()].index(re.search(r"fonts/(.*)-charmap", path)[1])
        names = ["home", "home-fill", "star-2", "star-bold-outline", "bell-thin", "bell", "lone"]
        if rank == 6:
            names = names[:4]  # Remix and Codicon are held out: "bell" keeps a test drawing, from Codicon
        charmap = tmp_path / f"{rank}.json"
        charmap.write_text(json.dumps({name: hex(ord(letters[7 * rank + at])) for at, name in enumerate(names)}))
        return charmap

    monkeypatch.setattr(carriers, "member", member)


def test_concepts_are_names_without_style():
    names = ["bell", "bell-outline", "bell-2", "bell-bold-fill", "bell-fill-bold", "bell-line", "bell-thin-3"]
    assert {_icons.concept_of(name) for name in names} == {"bell"}
    assert [_icons.concept_of(name) for name in ("bell-ring", "outline", "360", "solid-bell")] == [
        "bell-ring",
        "outline",
        "360",
        "solid-bell",
    ]


def glyphs(concept, **fonts):
    return [_icons.Glyph(font, f"{concept}-{index}", index) for font, count in fonts.items() for index in range(count)]


def test_concepts_need_drawings_and_fonts():
    listed = [*glyphs("a", F=4, G=4, H=2), *glyphs("b", F=9), *glyphs("c", F=5, G=5), *glyphs("d", F=4, G=4, H=1)]
    assert list(_icons.concepts_of(listed)) == ["a"]
    twice = [_icons.Glyph("F", name, 7) for name in ("a", "a-bold")]
    assert len(_icons.concepts_of(listed + twice)["a"]) == 11


def test_concepts_need_drawings_for_training_and_test():
    test, other = _icons.TEST_FONTS[0], "Phosphor"
    concepts = {
        "usable": glyphs("usable", **{test: 2, other: _icons.MIN_TRAIN}),
        "no test": glyphs("no test", **{other: 9}),
        "few train": glyphs("few train", **{test: 9, other: _icons.MIN_TRAIN - 1}),
    }
    assert list(_icons.usable(concepts)) == ["usable"]


def test_icons_keep_the_test_fonts_out_of_training(stand_ins):
    data = FGVC(image_size=20).load("icons")
    assert list(data.classes) == ["bell", "home", "star"]
    fonts = {split: {name.partition(":")[0] for name in getattr(data, split).names} for split in SPLITS}
    assert fonts["test"] == set(_icons.TEST_FONTS)
    assert not fonts["test"] & (fonts["train"] | fonts["validation"])
    assert Counter(data.validation.targets) == {0: 2, 1: 2, 2: 2}
    assert {image.size for split in SPLITS for image in getattr(data, split).examples} == {(20, 20)}
    assert data.note == (
        "all 3 concepts, 20 px; test drawings from Codicon and Remix, fonts that training never saw; "
        "images: 24 train, 6 validation, 10 test"
    )
    assert data.source == "carrier qtawesome 1.4.2"


def test_an_icon_is_centred_at_a_fixed_extent(stand_ins):
    for image in FGVC(image_size=60).load("icons").test.examples:
        ink = np.argwhere(np.asarray(image)[..., 0] < 128)
        low, high = ink.min(0), ink.max(0)
        assert max(high - low) + 1 in (47, 48)
        assert np.abs((low + high) / 2 - 29.5).max() <= 1
        assert (np.asarray(image) == np.asarray(image)[..., :1]).all()


def test_the_same_drawing_is_kept_once(stand_ins):
    same = [_icons.Glyph("Phosphor", "a", ord("A")), _icons.Glyph("Remix", "a", ord("A"))]
    other = _icons.Glyph("Remix", "b", ord("B"))
    assert [drawing.name for drawing in _icons.draw("a", [*same, other], 16)] == ["Phosphor:a", "Remix:b"]


@pytest.mark.parametrize("name", ["icons", "typefaces"])
def test_embedded_splits_depend_on_the_settings_alone(stand_ins, name):
    def load(**options):
        data = FGVC(image_size=16, **options).load(name)
        return data.checksum, [(getattr(data, split).names, getattr(data, split).targets) for split in SPLITS]

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
    assert all(set(getattr(data, split).targets) == {0, 1} for split in SPLITS)
    assert re.match(r"2 of \d+ \w+ \(seed 0\), ", data.note)


def test_embedded_drawings_are_never_cropped(stand_ins):
    class Identity:
        def image_transform(self, size):
            return np.asarray

    image = FGVC(image_size=24).load("typefaces").test.examples[0]
    assert (FGVC(image_size=24, resize="crop").encoder(Identity())(image) == np.asarray(image)).all()


def test_typefaces_share_their_words_and_keep_test_words_and_sizes_apart(stand_ins):
    data = FGVC(image_size=16).load("typefaces")
    texts = {}
    for split in SPLITS:
        part = getattr(data, split)
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
    assert words["train"] & words["validation"] == {"at", *map(str, _typefaces.TRAIN_SIZES)}


def test_word_lists_have_no_word_twice():
    words = [*_typefaces.TRAIN_WORDS, *_typefaces.TEST_WORDS]
    assert len(set(words)) == len(words)
    assert not set(_typefaces.TRAIN_SIZES) & set(_typefaces.TEST_SIZES)


# --- embedded sets, for real ------------------------------------------------------------------------------------------


def disjoint(data):
    seen = {*digests(data.train), *digests(data.validation)}
    assert not seen & set(digests(data.test))
    everything = [name for split in SPLITS for name in getattr(data, split).names]
    assert len(set(everything)) == len(everything)
    assert all(len(image.getcolors()) > 1 for split in SPLITS for image in getattr(data, split).examples)


@pytest.mark.slow
@pytest.mark.parametrize("size", [56, 112])
def test_the_real_icons(size):
    data = FGVC(image_size=size).load("icons")
    assert len(data.classes) == 82
    assert [len(getattr(data, split)) for split in SPLITS] == [582, 158, 196]
    assert all(len(set(getattr(data, split).targets)) == 82 for split in SPLITS)
    fonts = {split: {name.partition(":")[0] for name in getattr(data, split).names} for split in SPLITS}
    assert fonts["test"] == {"Codicon", "Remix"}
    assert fonts["train"] == set(_icons.FONTS) - fonts["test"]
    disjoint(data)


@pytest.mark.slow
def test_no_real_glyph_stands_for_two_concepts():
    concepts = _icons.usable(_icons.concepts_of(_icons.read_glyphs()))
    drawn = [(glyph.font, glyph.codepoint) for group in concepts.values() for glyph in group]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.slow
def test_the_real_typefaces():
    data = FGVC(image_size=56).load("typefaces")
    assert list(data.classes) == sorted(_typefaces.FONTS)
    assert [len(getattr(data, split)) for split in SPLITS] == [336, 84, 336]
    disjoint(data)
    for split in SPLITS:
        for image, name in zip(getattr(data, split).examples, getattr(data, split).names, strict=True):
            pixels = np.asarray(image)
            edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
            assert min(edge.min() for edge in edges) == 255, f"{name} is cut off"


@pytest.mark.slow
def test_every_text_family_of_the_carrier_is_a_class():
    files = [path.as_posix() for path in carriers.members(_typefaces.CARRIER, "rendercv_fonts/*-Regular.?tf")]
    families = {path.split("/")[-2] for path in files}
    assert families == set(_typefaces.FONTS)
