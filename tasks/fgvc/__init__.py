"""Fine-grained image classification."""

from zipeft.tasks.fgvc.task import FGVC

__all__ = ["FGVC"]
