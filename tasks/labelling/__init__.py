"""Sequence labelling: a tag for each word."""

from zipeft.tasks.labelling.task import Labelling

__all__ = ["Labelling"]
