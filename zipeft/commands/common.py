"""What all commands share: their parser, their exit status, and the choice of a backbone. It imports no torch."""

from __future__ import annotations

import argparse
import codecs
import errno
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from zipeft import extras, registry
from zipeft.api.settings import override, path
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

LEAST_TEMPERATURE = 1e-6
"""Below it what is divided by it is not finite any more."""


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


def command_parser(prog: str, description: str, examples: str, **more: Any) -> ArgumentParser:
    """Return the parser of a command, whose help ends with examples; ``more`` goes to ``ArgumentParser``."""
    layout = argparse.RawDescriptionHelpFormatter
    return ArgumentParser(prog=prog, description=description, epilog=examples, formatter_class=layout, **more)


def _given(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("its value is empty: give one, or leave it out")
    if "\0" in text:
        raise argparse.ArgumentTypeError("its value has a character that ends texts: take it out")
    return text


# --- numbers on the command line --------------------------------------------------------------------------------------

Number = TypeVar("Number", int, float)


def whole(low: int = 0, high: float = math.inf) -> Callable[[str], int]:
    """Return the type of an argument that takes the whole numbers from ``low`` to ``high``."""

    def number(text: str) -> int:  # argparse words what is none as "invalid number value"
        return _within(int(text), low, high)

    return number


def between(low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return the type of an argument that takes the finite numbers from ``low`` to ``high``."""

    def number(text: str) -> float:
        return _within(float(text), low, high)

    return number


def _within(value: Number, low: float, high: float) -> Number:
    if not low <= value <= min(high, sys.float_info.max):
        wanted = f"{low:,} or more" if high == math.inf else f"a number from {low:,} to {high:,}"
        raise argparse.ArgumentTypeError(f"{value} is out of range: give {wanted}")
    return value


positive_int = whole(1)


def fraction(text: str) -> float:
    """The type of an argument that takes a part of a whole, none left out: above 0, up to 1."""
    if not 0 < (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no fraction: give a number above 0, up to 1")
    return value


def temperature(text: str) -> float:
    """The type of an argument that takes a temperature at which tokens are drawn, 0 for none drawn."""
    if 0 < (value := between(0)(text)) < LEAST_TEMPERATURE:
        raise argparse.ArgumentTypeError(f"{text} is too near to 0: give 0, at which nothing is drawn")
    return value


def or_none(number: Callable[[str], Number]) -> Callable[[str], Number | None]:
    """Return the type of an argument that takes a number or "none"."""

    def number_or_none(text: str) -> Number | None:
        return None if text == "none" else number(text)

    return number_or_none


# --- the backbone -----------------------------------------------------------------------------------------------------


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


def named_backbone(options: argparse.Namespace, assigned: Mapping[str, str] | None = None) -> Backbone:
    """Return what ``chosen_backbone`` does. Raises ``UserError`` also where the options name none."""
    backbone = chosen_backbone(options, assigned)
    if backbone is None:
        raise UserError("name a --backbone (zipeft ls backbones lists them)")
    return backbone


# --- the exit status --------------------------------------------------------------------------------------------------


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
