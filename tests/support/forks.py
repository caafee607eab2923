"""Processes that tests start, kill and wait for: forks of the test's own, which have imported everything already.

A new interpreter takes seconds to import PyTorch; a fork is at work at once. Whether a command works in an interpreter
of its own is for other tests.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, GradientState


def fork(action: Callable[[], Any], said: Path | str, **environment: str) -> BaseProcess:
    """Start a process that leads a session of its own; ``action`` returns its status, and what it says goes to a file.

    It ends by ``action`` alone, or killed: nothing else of the test goes on in it.
    """
    process = multiprocessing.get_context("fork").Process(target=_run, args=(action, said, environment), daemon=True)
    process.start()
    return process


def fork_together(action: Callable[[], Any], processes: int, said: Path | str) -> list[BaseProcess]:
    """Start processes that train together, with the environment that ``torchrun`` would give them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    return [fork(action, said, **shared, RANK=str(i), LOCAL_RANK=str(i)) for i in range(processes)]


def statuses(processes: list[BaseProcess], seconds: float = 120) -> list[int | None]:
    """Return the exit status of each, ``None`` of one that has not ended after so many seconds, which is killed."""
    for process in processes:
        process.join(seconds)
    found = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return found


def _run(action: Callable[[], Any], said: Path | str, environment: dict[str, str]) -> None:
    os.setsid()
    with open(said, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
    os.environ.update(environment)
    AcceleratorState._reset_state(reset_partial_state=True)  # the test's own process trains alone
    GradientState._reset_state()
    sys.exit(action())
