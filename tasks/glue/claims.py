"""Claims against a quote from Wikipedia that bears them out, contradicts them, or says nothing of them.

The data are a part of VitaminC (Schuster et al. 2021, arXiv 2103.08541), without its synthetic revisions, as BIG-bench
has it: the same claim comes with quotes that differ in a few words, and so in the label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from zipeft.api.data import Data
from zipeft.errors import UserError, one_line
from zipeft.tasks import bigbench_archive
from zipeft.text.assembly import TextExample, split_by_group, text_data, words_of

FILE = "vitaminc_fact_verification/task.json"

CLASSES = ("True", "False", "Neither")

MARK = "\nClaim: "

ESCAPES = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "``": '"', "''": '"'}
"""How a treebank writes brackets and quotation marks; titles have "-COLON-" for a colon, too."""


class Claim(NamedTuple):
    """A claim, the quote it is held against, the page that the quote is from, and the label."""

    page: str
    quote: str
    claim: str
    label: str


def read_claims() -> list[Claim]:
    """Return all claims of the file, in its order."""
    (path,) = bigbench_archive.benchmark_files(FILE)
    try:
        records = json.loads(path.read_text("utf-8"))["examples"]
        return [_claim(record["input"], record["target_scores"]) for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): delete it, and it is made again") from error


def _claim(text: str, scores: Mapping[str, int]) -> Claim:
    for escape, character in ESCAPES.items():
        text = text.replace(escape, character)
    passage, _, claim = text.rpartition(MARK)
    page, _, quote = passage.partition(": ")
    (label,) = (label for label, score in scores.items() if score)
    return Claim(page.replace("-COLON-", ":"), quote, claim, label)


def load(limits: Mapping[str, int], seed: int) -> Data:
    """Return the claims. An example is (title and quote, claim). Pages that share a quote are in the same split."""
    claims = read_claims()
    examples = [
        TextExample(f"claim/{index}", (f"{each.page}: {each.quote}", each.claim), CLASSES.index(each.label))
        for index, each in enumerate(claims)
    ]
    keys = [(("page", each.page), words_of(each.quote), ("claim", words_of(each.claim))) for each in claims]
    return text_data(
        "claims",
        split_by_group(examples, keys, seed),
        classes=CLASSES,
        limits=limits,
        seed=seed,
        source=bigbench_archive.ARCHIVE.label,
        notes=[
            "a part of VitaminC; no page, quote or claim is in two splits",
            "licence Apache-2.0, quotes from Wikipedia CC BY-SA",
            "a canary in the file asks to keep it out of pretraining corpora, so no text of it is in the results",
        ],
    )
