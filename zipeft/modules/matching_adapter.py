"""What a method changes between the two towers of a CLIP and their matches."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from torch import Tensor

from zipeft.modules.hooked import Hooked


class MatchingAdapter(Hooked):
    """A change of how images are matched with classes, behind both towers; this one changes nothing.

    Classes are known by their names: what an adapter holds of a class goes with that class wherever it is named, and
    classes that it was not made for are as they were.
    """

    def images(self, features: Tensor) -> Tensor:
        """Return other features of images (batch, width), which are normalised afterwards."""
        return features

    def classes(self, features: Tensor, names: Sequence[str]) -> Tensor:
        """Return other features of named classes (classes, width), which are normalised afterwards."""
        return features

    def logits(self, logits: Tensor, features: Tensor, names: Sequence[str]) -> Tensor:
        """Return other logits (batch, classes) of images with these normalised features (batch, width)."""
        return logits


def places(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Return the place of each name among those that are ``known``, -1 for one that is not there.

    Of classes with the same name the first goes to the first, the second to the second.
    """
    free: dict[str, deque[int]] = defaultdict(deque)
    for place, name in enumerate(known):
        free[name].append(place)
    return [free[name].popleft() if free[name] else -1 for name in names]
