"""Questions on images."""

from zipeft.tasks.vqa.task import VQA

__all__ = ["VQA"]
