"""Sentences of film and shop reviews that people rated from -4 to 4: polarity, and the mean rating itself.

The ratings were made for VADER (Hutto and Gilbert, ICWSM 2014), by fifteen to twenty people a sentence. The sentences
on films are from Rotten Tomatoes, as those of the Stanford Sentiment Treebank are; those on shop goods are from Amazon.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from typing import NamedTuple

from zipeft.api.data import Data
from zipeft.errors import UserError, one_line
from zipeft.sources import package_archive
from zipeft.text.assembly import TextExample, split_by_group, text_data, words_of

ARCHIVE = package_archive.PackageArchive(
    name="vaderSentiment",
    version="3.3.2",
    kind="sdist",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    size=2_466_783,
    licence="MIT",
)
MEMBER = "additional_resources/hutto_ICWSM_2014.tar.gz"

FILES = {
    "movie": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "shop": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
}

SETS = {"movie-sentiment": ("movie",), "shop-sentiment": ("shop",), "review-ratings": ("movie", "shop")}
"""The data sets, and the files that each takes its sentences from."""

POLARITY = ("negative", "positive")

UNDECIDED = 0.5
"""A sentence whose mean rating is nearer to zero is undecided and has no polarity. Fifteen to twenty raters, who differ
by about one (standard deviation), give a mean to about a quarter (standard error); this is twice that."""

SCALE = (-4.0, 4.0)


class Sentence(NamedTuple):
    """A rated sentence. ``name`` and ``review`` are such as "shop/12_3" and "shop/12"; on films, where the ids do not
    tell the review, each sentence counts as its own."""

    name: str
    review: str
    rating: float
    text: str


def read_sentences(kind: str) -> list[Sentence]:
    """Return the sentences of a file of ``FILES``, which is read from the archive in the carrier, in memory."""
    path = package_archive.member(ARCHIVE, MEMBER)
    try:
        with tarfile.open(path) as bundle:
            file = bundle.extractfile(FILES[kind])
            if file is None:
                raise tarfile.TarError(f"{FILES[kind]} is no file")
            content = file.read().decode("utf-8")
        rows = [line.split("\t") for line in content.split("\r\n") if line]
        return [
            Sentence(f"{kind}/{number}", f"{kind}/{number.partition('_')[0]}", float(rating), " ".join(text.split()))
            for number, rating, text in rows
        ]
    except (tarfile.TarError, KeyError, AttributeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): delete it, and it is made again") from error


def load(name: str, limits: Mapping[str, int], seed: int) -> Data:
    """Return one of ``SETS``. Sentences of one review, and sentences of the same words, are in the same split."""
    sentences = [sentence for kind in SETS[name] for sentence in read_sentences(kind)]
    classes: tuple[str, ...] = ()
    if name == "review-ratings":
        notes = ["mean ratings from -4 to 4 of sentences on films and on shop goods"]
        examples = [TextExample(each.name, (each.text,), each.rating) for each in sentences]
    else:
        everything, classes = len(sentences), POLARITY
        sentences = [each for each in sentences if abs(each.rating) >= UNDECIDED]
        examples = [TextExample(each.name, (each.text,), int(each.rating > 0)) for each in sentences]
        notes = [
            f"sentences with a mean rating (-4 to 4) of {UNDECIDED} or more, or {-UNDECIDED} or less; "
            f"{everything - len(sentences):,} undecided ones of {everything:,} left out"
        ]
    notes.append(f"licence {ARCHIVE.licence}")
    notes.append("no review is in two splits" if "shop" in SETS[name] else "no sentence is in two splits")
    splits = split_by_group(examples, [(each.review, words_of(each.text)) for each in sentences], seed)
    return text_data(name, splits, classes=classes, limits=limits, seed=seed, source=ARCHIVE.label, notes=notes)
