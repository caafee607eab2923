"""The task of GLUE: its sets in every format, the embedded sets, and the part of them that is taken."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from support.glue import (
    names_of,
    published,
)
from support.pictures import SPLITS, refusal
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.settings import override
from zipeft.registry import tasks
from zipeft.sources.splits import choose
from zipeft.tasks.glue.task import EMBEDDED, GLUE
from zipeft.text.assembly import TextExample, cut_groups, linked, split_by_group, words_of

# --- the task ---------------------------------------------------------------------------------------------------------


def test_it_is_found_by_name():
    assert tasks.get("glue") is GLUE


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task_and_the_protocol(preset):
    chosen = GLUE.presets[preset]
    assert GLUE(**chosen.task).datasets() == EMBEDDED
    assert TrainingProtocol(**chosen.protocol).epochs >= 3
    assert chosen.seeds >= 3


def test_published_means_are_those_of_the_columns():
    assert [len(table.rows) for table in GLUE.published] == [5, 7]
    for table in GLUE.published:
        assert {len(row) for row in table.rows.values()} == {len(table.columns)}
        for method, row in table.rows.items():
            *scores, mean, _ = map(float, row)
            assert np.mean(scores) == pytest.approx(mean, abs=0.06), method


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sets": "movies"}, "no data set 'movies' embedded"),
        ({"sets": "claim"}, "did you mean 'claims'? (there: movie-sentiment, shop-sentiment, review-ratings, claims)"),
        ({"sets": "SST2"}, "name its folder with --data-dir, or get it with --set glue.source=hub"),
        ({"sets": "sst-3", "source": "hub"}, "no data set 'sst-3' on the hub; did you mean 'sst-2'?"),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
        ({"source": "hub", "data_dir": "/data"}, "source is hub and data_dir is set: drop one"),
        ({"source": "web"}, "'web' is not one of"),
        ({"max_length": "7"}, "max_length is 7: give 8 tokens or more"),
        ({"train_examples": "-1"}, "train_examples is -1"),
        ({"test_examples": "-2"}, "test_examples is -2"),
        ({"split_seed": "-1"}, "split_seed is -1"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(lambda: override(GLUE, values).datasets())


def test_where_the_data_lie_is_no_part_of_a_result():
    assert {"data_dir", "source", "sets"} == set(GLUE.unrecorded)


@pytest.mark.parametrize(
    ("datasets", "scores"),
    [
        ("cola CoLA", ["matthews"]),
        ("mrpc qqp", ["accuracy", "f1"]),
        ("sts-b review-ratings", ["pearson", "spearman"]),
        ("sst-2 mnli qnli rte wnli movie-sentiment shop-sentiment claims", ["accuracy"]),
    ],
)
def test_each_set_is_scored_as_in_the_literature(datasets, scores):
    for dataset in datasets.split():
        objective = GLUE().objective(dataset, ())
        assert list(objective.score([0, 1, 1, 0], [0, 1, 0, 0])) == scores
        assert objective.metric == scores[0]


def test_ratings_are_learnt_on_their_scale():
    scales = {
        name: (GLUE().objective(name, ()).low, GLUE().objective(name, ()).high) for name in ("sts-b", "review-ratings")
    }
    assert scales == {"sts-b": (0, 5), "review-ratings": (-4, 4)}


# --- the part that is taken -------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=80), st.integers(0, 90), st.integers(0, 5))
def test_a_choice_has_the_shares_of_all(labels, count, seed):
    chosen = choose(labels, count, seed)
    expected = count if 0 < count < len(labels) else len(labels)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == expected
    assert choose(labels, count, seed) == chosen
    assert set(choose(labels, max(count // 2, 1), seed)) <= set(chosen)
    for label, of_all in Counter(labels).items():
        share = of_all * expected / len(labels)
        assert abs(sum(labels[index] == label for index in chosen) - share) < 2


def test_another_seed_is_another_choice():
    assert len({tuple(choose(["any"] * 100, 10, seed)) for seed in range(5)}) == 5


def test_examples_are_limited_by_split(tmp_path):
    folder = published(tmp_path, "mrpc", train=400, dev=100)
    whole = GLUE(data_dir=folder).load("mrpc")
    limits = {"train_examples": 100, "validation_examples": 10, "test_examples": 30}
    data = GLUE(data_dir=folder, **limits).load("mrpc")
    assert {split: len(names) for split, names in names_of(data).items()} == {
        "train": 100,
        "validation": 10,
        "test": 30,
    }
    assert all(set(names_of(data)[split]) < set(names_of(whole)[split]) for split in SPLITS)
    assert Counter(data.train.targets) == {0: 50, 1: 50}
    assert "100 of 360 train, 10 of 40 validation, 30 of 100 test, the part chosen by class with seed 0" in data.note
    assert "the part" not in whole.note
    assert names_of(GLUE(data_dir=folder, **limits).load("mrpc")) == names_of(data)
    assert data.checksum != whole.checksum
    assert names_of(GLUE(data_dir=folder, **limits, split_seed=3).load("mrpc"))["test"] != names_of(data)["test"]


def test_a_scored_set_is_limited_too(tmp_path):
    data = GLUE(data_dir=published(tmp_path, "sts-b", train=100), train_examples=20).load("sts-b")
    assert len(data.train) == 20
    assert "20 of 90 train, 10 validation, 12 test, the part chosen with seed 0" in data.note


# --- groups -----------------------------------------------------------------------------------------------------------


def test_chains_of_shared_keys_make_a_group():
    groups = linked([("a", 1), ("b", 2), ("b", 3), ("c", 3), ("d", 4), ()])
    assert groups[1] == groups[2] == groups[3]
    assert len(set(groups)) == 4


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(100, 140)), min_size=30, max_size=120), st.integers(0, 3))
def test_no_key_is_in_two_splits(keys, seed):
    examples = [TextExample(f"{index}", ("x",), 0) for index in range(len(keys))]
    splits = split_by_group(examples, keys, seed)
    found = {split: {key for each in some for key in keys[int(each.name)]} for split, some in splits.items()}
    assert sorted(int(each.name) for some in splits.values() for each in some) == list(range(len(keys)))
    assert not found["train"] & found["test"]
    assert not found["validation"] & (found["train"] | found["test"])
    assert split_by_group(examples, keys, seed + 1)["test"] == splits["test"]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.floats(0, 1), st.integers(0, 3))
def test_whole_groups_are_cut_off(groups, fraction, seed):
    stay, taken = cut_groups(groups, fraction, seed)
    assert sorted(stay + taken) == list(range(len(groups)))
    assert not {groups[index] for index in stay} & {groups[index] for index in taken}
    assert len(taken) <= math.ceil(fraction * len(groups))
    assert cut_groups(groups, fraction, seed) == (stay, taken)


def test_single_examples_fill_the_fraction():
    stay, taken = cut_groups(range(1000), 0.2, 0)
    assert (len(stay), len(taken)) == (800, 200)
    assert taken != cut_groups(range(1000), 0.2, 1)[1]


def test_texts_are_compared_by_their_words():
    assert words_of("What a  disappointment!") == words_of("what a disappointment")
    assert words_of("...") != words_of("!")


# --- inputs -----------------------------------------------------------------------------------------------------------


class StubBackbone:
    """A tokenizer of single words, and a limit of tokens."""

    def __init__(self, limit=32):
        vocabulary = {word: index for index, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghij"])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
        inputs = ["input_ids", "attention_mask"]
        self.fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", model_input_names=inputs)
        self.limit = limit

    def tokenizer(self):
        return self.fast

    def max_length(self):
        return self.limit


def test_texts_become_tokens_no_longer_than_allowed():
    encode = GLUE(max_length=8).encoder(StubBackbone())
    single, pair = encode(("a b c",)), encode(("a b c d e f g h", "i j"))
    assert single["input_ids"].tolist() == [1, 4, 5, 6, 2]
    assert single["attention_mask"].tolist() == [1] * 5
    assert pair["input_ids"].tolist() == [1, 4, 5, 6, 2, 12, 13, 2]  # the longer of two is cut
    assert set(single) == set(pair) == {"input_ids", "attention_mask"}
    assert encode(("a b c d e f g h",))["input_ids"].tolist() == [1, 4, 5, 6, 7, 8, 9, 2]


def test_more_tokens_than_the_backbone_takes_are_refused():
    assert "max_length is 33, but the backbone takes 32 tokens" in refusal(GLUE(max_length=33).encoder, StubBackbone())
    GLUE(max_length=32).encoder(StubBackbone())
