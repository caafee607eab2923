"""The options of a run that decide its memory and time, and no result beyond rounding."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from zipeft.api.protocol import MOST
from zipeft.commands.common import whole
from zipeft.experiments.options import RunOptions

if TYPE_CHECKING:
    from zipeft.training.execution import Execution

MOST_WORKERS = 256


def add_execution_options(how: argparse._ArgumentGroup) -> None:
    """Add the options to a group of a parser."""
    how.add_argument(
        "--micro-batch",
        type=_micro_batch,
        metavar="N",
        help="examples that go through the model at once, which changes no result (default: the batch); auto halves "
        "them when memory runs out",
    )
    how.add_argument(
        "--checkpoint-activations",
        action="store_true",
        help="compute activations twice instead of keeping them: less memory, more time, the same results",
    )
    how.add_argument(
        "--sharding",
        action="store_true",
        help="divide weights, gradients and the optimiser's state over the processes of torchrun: less memory in each, "
        "more traffic, the same results",
    )
    how.add_argument(
        "--workers",
        type=whole(0, MOST_WORKERS),
        metavar="N",
        help="processes that read images and texts that do not fit in memory, which changes no result (default: one "
        "less than CPU cores, at most 8)",
    )


def execution_of(options: RunOptions) -> Execution:
    """Return what the options say."""
    from zipeft.training.execution import Execution

    text = options.micro_batch
    micro_batch: Any = int(text) if text and text != "auto" else text
    return Execution(micro_batch, options.workers, options.checkpoint_activations, options.sharding)


def _micro_batch(text: str) -> str:
    """Return the text of a number of examples, or "auto"."""
    return text if text == "auto" else str(whole(1, MOST)(text))
