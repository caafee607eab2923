"""dSprites: the grid and its labels, drawn on demand, and the published file."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from math import prod

import numpy as np
import pytest

from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.tasks.vtab import dsprites
from zipeft.tasks.vtab.dsprites import NPZ, OUTLINES, DSprites, draw, factors_of
from zipeft.tasks.vtab.task import VTAB

GRID = DSprites()


def redrawn(task, **settings):
    return VTAB(test_examples=50, **settings).load(f"dsprites-redrawn-{task}")


def sprite_of(data, split, place):
    return int(split_of(data, split).names[place].split()[1])


# --- the grid ---------------------------------------------------------------------------------------------------------


def test_the_whole_grid_can_be_addressed_and_holds_nothing():
    assert len(GRID) == 737_280
    assert not vars(GRID)
    for index in (0, 737_279):
        assert set(np.unique(np.asarray(GRID[index]))) == {0, 255}
        assert GRID[index].size == (64, 64)
    for index in (-1, 737_280):
        with pytest.raises(IndexError):
            GRID[index]


def test_the_order_is_that_of_a_counter_whose_last_digit_is_y():
    assert factors_of(0) == {"colour": 0, "shape": 0, "scale": 0, "orientation": 0, "x": 0, "y": 0}
    assert factors_of(1)["y"] == factors_of(32)["x"] == factors_of(1024)["orientation"] == 1
    assert factors_of(40 * 1024)["scale"] == factors_of(6 * 40 * 1024)["shape"] == 1
    for index in np.random.RandomState(0).randint(len(GRID), size=50):
        values = [factors_of(int(index))[name] for name in dsprites.FACTORS]
        assert values == list(np.unravel_index(index, (1, 3, 6, 40, 32, 32)))


def test_drawing_is_deterministic_and_shapes_differ():
    indices = [7, 250_000, 500_000]
    assert [GRID[index].tobytes() for index in indices] == [DSprites()[index].tobytes() for index in indices]
    assert len({draw(0, shape, 5, 0, 16, 16).tobytes() for shape in range(3)}) == 3


@pytest.mark.parametrize("shape", range(3))
def test_sprites_move_turn_and_grow_with_their_factors(shape):
    def centre(**factors):
        white = np.argwhere(
            draw(**{"colour": 0, "shape": shape, "scale": 5, "orientation": 0, "x": 0, "y": 0, **factors})
        )
        return white.mean(axis=0), len(white)

    (top, left), _ = centre()
    assert centre(x=31)[0] == pytest.approx((top, left + 32), abs=0.3)
    assert centre(y=31)[0] == pytest.approx((top + 32, left), abs=0.3)
    sizes = [
        centre(scale=scale, orientation=5)[1] for scale in range(6)
    ]  # aslant: edges along pixels would round alike
    assert [(size / sizes[5]) ** 0.5 for size in sizes] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], abs=0.02)
    assert centre(orientation=13)[1] == pytest.approx(sizes[5], rel=0.04)
    turned = [draw(0, shape, 5, orientation, 16, 16).tobytes() for orientation in range(39)]
    assert len(set(turned)) == 39
    assert draw(0, shape, 5, 39, 16, 16).tobytes() == turned[0]  # as in the original, a whole turn


def test_no_sprite_is_cut_off():
    beyond = np.linspace(0, 2 * np.pi, 721)
    for outline in OUTLINES:
        assert not outline(1.001 * np.cos(beyond), 1.001 * np.sin(beyond)).any()
        assert outline(0.98 * np.cos(beyond), 0.98 * np.sin(beyond)).any()  # and the circle is made use of
    for corner in ((0, 0), (31, 0), (0, 31), (31, 31)):
        assert draw(0, 0, 5, 5, *corner).sum() == pytest.approx(draw(0, 0, 5, 5, 16, 16).sum(), rel=0.02)


# --- splits and labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "factor", "values"), [("location", "x", 32), ("orientation", "orientation", 40)])
def test_labels_are_sixteenths_of_the_factor(task, factor, values):
    _, label = dsprites.TASKS[task]
    bins = Counter(label(value) for value in range(values))
    assert sorted(bins) == list(range(16))
    assert set(bins.values()) == ({2} if values == 32 else {2, 3})  # 40 orientations are 16 bins of 2.5
    assert [label(value) for value in range(values)] == [int(value // (values / 16)) for value in range(values)]
    data = redrawn(task)
    for split in SPLITS:
        for place in range(0, len(split_of(data, split)), 17):
            assert split_of(data, split).targets[place] == label(factors_of(sprite_of(data, split, place))[factor])


def test_splits_are_drawn_from_the_grid_apart_and_by_the_seed():
    data, again, other = redrawn("location"), redrawn("location"), redrawn("location", split_seed=1)
    assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 50]
    names = [name for split in SPLITS for name in split_of(data, split).names]
    assert len(set(names)) == 1050
    assert (data.checksum, data.train.names) == (again.checksum, again.train.names)
    assert other.checksum != data.checksum
    assert other.train.names != data.train.names
    assert len(VTAB().load("dsprites-redrawn-location").test) == 73_728
    assert len(set(data.train.targets)) == 16


def test_examples_are_the_grids_images_and_say_that_they_are_drawn_again():
    data = redrawn("orientation")
    for place in (0, 400, 799):
        assert data.train.examples[place].tobytes() == GRID[sprite_of(data, "train", place)].tobytes()
    assert "re-rendering" in data.note
    assert data.source == "drawn from dSprites' factors"


def test_orientation_says_that_no_model_can_be_right_on_all_of_it():
    first, last = (draw(0, shape=2, scale=5, orientation=angle, x=3, y=4) for angle in (0, 39))
    assert (first == last).all()
    assert "one image with two labels" in redrawn("orientation").note
    assert "labels" not in redrawn("location").note


# --- the published file -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_grid(monkeypatch):
    """Let the grid have one shape, one scale and one y: 1,280 images; return what stands for them."""
    monkeypatch.setattr(dsprites, "SIZES", (1, 1, 1, 40, 32, 1))
    images = np.zeros((1280, 64, 64), np.uint8)
    images[:, :2] = np.random.RandomState(0).randint(0, 2, (1280, 2, 64))
    classes = np.stack(np.unravel_index(np.arange(1280), (1, 1, 1, 40, 32, 1)), axis=1)
    return {"imgs": images, "latents_classes": classes, "metadata": np.array({"pickled": print}, dtype=object)}


@pytest.mark.parametrize("inside", [".", "dsprites"])
def test_the_published_file_is_read_instead_where_it_lies(tmp_path, small_grid, inside):
    (tmp_path / inside).mkdir(exist_ok=True)
    np.savez_compressed(tmp_path / inside / NPZ, **small_grid)
    task = VTAB(data_dir=tmp_path)
    assert task.datasets() == ("dsprites-location", "dsprites-orientation")
    for name, factor in (("dsprites-location", 4), ("dsprites-orientation", 3)):
        data = task.load(name)
        assert [len(split_of(data, split)) for split in SPLITS] == [800, 200, 128]
        for split in SPLITS:
            part = split_of(data, split)
            for place in range(0, len(part), 9):
                index = sprite_of(data, split, place)
                assert (np.asarray(part.examples[place]) == small_grid["imgs"][index] * 255).all()
                value = small_grid["latents_classes"][index, factor]
                assert part.targets[place] == int(value // (2.5 if factor == 3 else 2))
        assert data.source == f"file {NPZ}"
        assert "not VTAB's own 1,000 images" in data.note
    assert len(VTAB(data_dir=tmp_path, test_examples=7).load("dsprites-location").test) == 7


def test_the_files_content_is_part_of_the_checksum(tmp_path, small_grid):
    np.savez_compressed(tmp_path / NPZ, **small_grid)
    before = VTAB(data_dir=tmp_path).load("dsprites-location").checksum
    small_grid["imgs"][5] = 1 - small_grid["imgs"][5]
    np.savez_compressed(tmp_path / NPZ, **small_grid)
    assert VTAB(data_dir=tmp_path).load("dsprites-location").checksum != before


def damaged(content, kind):
    """Return the bytes of a file that is wrong in one way."""
    if kind == "text":
        return b"not a zip file"
    if kind == "order":
        content["latents_classes"] = content["latents_classes"][::-1]
    if kind == "short":
        content["imgs"] = content["imgs"][:-1]
    if kind == "kind":
        content["imgs"] = content["imgs"].astype(float)
    if kind == "plain":
        buffer = io.BytesIO()
        np.save(buffer, content["latents_classes"])
        return buffer.getvalue()
    if kind == "missing":
        del content["imgs"]
    if kind == "pickled":
        content["latents_classes"] = content["metadata"]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)
    if kind == "garbage":
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as bundle:
            bundle.writestr("latents_classes.npy", b"no array")
    if kind == "header":
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as bundle:
            bundle.writestr("latents_classes.npy", b"\x93NUMPY\x01\x00\x08\x00{'descr'")
    if kind == "torn":
        with zipfile.ZipFile(buffer) as bundle:
            start = bundle.getinfo("imgs.npy").header_offset + 5000
        return buffer.getvalue()[:start] + b"\0" * 2000 + buffer.getvalue()[start + 2000 :]
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["text", "order", "short", "kind", "missing", "pickled", "torn", "plain", "garbage", "header"]
)
def test_a_file_that_is_not_the_grid_is_refused(tmp_path, small_grid, kind):
    (tmp_path / NPZ).write_bytes(damaged(small_grid, kind))
    message = refusal(VTAB(data_dir=tmp_path).load, "dsprites-location")
    assert message.startswith(f"{tmp_path / NPZ} cannot be read as the dSprites file (")
    assert message.endswith("get it again")


def test_the_grid_has_as_many_images_as_the_published_file():
    assert prod(dsprites.SIZES) == 3 * 6 * 40 * 32 * 32
