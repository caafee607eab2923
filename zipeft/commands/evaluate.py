"""``zipeft evaluate``: score a saved adapter on the test data of the task it was made for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.api.sealed import TestKey
from zipeft.api.settings import path
from zipeft.commands.common import ArgumentParser, add_backbone, chosen_backbone, command_parser, exit_status
from zipeft.errors import UserError

if TYPE_CHECKING:
    from zipeft.api.task import Task

EXAMPLES = """\
examples:
  python -m zipeft.run --backbone vit --task fgvc --method zero_gated --save-adapters adapters
  zipeft evaluate adapters/vit-fgvc/icons/zero_gated-seed0
  zipeft evaluate adapters/vit-fgvc/icons/zero_gated-seed0 --backbone vit --checkpoint vit_base_patch16_224
      refused, with the reason: the adapter was made for other weights
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate one adapter, print its scores and return the exit status."""
    options = _parser().parse_args(argv)
    from zipeft.adapters.saved import load_adapter, objective_of, read_record, task_of
    from zipeft.formatting import score_text
    from zipeft.training.dataset import encode
    from zipeft.training.evaluation import Evaluator
    from zipeft.training.parallel import new_accelerator

    record = read_record(options.adapter)
    learner, _ = load_adapter(options.adapter, chosen_backbone(options))
    task = task_of(record)
    if options.data_dir:
        task = _with_data_dir(task, options.data_dir)
    data = task.load_for(record.task.dataset, learner.backbone)
    if tuple(data.classes) != record.classes:
        raise UserError(f"{data.source} has other classes than the data that {options.adapter} was trained on")
    evaluator = Evaluator(objective_of(record), new_accelerator())
    learner.to(evaluator.accelerator.device)
    key = TestKey(f"{options.adapter}")
    key.chosen("what the adapter was saved with")
    windows = task.windows(learner.backbone)
    for name, sealed in data.sealed_splits().items():
        test = sealed.open(key)
        scores, _ = evaluator.test(learner, encode(test, windows, learner.backbone))
        told = ", ".join(f"{score} {score_text(score, value)}" for score, value in scores.items())
        if evaluator.accelerator.is_main_process:
            print(f"{data.name} ({data.source}), {len(test)} {name} examples: {told}")
    return 0


def _with_data_dir(task: Task, folder: Path) -> Task:
    try:
        return replace(task, data_dir=folder)
    except ValueError as error:  # of the task itself: another of its settings says where the data come from
        raise UserError(f"--data-dir {folder}: {error}") from error


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft evaluate",
        "Score a saved adapter on the test data of the task it was made for.",
        EXAMPLES,
    )
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="folder that --save-adapters wrote")
    add_backbone(parser, "(default: the one it was made for)")
    parser.add_argument("--data-dir", type=path, metavar="DIR", help="where the task's data lies now")
    return parser


if __name__ == "__main__":
    sys.exit(main())
