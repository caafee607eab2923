"""GLUE: the classification of texts, and of pairs of them."""

from zipeft.tasks.glue.task import GLUE

__all__ = ["GLUE"]
