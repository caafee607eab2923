"""Questions on small images, for the tests of tasks that ask them."""

from __future__ import annotations

import io
from collections import Counter, defaultdict

from PIL import Image

from support.pictures import SPLITS
from support.toys import split_of


def png(color, size=(8, 8), mode="RGB"):
    """Return the bytes of an image of one colour."""
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return buffer.getvalue()


def examples(data, split):
    """Return the questions of a split with their answers."""
    part = split_of(data, split)
    return list(zip(part.examples, part.targets, strict=True))


def check_pairs(data):
    """Check that each pair has a yes and a no on one picture, that words tell nothing, and that splits share none."""
    seen = {}
    for split in SPLITS:
        pairs, by_words = defaultdict(list), defaultdict(Counter)
        for question, answer in examples(data, split):
            assert answer.options == question.options == ("yes", "no")
            assert answer.asked == question.question
            pairs[answer.pair].append((question.picture.name, answer.index))
            by_words[question.question][answer.index] += 1
        assert all(sorted(index for _, index in pair) == [0, 1] for pair in pairs.values())
        assert all(len({picture for picture, _ in pair}) == 1 for pair in pairs.values())
        assert all(counts[0] == counts[1] for counts in by_words.values())
        seen[split] = {picture for pair in pairs.values() for picture, _ in pair}
    assert not seen["test"] & (seen["train"] | seen["validation"])
    assert not seen["train"] & seen["validation"]
    return seen
