"""Batches of icons and their names, on which the embedded CLIP is trained: drawn anew at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zipeft.errors import UserError
from zipeft.tasks.coop.icon_concepts import Drawings, words_of

if TYPE_CHECKING:
    import open_clip
    import torch

TEMPLATES = ("a {} icon", "an icon of {}", "{}")
"""The texts of training; the first is that of the zero-shot classifier."""


class Batches:
    """Batches of images and texts; each is a function of the seed and the step alone, so that a training can resume.

    An epoch shows every concept once, by any one of its drawings and under any one of ``TEMPLATES``.
    """

    def __init__(self, drawings: Drawings, context_length: int, batch: int, seed: int, invert: float) -> None:
        import numpy as np
        import torch

        self.concepts, labels = np.unique(drawings.concepts, return_inverse=True)
        if batch > len(self.concepts):
            raise UserError(f"--batch {batch} is above the number of concepts, {len(self.concepts)}")
        self._rows = [np.flatnonzero(labels == label) for label in range(len(self.concepts))]
        self._ink = 1 - torch.from_numpy(drawings.pixels).float()[:, None] / 255
        texts = [template.format(words_of(concept)) for concept in self.concepts for template in TEMPLATES]
        self.tokens = tokenizer(context_length)(texts).view(len(self.concepts), len(TEMPLATES), context_length)
        self._batch, self._seed, self._invert = batch, seed, invert

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images (batch, 3, size, size), -1 to 1, and token ids (batch, context) of a step, from 0 on.

        Torch's own generator is seeded as well, which augmentation and patch dropout draw from.
        """
        import numpy as np
        import torch

        epoch, place = divmod(step, len(self.concepts) // self._batch)
        order = np.random.default_rng([self._seed, 0, epoch]).permutation(len(self.concepts))
        chosen = order[place * self._batch : (place + 1) * self._batch]
        draws = np.random.default_rng([self._seed, 1, step])
        torch.manual_seed(int(draws.integers(2**62)))
        rows = [draws.choice(self._rows[concept]) for concept in chosen]
        templates = draws.integers(len(TEMPLATES), size=self._batch)
        return augment(self._ink[rows], self._invert), self.tokens[chosen, templates]


def augment(ink: torch.Tensor, invert: float) -> torch.Tensor:
    """Return drawings (n, 1, size, size), ink 1 and paper 0, as images (n, 3, size, size) in -1 to 1, each changed.

    Strokes get thicker or thinner by up to a pixel, then the drawing is scaled, stretched a little and shifted; some
    are inverted. Nothing is mirrored or turned: arrows have a direction.
    """
    import torch
    from torch.nn import functional as F

    count = len(ink)
    amount = torch.empty(count, 1, 1, 1).uniform_(-1, 1)
    thicker, thinner = F.max_pool2d(ink, 3, 1, 1), -F.max_pool2d(-ink, 3, 1, 1)
    ink = ink + amount.clamp(min=0) * (thicker - ink) - amount.clamp(max=0) * 0.6 * (thinner - ink)
    size = torch.empty(count, 1).uniform_(0.75, 1.15) * torch.empty(count, 2).uniform_(0.92, 1.08)
    shift = torch.empty(count, 2).uniform_(-0.1, 0.1)
    grid = F.affine_grid(torch.cat([torch.diag_embed(1 / size), shift[:, :, None]], dim=2), list(ink.shape), False)
    ink = F.grid_sample(ink, grid, align_corners=False)
    black_on_white = torch.where(torch.rand(count, 1, 1, 1) < invert, -1.0, 1.0)
    return ((1 - 2 * ink) * black_on_white).expand(-1, 3, -1, -1)


def tokenizer(context_length: int) -> open_clip.SimpleTokenizer:
    import open_clip

    return open_clip.SimpleTokenizer(context_length=context_length)
