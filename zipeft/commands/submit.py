"""``zipeft submit``: check results, and put those that a board can take in into a folder to send."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import UserError, printable
from zipeft.formatting import counted, duration, listing

if TYPE_CHECKING:
    from zipeft.leaderboard.blocks import Block
    from zipeft.results import Place, Record, Result

REFUSED = 1
SUMMARY = "README.md"

EXAMPLES = """\
examples:
  zipeft submit results
      check everything in results/, and write archives and a summary to submission/
  zipeft submit results --out leaderboards/results/alice
      the same in a checkout of zipeft, as a pull request has it
  zipeft submit results --check
      write nothing: say what would be refused, one line a record

The exit status is 0 if nothing is refused, 1 if any record is (nothing is written then), and 2 for a mistake in the
input. Your own files stay as they are.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Check results, write the submission, and return the exit status."""
    options = _parser().parse_args(argv)
    if not options.results.is_dir():
        raise UserError(f"no such folder: {options.results}; make results with `python -m zipeft.run`")
    if not options.check and options.out.is_dir() and any(options.out.iterdir()):
        raise UserError(f"{options.out} is not empty: name a new folder by --out")
    contents, records, refused = _read(options.results)
    published = _published(options.boards)
    from zipeft.experiments.submission import faults

    for place, fault in faults(records, published, options.own_protocol):
        refused.setdefault(place, fault)
    for place, fault in refused.items():
        print(printable(f"{place}: {fault}"))
    kept = counted(len(records), "record")
    if refused or not records:
        print(f"refused: {len(refused)} of {len(records) + len(refused.keys() - records.keys())} records")
        return REFUSED
    if options.check:
        print(f"nothing is refused: {kept}")
        return 0
    for path in _write(options.out, contents, records, published):
        print(f"wrote {path}")
    print(f"{kept}; {options.out / SUMMARY} is the text of a pull request")
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft submit",
        "Check results as the boards take them in, and write them packed, with a summary for a pull request.",
        EXAMPLES,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of results, as --results has it")
    parser.add_argument(
        "--out", type=Path, default=Path("submission"), metavar="DIR", help="a new folder (default: %(default)s)"
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument(
        "--own-protocol",
        action="store_true",
        help="allow protocols that are of no preset; their rows get tables of their own",
    )
    parser.add_argument(
        "--boards",
        type=Path,
        default=Path("leaderboards/results"),
        metavar="DIR",
        help="results that are published, if they are at hand (default: %(default)s)",
    )
    return parser


def _read(root: Path) -> tuple[dict[Place, Any], dict[Place, Record], dict[Place, str]]:
    """Return what files say, their valid records, and what is wrong with the others; each by its place."""
    from zipeft.results import SCHEMA, from_json
    from zipeft.results.reading import places, read_content
    from zipeft.results.store import check_place

    contents: dict[Place, Any] = {}
    records: dict[Place, Record] = {}
    refused: dict[Place, str] = {}
    first: dict[tuple[str, str], Place] = {}
    for place in places([root]):
        try:
            content = read_content(place)
            record = from_json(content)
            check_place(place, record, content["id"])
            if content["schema"] != SCHEMA:
                raise UserError(f"schema is {content['schema']}: an older zipeft made it; run it again for {SCHEMA}")
            if (other := first.setdefault((record.kind, record.id), place)) != place:
                raise UserError(f"has the id of {other}; keep one of them")
        except UserError as error:
            refused[place] = str(error)
        else:
            contents[place], records[place] = content, record
    return contents, records, refused


def _published(root: Path) -> list[Result]:
    from zipeft.results import read_results

    return list(read_results([root]).values()) if root.exists() else []


def _write(
    out: Path, contents: Mapping[Place, Any], records: Mapping[Place, Record], published: Sequence[Result]
) -> Iterator[Path]:
    """Write an archive for each data set, and the summary, and yield their paths."""
    from zipeft.files import write_atomically
    from zipeft.leaderboard.render.markdown import document
    from zipeft.results import Result
    from zipeft.results.archive import write_archive
    from zipeft.results.store import archive_path

    archives: dict[Path, dict[tuple[str, str], Any]] = defaultdict(dict)
    for place, record in records.items():
        archives[out / archive_path(record)][record.id, record.kind] = contents[place]
    for archive, packed in sorted(archives.items()):
        write_archive(archive, packed)
        yield archive
    runs = [record for record in records.values() if isinstance(record, Result)]
    text = document(f"{counted(len(runs), 'run')} for the boards", _summary(runs, published))
    write_atomically(out / SUMMARY, text.encode())
    yield out / SUMMARY


def _summary(runs: Iterable[Result], published: Sequence[Result]) -> Iterator[Block]:
    """Yield what a reviewer wants to know: which tables the rows join, where they were measured, what they score."""
    from zipeft.leaderboard.blocks import Bullets, Heading, Paragraph
    from zipeft.leaderboard.ranking import summary_rows
    from zipeft.leaderboard.sections import sections
    from zipeft.leaderboard.tables import main_table

    for section in sections(runs):
        results = section.results
        first, rows = results[0], summary_rows(results)
        yield Heading(f"{first.backbone.name} on {first.task.name}, {first.protocol['preset']} preset")
        seconds = sum(result.cost.train_seconds + result.cost.frozen_prefix_seconds for result in results)
        seeds = listing([str(seed) for seed in sorted({result.seed for result in results})])
        datasets = listing(sorted({result.task.dataset for result in results}))
        yield Paragraph(
            f"{counted(len(rows), 'row')} on {datasets}, seeds {seeds}, {duration(seconds)} of training; "
            f"{_joins(first, published)}."
        )
        yield Bullets([("", text) for text in sorted({_measured(result) for result in results})])
        yield main_table(rows)


def _joins(result: Result, published: Sequence[Result]) -> str:
    from zipeft.results import conditions_key, differences

    board = (result.backbone.name, result.task.name)
    there = [other for other in published if (other.backbone.name, other.task.name) == board]
    if any(conditions_key(other) == conditions_key(result) for other in there):
        return "comparable with rows of the published board"
    if not there:
        return "no board of this backbone and task is published yet"
    nearest = min((differences(result, other) for other in there), key=len)
    return f"not comparable with the published board, so a table of its own ({'; '.join(nearest)})"


def _measured(result: Result) -> str:
    used = result.environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(used.versions.items()))
    return f"commit {used.commit}, {used.device}, {used.cpu}, {counted(used.cores, 'core')}; {versions}"


if __name__ == "__main__":
    sys.exit(main())
