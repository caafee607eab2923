"""VTAB-1k: nineteen kinds of images, a thousand examples each."""

from zipeft.tasks.vtab.task import VTAB

__all__ = ["VTAB"]
