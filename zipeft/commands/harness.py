"""``zipeft lm-eval``: a saved adapter, or a backbone as it is, on benchmarks of lm-evaluation-harness."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zipeft.commands.common import (
    ArgumentParser,
    add_backbone,
    chosen_backbone,
    command_parser,
    exit_status,
    named_backbone,
    positive_int,
    whole,
)
from zipeft.errors import UserError, described, did_you_mean, printable
from zipeft.files import check_target, write_atomically

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from zipeft.api.language_backbone import LanguageBackbone

EXAMPLES = """\
examples:
  zipeft lm-eval adapters/llama-instruct/alpaca/zero_gated-seed0 --tasks arc_challenge hellaswag mmlu truthfulqa_mc2
      the benchmarks of LLaMA-Adapter's Table 18 (whose number of examples in the prompt is not stated)
  zipeft lm-eval --backbone llama --tasks arc_easy --limit 100
  zipeft lm-eval --backbone llama --tasks my_task --include my_tasks
      a task of your own: a YAML file in the folder my_tasks, in lm-evaluation-harness's format
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, print a table and return the exit status."""
    options = _parser().parse_args(argv)
    if bool(options.adapter) == bool(options.backbone):
        raise UserError("give the folder of an adapter, or a --backbone to take as it is")
    if options.adapter:
        chosen_backbone(options)  # refuses a checkpoint that would be passed over
    if options.out:
        check_target(options.out)  # before hours are spent
    tasks = _task_manager(options.include)
    _check_tasks(options.tasks, tasks)
    found = _evaluated(_model(options), tasks, options)
    print(printable(score_table(found)))
    if options.out:
        write_json(options.out, found)
    return 0


def _task_manager(include: Path | None) -> TaskManager:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise UserError(f"zipeft lm-eval needs lm-evaluation-harness: pip install 'zipeft[eval]' ({error})") from error
    if include and not include.is_dir():
        raise UserError(f"--include {include}: there is no such folder")
    return TaskManager(include_path=str(include) if include else None)


def _check_tasks(names: Sequence[str], tasks: TaskManager) -> None:
    for name in names:
        if not tasks.match_tasks([name]):
            hint = did_you_mean(name, tasks.all_tasks)
            raise UserError(f"lm-evaluation-harness has no task {name!r}{hint}; its own are listed by lm_eval ls tasks")


def _model(options: argparse.Namespace) -> HFLM:
    """Return the model as the harness takes it: an adapter's splices are part of the model that it calls."""
    from lm_eval.models.huggingface import HFLM

    from zipeft.training.parallel import new_accelerator

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of models that are handed over whole, as ours is
    if options.adapter:
        from zipeft.adapters.saved import load_adapter

        learner, _ = load_adapter(options.adapter)
        backbone, model = learner.backbone, learner.model
    else:
        backbone, model = named_backbone(options), None
    if backbone.modality != "instruction":
        raise UserError(f"the benchmarks need a language model; {type(backbone).__name__} takes {backbone.modality}s")
    language = cast("LanguageBackbone", backbone)  # by its modality
    model = model or backbone.load()
    device = new_accelerator().device
    return HFLM(
        pretrained=model.to(device),
        tokenizer=language.tokenizer(),
        batch_size=options.batch_size,
        max_length=min(language.max_length(), options.max_length),
        device=str(device),
    )


def _evaluated(model: HFLM, tasks: TaskManager, options: argparse.Namespace) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    try:
        found = simple_evaluate(
            model,
            tasks=options.tasks,
            num_fewshot=options.few_shot,
            limit=options.limit,
            task_manager=tasks,
            apply_chat_template=options.chat,
            log_samples=False,
        )
    except Exception as error:  # data that cannot be had, a task with a fault: the harness and the hub raise anything
        raise UserError(
            f"lm-evaluation-harness could not evaluate {', '.join(options.tasks)} ({described(error)})"
        ) from error
    return found["results"]


def score_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line for every task and score, with the standard error that the harness gives."""
    from tabulate import tabulate

    from zipeft.formatting import DASH

    rows = []
    for task, scores in found.items():
        for key, value in scores.items():
            name, _, how = key.partition(",")
            if isinstance(value, int | float) and how and not name.endswith("_stderr"):
                error = scores.get(f"{name}_stderr,{how}")
                told = f"{error:.4f}" if isinstance(error, int | float) else DASH
                rows.append([task, name if how == "none" else f"{name} ({how})", f"{value:.4f}", told])
    headers = ["task", "score", "value", "standard error"]
    return tabulate(rows, headers=headers, colalign=("left", "left", "right", "right"), disable_numparse=True)


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write scores into a file, folders included. Raises ``UserError`` where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(found, indent=2, default=str) + "\n").encode())
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another place") from error


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft lm-eval",
        "Score a saved adapter, or a backbone as it is, on benchmarks of lm-evaluation-harness "
        "(pip install 'zipeft[eval]'). Most of them download their data from a hub.",
        EXAMPLES,
    )
    parser.add_argument("adapter", type=Path, nargs="?", metavar="ADAPTER", help="folder that --save-adapters wrote")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="NAME", help="tasks of the harness")
    add_backbone(parser, "take a backbone as it is, without an adapter")
    parser.add_argument("--include", type=Path, metavar="DIR", help="folder with tasks of your own")
    parser.add_argument("--few-shot", type=whole(), metavar="N", help="examples in the prompt (default: the task's)")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="take the first examples of each task alone")
    parser.add_argument("--chat", action="store_true", help="put prompts in the tokenizer's chat template")
    parser.add_argument("--batch-size", type=positive_int, default=8, metavar="N", help="(default: 8)")
    parser.add_argument(
        "--max-length", type=whole(2), default=2048, metavar="N", help="tokens of a prompt (default: 2048)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all scores as JSON, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
