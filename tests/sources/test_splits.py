"""Splits in three, and what is said of test data that training has, too."""

from __future__ import annotations

import pytest

from zipeft.errors import UserError
from zipeft.sources.splits import cut_thrice, note_shared


@pytest.mark.parametrize(
    ("test", "notes"),
    [
        ([4, 5], []),
        ([], []),
        ([1, 4], ["1 test image also in training, word for word"]),
        ([1, 1, 4, 5], ["2 test images also in training, word for word"]),
    ],
)
def test_what_is_shared_is_counted(test, notes):
    assert note_shared("cub", "test image", {1, 2}, test) == notes


def test_test_data_that_are_mostly_training_data_are_refused():
    with pytest.raises(UserError, match=r"^cub: 2 of 3 test images are also in training, .*: give other test data$"):
        note_shared("cub", "test image", {1, 2}, [1, 2, 3])


def test_three_splits_by_class_whose_test_part_is_fixed():
    labels = ["a"] * 100 + ["b"] * 50
    one, other = (cut_thrice(labels, seed, validation=0.1, test=0.3) for seed in (0, 1))
    assert {split: (len(found), sum(labels[at] == "b" for at in found)) for split, found in one.items()} == {
        "train": (90, 30),
        "validation": (15, 5),
        "test": (45, 15),
    }
    assert sorted([*one["train"], *one["validation"], *one["test"]]) == list(range(150))
    assert one["test"] == other["test"]
    assert one["validation"] != other["validation"]
