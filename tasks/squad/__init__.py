"""SQuAD: answers that are spans of a text."""

from zipeft.tasks.squad.task import SQuAD

__all__ = ["SQuAD"]
