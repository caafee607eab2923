"""GLUE's embedded sets: reviews, ratings and claims."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from support.glue import (
    contents,
    names_of,
    write,
)
from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.errors import UserError
from zipeft.sources import package_archive
from zipeft.tasks import bigbench_archive
from zipeft.tasks.glue import claims as _claims
from zipeft.tasks.glue import reviews
from zipeft.tasks.glue.task import EMBEDDED, GLUE
from zipeft.text.assembly import words_of
from zipeft.text.tables import read_table


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Let small files stand in for those of the carriers; return a function that changes the archive of reviews."""
    movies = [(f"{index}", (index % 9 - 4) * 0.9, f"Film number {index}; no more ½.") for index in range(90)]
    movies += [("91", 0.5, "Just so."), ("92", 0.49, "Not quite."), ("93", -0.5, "just   so"), ("94", 2, "JUST so!")]
    shop = [(f"{review}_{at}", review % 5 - 1.9, f"good {review} at {at}") for review in range(20) for at in range(5)]
    shop += [("20_1", 1, "Well worth it."), ("3_9", 1, "well worth it")]
    archive = tmp_path / "reviews.tar.gz"

    def pack(**texts):
        with tarfile.open(archive, "w:gz") as bundle:
            for kind, lines in {"movie": movies, "shop": shop, **texts}.items():
                text = lines if isinstance(lines, str) else "".join("\t".join(map(str, row)) + "\r\n" for row in lines)
                info = tarfile.TarInfo(reviews.FILES[kind])
                info.size = len(text.encode())
                bundle.addfile(info, io.BytesIO(text.encode()))

    examples = []
    for page in range(30):
        for quote, label in enumerate(_claims.CLASSES):
            title, said = f"Page {page} -LRB-a film-COLON- b-RRB-", f"quote {page % 28}: {quote} of ``it''"
            scores = {name: int(name == label) for name in _claims.CLASSES}
            examples.append({"input": f"{title}: {said}\nClaim: claim {page} {quote}", "target_scores": scores})
    claims = write(tmp_path / "task.json", json.dumps({"examples": examples}))
    pack()
    monkeypatch.setattr(package_archive, "member", lambda carrier, path: archive)
    monkeypatch.setattr(bigbench_archive, "benchmark_files", lambda path: [claims])
    return pack


def test_a_polarity_is_a_rating_far_enough_from_zero(stand_ins):
    ratings = {each.name: each.rating for each in reviews.read_sentences("movie")}
    data = GLUE().load("movie-sentiment")
    named = {name: target for split in SPLITS for name, target in zip(*both(data, split), strict=True)}
    assert named == {name: int(rating > 0) for name, rating in ratings.items() if abs(rating) >= 0.5}
    assert named["movie/91"] == 1
    assert named["movie/93"] == 0
    assert list(data.classes) == ["negative", "positive"]
    assert data.source == "carrier vaderSentiment 3.3.2"
    assert "11 undecided ones of 94 left out" in data.note


def both(data, split):
    part = split_of(data, split)
    return part.names, part.targets


def test_ratings_are_those_of_all_sentences(stand_ins):
    data = GLUE().load("review-ratings")
    ratings = {each.name: each.rating for kind in ("movie", "shop") for each in reviews.read_sentences(kind)}
    assert {name: target for split in SPLITS for name, target in zip(*both(data, split), strict=True)} == ratings
    assert len(ratings) == 94 + 102
    assert not data.classes


@pytest.mark.parametrize("name", ["movie-sentiment", "shop-sentiment", "review-ratings"])
def test_no_review_and_no_sentence_is_in_two_splits(stand_ins, name):
    data = GLUE().load(name)
    seen = {}
    for split in SPLITS:
        part = split_of(data, split)
        assert len(part)
        for key in [words_of(text) for (text,) in part.examples] + [key.partition("_")[0] for key in part.names]:
            assert seen.setdefault(key, split) == split
    where = {name: split for split in SPLITS for name in names_of(data)[split]}
    if name != "shop-sentiment":
        assert where["movie/91"] == where["movie/93"] == where["movie/94"]
    if name != "movie-sentiment":
        assert len({where[each] for each in where if re.match(r"shop/(3|20)_", each)}) == 1


def test_claims_are_parsed_and_no_page_or_quote_is_in_two_splits(stand_ins):
    data = GLUE().load("claims")
    seen = {}
    for split in SPLITS:
        for (quote, claim), target in contents(data)[split]:
            page, said = re.fullmatch(r"(Page \d+ \(a film: b\)): (quote \d+: \d of \"it\")", quote).groups()
            assert claim == f"claim {page.split()[1]} {said.split()[2]}"
            assert target == int(said.split()[2])
            assert seen.setdefault(page, split) == split
            assert seen.setdefault(said, split) == split
    assert sum(len(split_of(data, split)) for split in SPLITS) == 90
    assert data.classes == ["True", "False", "Neither"]
    assert "canary" in data.note
    assert "Apache-2.0" in data.note


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_test_data_are_the_same_for_every_seed(stand_ins, name):
    data, again, other = GLUE().load(name), GLUE().load(name), GLUE(split_seed=1).load(name)
    assert names_of(data) == names_of(again)
    assert data.checksum == again.checksum != other.checksum
    assert names_of(data)["test"] == names_of(other)["test"]
    assert names_of(data)["validation"] != names_of(other)["validation"]


@pytest.mark.parametrize("text", ["1\t2\n", "1\tmuch\ttext\r\n", "no tabs"])
def test_a_damaged_carrier_is_named(stand_ins, text):
    stand_ins(movie=text)
    assert "reviews.tar.gz is damaged" in refusal(GLUE().load, "movie-sentiment")
    write(Path(package_archive.member(None, "")), b"no archive")
    assert "reviews.tar.gz is damaged" in refusal(GLUE().load, "shop-sentiment")
    write(bigbench_archive.benchmark_files("")[0], '{"examples": [{"input": "x"}]}')
    assert "task.json is damaged" in refusal(GLUE().load, "claims")


REAL = {
    "movie-sentiment": ([7252, 806, 2014], "14d7a21d065d6c23"),
    "shop-sentiment": ([2149, 239, 597], "7ee50840933232f0"),
    "review-ratings": ([10305, 1145, 2863], "2ff97f21725ee5ab"),
    "claims": ([41734, 2000, 10934], "dc61041e19060cdf"),
}
"""How many examples each split has, and the start of the checksum."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_the_real_sets_are_as_they_were(name):
    data = GLUE().load(name)
    sizes, checksum = REAL[name]
    assert [len(split_of(data, split)) for split in SPLITS] == sizes
    assert data.checksum.startswith(checksum)
    assert all(text.strip() for split in SPLITS for texts in split_of(data, split).examples for text in texts)
    if data.classes:
        shares = [np.bincount(split_of(data, split).targets) / len(split_of(data, split)) for split in SPLITS]
        assert np.ptp(shares, axis=0).max() < 0.06  # reviews are long and few


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_no_real_text_is_in_two_splits(name):
    data, seen = GLUE().load(name), {}
    for split in SPLITS:
        part = split_of(data, split)
        for key, texts in zip(part.names, part.examples, strict=True):
            keys = [words_of(text) for text in texts]
            if name == "claims":  # the page, too
                keys.append(("page", texts[0].partition(": ")[0]))
            else:
                keys.append(key.partition("_")[0])
            for each in keys:
                assert seen.setdefault(each, split) == split, each


@pytest.mark.slow
def test_the_real_files_are_what_their_readme_says():
    movies, shop = (reviews.read_sentences(kind) for kind in ("movie", "shop"))
    assert (len(movies), len(shop)) == (10605, 3708)
    assert len({each.review for each in shop}) == 300
    for each in (*movies, *shop):
        assert -4 <= each.rating <= 4
        assert each.text
    claims = _claims.read_claims()
    assert Counter(each.label for each in claims) == {"True": 27242, "False": 20169, "Neither": 7257}
    assert len({each.page for each in claims}) == 3068
    assert not any("-LRB-" in text or "-COLON-" in text or not text for each in claims for text in each)


def test_evaluation_refuses_a_folder_beside_the_hub(tmp_path):
    from zipeft.commands.evaluate import _with_data_dir
    from zipeft.tasks.glue.task import GLUE

    with pytest.raises(UserError, match=r"--data-dir .*: source is hub and data_dir is set: drop one"):
        _with_data_dir(GLUE(source="hub"), tmp_path)
    assert _with_data_dir(GLUE(), tmp_path).data_dir == tmp_path


@pytest.mark.parametrize("suffix", ["tsv", "csv", "json", "jsonl", "parquet"])
def test_a_pointer_of_git_lfs_in_place_of_a_table_is_named(tmp_path, suffix):
    path = tmp_path / f"train.{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(UserError, match="is a pointer of Git LFS and not the file itself: run git lfs pull"):
        read_table(path, [("sentence",)])
