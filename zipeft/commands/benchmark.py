"""``zipeft benchmark``: a vision-language adapter, or a backbone as it is, on MME or MMBench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft.api.settings import path
from zipeft.commands.common import ArgumentParser, command_parser, exit_status, positive_int
from zipeft.commands.harness import write_json
from zipeft.commands.respondent import add_model, check_model, respondent_of
from zipeft.errors import printable
from zipeft.files import check_target

if TYPE_CHECKING:
    from zipeft.benchmarks.benchmark import Benchmark, Results
    from zipeft.objectives.options import Choice

NAMES = ("mme", "mmbench")

EXAMPLES = """\
examples:
  zipeft benchmark mme adapters/vlm-scienceqa/scienceqa/zero_gated-seed0 --data-dir MME_Benchmark_release_version
      accuracy and accuracy+ of each subtask, perception and cognition, beside published ones
  zipeft benchmark mmbench ADAPTER --data-dir MMBench_DEV_EN.tsv --out mmbench.json
      circular evaluation, of all abilities; the file has every answer, and where all of it comes from
  zipeft benchmark mme --backbone vlm --set vlm.language=llama:FOLDER --data-dir DIR
      a backbone as it is: no image enters it, so this is what the text alone is worth
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Score, print tables and return the exit status."""
    options = _parser().parse_args(argv)
    check_model(options)
    if options.out:
        check_target(options.out)  # before hours are spent
    from zipeft.benchmarks.report import report

    benchmark = _read(options.benchmark, options.data_dir)  # before a model is loaded
    respondent, origin = respondent_of(options, options.max_new_tokens)
    choices = respondent.choices(benchmark.questions, benchmark.letters)
    results = benchmark.results(choices)
    print(printable(report(benchmark, results, origin["name"])))
    if options.out:
        write_json(options.out, _record(benchmark, results, choices, origin, options))
    return 0


def _read(name: str, path: Path) -> Benchmark:
    if name == "mme":
        from zipeft.benchmarks.mme import MME

        return MME.read(path)
    from zipeft.benchmarks.mmbench import MMBench

    return MMBench.read(path)


def _record(
    benchmark: Benchmark,
    results: Results,
    choices: Sequence[Choice],
    origin: dict[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Return what the file holds: scores, where they come from, and every answer."""
    from zipeft.results.environment import current_environment

    asked = zip(benchmark.questions, choices, strict=True)
    return {
        "benchmark": options.benchmark,
        "model": origin,
        "data": {"path": str(options.data_dir), "checksum": benchmark.checksum, "questions": len(benchmark.questions)},
        "settings": {"max_new_tokens": options.max_new_tokens, "batch_size": options.batch_size},
        "counts": benchmark.counts,
        "notes": results.notes,
        "scores": results.scores,
        "published": [asdict(table) for table in benchmark.published()],
        "environment": asdict(current_environment("zipeft benchmark")),
        "answers": [
            {"question": question.name, "written": choice.written, "log_probs": choice.log_probs}
            for question, choice in asked
        ],
    }


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft benchmark",
        "Score a saved adapter of a vision-language model, or a backbone as it is, on a public benchmark, without "
        "training on it. Its data are a folder of yours.",
        EXAMPLES,
    )
    parser.add_argument("benchmark", choices=NAMES, metavar="BENCHMARK", help=" or ".join(NAMES))
    add_model(parser)
    parser.add_argument(
        "--data-dir",
        type=path,
        required=True,
        metavar="DIR",
        help="MME's folder of subtasks; MMBench's table, or the folder that it is in",
    )
    parser.add_argument(
        "--max-new-tokens", type=positive_int, default=8, metavar="N", help="of the longest answer (default: 8)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write scores, answers and their origin as JSON, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
