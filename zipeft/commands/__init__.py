"""The console script ``zipeft``: the table of its commands, each a module of this package. It imports no torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import zipeft
from zipeft.commands.common import ArgumentParser, exit_status


class Command(NamedTuple):
    """A command: the module of this package that has its ``main(argv)``, and what it is for."""

    module: str
    summary: str


COMMANDS = {
    "ls": Command("ls", "list the backbones, tasks and methods that are installed"),
    "new": Command("new", "write a package with a plug-in of your own, to start from"),
    "fetch": Command("fetch", "get a task's data before it is run, and verify what is there"),
    "doctor": Command("doctor", "say whether this machine is ready, and what to do where it is not"),
    "run": Command("run", "fine-tune a backbone on a task with some or all methods"),
    "recipes": Command("recipes", "list the published results that there are recipes for"),
    "profile": Command("profile", "tell what methods cost on a backbone, before anything is trained"),
    "evaluate": Command("evaluate", "score a saved adapter on its task's test data"),
    "generate": Command("generate", "answer prompts with a saved adapter, or with a backbone as it is"),
    "demo": Command("demo", "open a local page on which one drops an image and asks a saved adapter"),
    "judge": Command("judge", "compare two files of answers by a language model, in both orders"),
    "lm-eval": Command("harness", "score a saved adapter on public benchmarks, by lm-evaluation-harness"),
    "benchmark": Command("benchmark", "score a vision-language adapter on MME or MMBench"),
    "lmms-eval": Command("lmms", "score a vision-language adapter on public benchmarks, by lmms-eval"),
    "convert": Command("convert", "take over adapters of LLaMA-Adapter and peft, or give them to those"),
    "push": Command("push", "publish a saved adapter on the Hugging Face hub, with a model card"),
    "pull": Command("pull", "get an adapter from the Hugging Face hub"),
    "leaderboard": Command("leaderboard", "turn result files into leaderboard pages"),
    "validate": Command("validate", "check result files, and print their JSON schema"),
    "compare": Command("compare", "say what moved between two sets of results, and whether beyond noise"),
    "reproduce": Command(
        "reproduce", "run one row of a board again from its record, and say whether it gives the same"
    ),
    "submit": Command("submit", "check results as the boards take them in, and pack them to be sent"),
    "pack": Command("pack", "put the records of each data set into one file"),
}

RENAMED = {"eval": "lm-eval"}
"""Old names, which work until the next release."""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``zipeft`` with these arguments, by default those of the process, and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in RENAMED:
        print(f"zipeft: {name} is now called {RENAMED[name]}", file=sys.stderr)
        name = RENAMED[name]
    if name in COMMANDS:  # before argparse, which would take --help and other options itself
        return importlib.import_module(f"zipeft.commands.{COMMANDS[name].module}").main(arguments[1:])
    parser = _parser()
    parser.parse_args(arguments)
    parser.print_help()
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="zipeft", description=zipeft.__doc__, epilog="zipeft COMMAND --help says more.")
    parser.add_argument("--version", action="version", version=f"zipeft {zipeft.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.summary, add_help=False)
    return parser
