"""The console script ``zipeft``, and what all of zipeft's commands share. This module imports no torch."""

from __future__ import annotations

import argparse
import codecs
import errno
import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import zipeft
from zipeft import extras, registry
from zipeft.api.settings import describe, override, path
from zipeft.errors import ReaderGone, UserError, printable

if TYPE_CHECKING:
    from zipeft.api.backbone import Backbone

P = ParamSpec("P")

USER_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # the last two are what a shell reports of SIGINT and SIGPIPE

ASCII = str.maketrans("─│┌┐└┘├┤┬┴┼≈\N{EN DASH}", "-|+++++++++~-")
"""What stands for characters of tables."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""What no command can help: the place that it writes to is full, or gone."""

NO_MEMORY = re.compile("not enough memory|can't allocate memory|out of memory|cannot allocate memory", re.IGNORECASE)
"""How torch words it, whose errors are mere ``RuntimeError``s on a CPU."""

LONGEST_WORD = 400
"""Letters of a message without a space; of a longer one, an argument, the beginning and the end tell what it was."""

LONGEST = 1500
"""Characters of a message."""

DELEGATES = {
    "fetch": "get a task's data before it is run, and verify what is there",
    "run": "fine-tune a backbone on a task with some or all methods",
    "profile": "tell what methods cost on a backbone, before anything is trained",
    "evaluate": "score a saved adapter on its task's test data",
    "generate": "answer prompts with a saved adapter, or with a backbone as it is",
    "judge": "compare two files of answers by a language model, in both orders",
    "eval": "score a saved adapter on public benchmarks, by lm-evaluation-harness",
    "convert": "take over adapters of LLaMA-Adapter and peft, or give them to those",
    "push": "publish a saved adapter on the Hugging Face hub, with a model card",
    "pull": "get an adapter from the Hugging Face hub",
    "leaderboard": "turn result files into leaderboard pages",
    "validate": "check result files, and print their JSON schema",
}

MODULES = {"eval": "harness"}
"""Commands whose modules have other names."""


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose complaint is a ``UserError``: one line, without the usage that buries it.

    A value that is empty, as that of a shell variable that was never set, is refused, unless its option is of the type
    ``str``; paths are what ``settings.path`` takes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", None, _given)
        self.register("type", Path, path)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _given(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("its value is empty: give one, or leave it out")
    if "\0" in text:
        raise argparse.ArgumentTypeError("its value has a character that ends texts: take it out")
    return text


def add_backbone(parser: argparse.ArgumentParser, backbone_help: str) -> None:
    """Add --backbone and --checkpoint, which ``chosen_backbone`` reads."""
    parser.add_argument("--backbone", metavar="NAME", help=backbone_help)
    parser.add_argument("--checkpoint", metavar="NAME", help="which model of the backbone's family")


def chosen_backbone(options: argparse.Namespace, assigned: Mapping[str, str] | None = None) -> Backbone | None:
    """Return the backbone that the options name, with settings from --set; None if they name none.

    Raises ``UserError`` for a --checkpoint without its --backbone, and for what is unknown.
    """
    if not options.backbone:
        if options.checkpoint:
            raise UserError("--checkpoint needs --backbone beside it")
        return None
    values = dict(assigned or {})
    if options.checkpoint:
        if "checkpoint" in values:
            raise UserError(f"{options.backbone}.checkpoint is set twice; keep one")
        values["checkpoint"] = options.checkpoint
    return override(registry.backbones.get(options.backbone), values, options.backbone)


def exit_status(main: Callable[P, int]) -> Callable[P, int]:
    """Give a command's ``main(argv)`` its exit status and its last words; to be used as a decorator.

    ``UserError`` becomes one line on stderr and status 2, and so do files that cannot be used, a full disk, a memory
    that is too small and a library of an extra that is not installed; Ctrl-C one line and 130. A reader that has gone
    away, as in ``zipeft ls | head``, ends it silently. Any other exception is a defect and keeps its traceback.
    """

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            _print_whatever_the_encoding()
            status = main(*args, **kwargs)
            if sys.stdout:  # None where it is closed
                sys.stdout.flush()  # here rather than at exit, where a broken pipe can no longer be caught
            return status
        except UserError as error:
            return _refused(str(error))
        except KeyboardInterrupt:
            print("zipeft: interrupted", file=sys.stderr)
            return INTERRUPTED
        except (BrokenPipeError, ReaderGone):
            _forget_output()
            return BROKEN_PIPE
        except OSError as error:
            if error.filename is None and error.errno not in FULL:
                raise
            if error.errno in FULL:
                _forget_output()
            return _refused(_of_file(error))
        except ModuleNotFoundError as error:
            if not (error.name and (needed := extras.needed_for(error.name))):
                raise
            return _refused(needed)
        except (MemoryError, RuntimeError) as error:
            if not (isinstance(error, MemoryError) or NO_MEMORY.search(str(error))):
                raise
            return _refused("there is not enough memory for that: take less at once, or a machine with more")

    return guarded


def _of_file(error: OSError) -> str:
    """Word what is wrong with a file."""
    if error.errno in FULL:
        return f"{error.filename or 'the output'} cannot be written: {error.strerror}; make room for it"
    if isinstance(error, PermissionError):
        return f"{error.filename} cannot be read or written ({error.strerror}): check its permissions"
    return f"{error.filename} cannot be used ({error.strerror}): check the path"


def _print_whatever_the_encoding() -> None:
    """Let ASCII stand for characters of tables that a terminal does not have, and "?" for any other one."""
    codecs.register_error("zipeft", _in_ascii)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="zipeft")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end].translate(ASCII)
    return "".join(character if character.isascii() else "?" for character in lost), error.end


def _refused(reason: str) -> int:
    words = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:200]}...{word[0][-50:]}", reason)
    with suppress(OSError):
        print("zipeft: error:", _shortened(printable(" ".join(words.splitlines()))), file=sys.stderr)
    return USER_ERROR


def _shortened(message: str) -> str:
    """Leave out the middle of a message that is still long; what to do stands at its end."""
    if len(message) <= LONGEST:
        return message
    return f"{message[: LONGEST * 2 // 3]} [...] {message[-LONGEST // 3 :]}"


def _forget_output() -> None:
    """What is still buffered would raise again when the interpreter closes the streams."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``zipeft`` with these arguments, by default those of the process, and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in DELEGATES:  # before argparse, which would take --help and other options itself
        module = MODULES.get(arguments[0], arguments[0])
        return importlib.import_module(f"zipeft.commands.{module}").main(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
    else:
        print(printable(_listing(options.kind, options.verbose)))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="zipeft", description=zipeft.__doc__, epilog="zipeft COMMAND --help says more.")
    parser.add_argument("--version", action="version", version=f"zipeft {zipeft.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    ls = commands.add_parser("ls", help="list the backbones, tasks and methods that are installed")
    ls.add_argument("kind", nargs="?", choices=("backbones", "tasks", "methods"), help="list these alone")
    ls.add_argument("-v", "--verbose", action="store_true", help="show each one's settings and their defaults")
    for name, summary in DELEGATES.items():
        commands.add_parser(name, help=summary, add_help=False)
    return parser


def _listing(kind: str | None, verbose: bool) -> str:
    """Return the tables of ``zipeft ls``, for one kind of plug-in or for all."""
    from tabulate import tabulate

    tables = []
    for title in [kind] if kind else ["backbones", "tasks", "methods"]:
        plugins = getattr(registry, title)
        rows = [_row(plugins, row, verbose) for row in plugins.listing()]
        headers = [title, "description", "origin", *(["settings"] if verbose else [])]
        tables.append(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    return "\n\n".join(tables)


def _row(plugins: registry.Registry[Any], row: registry.Listing, verbose: bool) -> list[str]:
    cells = [row.name, f"BROKEN: {row.error}" if row.error else row.summary, row.origin]
    if verbose:
        cells.append("" if row.error else "\n".join(_settings(plugins.get(row.name))))
    return cells


def _settings(plugin: type) -> list[str]:
    """Return a line for every setting, and for a method's search space."""
    space = getattr(plugin, "space", {})
    return [*describe(plugin), *(f"searched: {name}, {dimension}" for name, dimension in space.items())]
