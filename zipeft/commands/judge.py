"""``zipeft judge``: compare two files of answers, question by question, by a language model that sees both orders."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zipeft.commands.common import ArgumentParser, between, command_parser, exit_status, or_none, positive_int, whole
from zipeft.errors import UserError, printable

if TYPE_CHECKING:
    from zipeft.judge.asking import Session

KEY_VARIABLE = "OPENAI_API_KEY"

EXAMPLES = """\
examples:
  zipeft judge zero_gated.jsonl lora.jsonl --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-8B
      answers that zipeft generate wrote, judged by a server of your own (vLLM, llama.cpp, transformers serve, ...)
  zipeft judge zero_gated.jsonl lora.jsonl --endpoint https://api.openai.com/v1 --model gpt-4 --json numbers.json
      the same by a service; its key is taken from OPENAI_API_KEY
  zipeft judge ours.jsonl alpaca.jsonl --questions vicuna_questions.jsonl --endpoint ... --model ...
      answers in FastChat's format, with the file of Vicuna's or MT-bench's questions
  zipeft judge ours.jsonl alpaca.jsonl --protocol verdict --out judgements.jsonl --endpoint ... --model ...
      the judge ends with [[A]], [[B]] or [[C]], instead of starting with two scores

Each question is judged in both orders. An answer wins that wins in both; where they do not agree it is a tie.
A reply in which no verdict can be read is asked for once more, with a reminder of the form. If there is none again,
the question counts as unreadable: no win, no tie, no loss. So does one that the judge refuses to answer, or whose reply
is filtered, or cut before it says anything; --retry-unanswered asks those again.
Each reply is kept in --out as it arrives, and no request that has its reply there is sent again: give the same command
after a failure, an interruption or a kill. Another model, protocol, temperature or answer is another request, and the
file may hold replies to many; another --max-tokens asks again only what it changes. The endpoint is no part of a
request: give each judge a --model or an --out of its own.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Judge what is not judged yet, print the report and return the exit status."""
    options = _parser().parse_args(argv)
    from zipeft.files import check_target
    from zipeft.judge.asking import Judge, Session
    from zipeft.judge.contest import read_contest
    from zipeft.judge.journal import Journal

    if options.json:
        _check_own(options)
        check_target(options.json)
    contest = read_contest(options.a, options.b, options.questions, options.allow_missing)
    judge = Judge(options.model, options.protocol, options.temperature, options.max_tokens)
    with Journal(options.out, options.retry_unanswered) as journal:
        session = Session(judge, contest, journal, options.endpoint)
        _ask(session, options)
    return _report(session, options.json)


def _check_own(options: argparse.Namespace) -> None:
    """Raise ``UserError`` where the numbers would be written over something else."""
    others = {"A": options.a, "B": options.b, "--questions": options.questions, "--out": options.out}
    for name, path in others.items():
        if path and os.path.realpath(path) == os.path.realpath(options.json):
            raise UserError(f"--json {options.json} is the file of {name}, too: give the numbers one of their own")


def _ask(session: Session, options: argparse.Namespace) -> None:
    """Have the judge say what it has not said yet."""
    comparisons = session.open_comparisons()
    if not comparisons:  # then neither a key nor a client is needed
        return
    from tqdm import tqdm

    from zipeft.judge.client import Client

    client = Client(options.endpoint, _key(options.api_key_env), options.timeout, options.retries)
    total = 2 * len(session.contest.pairs)
    with tqdm(total=total, initial=total - len(comparisons), desc="judging", unit="comparison", disable=None) as bar:
        asyncio.run(session.ask_all(client, comparisons, options.workers, bar))


def _report(session: Session, json_file: Path | None) -> int:
    from zipeft.files import write_atomically
    from zipeft.judge.report import as_json, tables
    from zipeft.judge.statistics import summarise

    judge, contest = session.judge, session.contest
    summary = summarise(judge, contest, session.journal)
    print(printable(tables(judge, contest, summary)))
    if json_file:
        write_atomically(json_file, json.dumps(as_json(judge, contest, summary), indent=2).encode() + b"\n")
    return 0


def _key(variable: str | None) -> str:
    """Return the key for the endpoint, "" for none. Raises ``UserError`` if the user names a variable without one."""
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable and not key:
        # Its name is not repeated: it might be the key itself, given by mistake.
        raise UserError("the variable that --api-key-env names is not set: set it, or name the one that holds the key")
    if not (key.isascii() and key.isprintable()):
        raise UserError("the key for the endpoint has characters that no key has: set its variable again")
    return key


# --- the command line -------------------------------------------------------------------------------------------------


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft judge",
        "Compare two files of answers to the same questions by a language model, in both orders.",
        EXAMPLES,
    )
    parser.add_argument("a", type=Path, metavar="A", help="a file of answers, as JSON lines")
    parser.add_argument("b", type=Path, metavar="B", help="another, of answers to the same questions")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="what was asked, if the answers do not tell")
    parser.add_argument("--allow-missing", action="store_true", help="judge the questions that all files have")
    judge = parser.add_argument_group("the judge")
    judge.add_argument(
        "--endpoint", required=True, type=_endpoint, metavar="URL", help="such as http://localhost:8000/v1"
    )
    judge.add_argument("--model", required=True, type=_model, metavar="NAME", help="as the endpoint calls it")
    judge.add_argument(
        "--api-key-env", metavar="NAME", help=f"variable of the environment with the key (default: {KEY_VARIABLE})"
    )
    judge.add_argument("--protocol", choices=("scores", "verdict"), default="scores", help="(default: scores)")
    judge.add_argument(
        "--temperature",
        type=or_none(between(0, 2)),
        default=0.0,
        metavar="T",
        help="or none, to send none (default: 0)",
    )
    judge.add_argument(
        "--max-tokens",
        type=or_none(positive_int),
        default=1024,
        metavar="N",
        help="or none, to send none (default: 1024)",
    )
    how = parser.add_argument_group("how it is asked")
    how.add_argument("--workers", type=positive_int, default=4, metavar="N", help="requests at a time (default: 4)")
    how.add_argument(
        "--retries",
        type=whole(),
        default=5,
        metavar="N",
        help="after failures that may pass, with growing pauses (default: 5)",
    )
    how.add_argument("--retry-unanswered", action="store_true", help="ask again what is on file without an answer")
    how.add_argument(
        "--timeout", type=between(0.001), default=300.0, metavar="SECONDS", help="for one reply (default: 300)"
    )
    where = parser.add_argument_group("where it goes")
    where.add_argument(
        "--out", type=Path, default=Path("judgements.jsonl"), metavar="FILE", help="(default: judgements.jsonl)"
    )
    where.add_argument("--json", type=Path, metavar="FILE", help="write the report's numbers")
    return parser


def _endpoint(text: str) -> str:
    """Return a URL without what is no part of it. One that holds a key is refused: URLs are written to files."""
    try:
        url = urlsplit(text)
        _ = url.port  # raises for what is none
    except ValueError:
        raise argparse.ArgumentTypeError("is no URL") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise argparse.ArgumentTypeError("is no URL such as http://localhost:8000/v1")
    if url.username is not None or url.query or url.fragment:
        raise argparse.ArgumentTypeError("is to have no user, query or fragment; a key goes in the environment")
    return text.rstrip("/").removesuffix("/chat/completions")


def _model(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is no text") from None
    if not text.strip():
        raise argparse.ArgumentTypeError("its value is empty: give one, or leave it out")
    return text
