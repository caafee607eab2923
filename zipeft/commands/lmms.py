"""``zipeft lmms-eval``: a vision-language adapter, or a backbone as it is, on benchmarks of lmms-eval."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft.commands.common import ArgumentParser, command_parser, exit_status, positive_int
from zipeft.commands.harness import score_table, write_json
from zipeft.commands.respondent import add_model, check_model, respondent_of
from zipeft.errors import UserError, described, did_you_mean, printable
from zipeft.files import check_target

if TYPE_CHECKING:
    from lmms_eval.api.model import lmms
    from lmms_eval.tasks import TaskManager

EXAMPLES = """\
examples:
  zipeft lmms-eval adapters/vlm-scienceqa/scienceqa/zero_gated-seed0 --tasks pope vqav2_val textvqa_val
      benchmarks of LVLM-eHub that lmms-eval has; it downloads their data from a hub
  zipeft lmms-eval ADAPTER --tasks scienceqa_img --limit 100 --out scores.json
  zipeft lmms-eval ADAPTER --tasks my_task --include my_tasks
      a task of your own: a YAML file in the folder my_tasks, in lmms-eval's format
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, print a table and return the exit status."""
    options = _parser().parse_args(argv)
    check_model(options)
    if options.out:
        check_target(options.out)  # before hours are spent
    tasks = _task_manager(options.include)
    _check_tasks(options.tasks, tasks)
    from zipeft.benchmarks.lmms_model import VisionLanguage

    respondent, origin = respondent_of(options, options.max_new_tokens)
    found = _evaluated(VisionLanguage(respondent), tasks, options)
    print(printable(score_table(found["results"])))
    if options.out:
        own = {"lmms_eval": found["lmms_eval_version"], "limit": options.limit, "results": found["results"]}
        write_json(options.out, {"model": origin, **own})
    return 0


def _task_manager(include: Path | None) -> TaskManager:
    try:
        from lmms_eval.tasks import TaskManager
        from loguru import logger
    except ImportError as error:
        raise UserError(f"zipeft lmms-eval needs lmms-eval: pip install 'zipeft[lmms]' ({error})") from error
    if include and not include.is_dir():
        raise UserError(f"--include {include}: there is no such folder")
    logger.remove()
    logger.add(sys.stderr, level="ERROR")  # it tells each of its steps
    return TaskManager("ERROR", include_path=str(include) if include else None)


def _check_tasks(names: Sequence[str], tasks: TaskManager) -> None:
    for name in names:
        if name not in tasks.all_tasks:
            hint = did_you_mean(name, tasks.all_tasks)
            raise UserError(f"lmms-eval has no task {name!r}{hint}; its own are listed by lmms-eval --tasks list")


def _evaluated(model: lmms, tasks: TaskManager, options: argparse.Namespace) -> dict[str, Any]:
    from lmms_eval.evaluator import simple_evaluate

    try:
        return simple_evaluate(
            model, tasks=options.tasks, limit=options.limit, task_manager=tasks, log_samples=False, verbosity="ERROR"
        )
    except UserError:
        raise
    except Exception as error:  # data that cannot be had, a task with a fault: lmms-eval and the hub raise anything
        names, reason = ", ".join(options.tasks), _cause(error)
        raise UserError(f"lmms-eval could not evaluate {names} ({described(reason)})") from error


def _cause(error: Exception) -> BaseException:
    """Return what went wrong, for an error that says only that it was tried again and again."""
    from tenacity import RetryError

    return error.last_attempt.exception() or error if isinstance(error, RetryError) else error


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft lmms-eval",
        "Score a saved adapter of a vision-language model, or a backbone as it is, on benchmarks of lmms-eval "
        "(pip install 'zipeft[lmms]'). Most of them download their data from a hub.",
        EXAMPLES,
    )
    add_model(parser)
    parser.add_argument("--tasks", nargs="+", required=True, metavar="NAME", help="tasks of lmms-eval")
    parser.add_argument("--include", type=Path, metavar="DIR", help="folder with tasks of your own")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="take the first examples of each task alone")
    parser.add_argument(
        "--max-new-tokens",
        type=positive_int,
        default=128,
        metavar="N",
        help="of the longest answer, where a task asks for more (default: 128)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all scores as JSON, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
