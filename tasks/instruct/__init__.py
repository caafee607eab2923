"""Instruction tuning."""

from zipeft.tasks.instruct.task import Instruct

__all__ = ["Instruct"]
