"""What a page asks of the plug-in of its task: which averages it shows, and what others have published."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zipeft.errors import UserError

if TYPE_CHECKING:
    from zipeft.api.task import Task
    from zipeft.results import Result


def task_of(results: Iterable[Result]) -> type[Task] | None:
    """Return the class of the results' task, or None if its plug-in cannot be loaded here."""
    from zipeft.registry import tasks

    try:
        return tasks.get(next(iter(results)).task.name)
    except UserError:
        return None
