"""ScienceQA: questions of school science, half of them on an image."""

from zipeft.tasks.scienceqa.task import ScienceQA

__all__ = ["ScienceQA"]
