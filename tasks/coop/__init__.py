"""CLIP from a few examples of each class, and its classes that training never saw (CoOp, CoCoOp)."""

from zipeft.tasks.coop.base2novel import BaseToNovelTask
from zipeft.tasks.coop.fewshot import FewShot

__all__ = ["BaseToNovelTask", "FewShot"]
