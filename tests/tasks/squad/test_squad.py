"""Extractive question answering: files, splits, windows, how windows are read back, and what is learnt."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from support.pictures import SPLITS, refusal
from support.squad import (
    contexts_of,
    everything,
    gold,
    squad_json,
    text_of,
    write,
)
from support.toys import split_of
from zipeft.api.settings import override
from zipeft.objectives.extractive_qa import PADDED, Span, SpanHead, Spans
from zipeft.tasks.squad.files import Question
from zipeft.tasks.squad.task import SHIFTED, SQuAD

# --- the task ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task(preset):
    chosen = SQuAD.presets[preset]
    task = SQuAD(**chosen.task)
    assert task.datasets() == ("squad-dev",)
    assert chosen.seeds >= 3
    assert not chosen.methods or {"full", "linear", "zero_gated", "prompt", "zero_gated_random"} <= set(chosen.methods)


def test_presets_grow():
    tasks = [SQuAD(**SQuAD.presets[name].task) for name in ("quick", "standard", "paper")]
    sizes = [(task.train_questions or math.inf, task.test_questions or math.inf, task.max_length) for task in tasks]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert {"bitfit", "lora", "prefix"} <= set(SQuAD.presets["standard"].methods)
    assert SQuAD.presets["standard"].protocol["trials"] > 0


def test_published_rows_have_a_value_a_column():
    (table,) = SQuAD.published
    assert {len(row) for row in table.rows.values()} == {len(table.columns)} == {4}
    assert table.rows["Zero-init"][table.columns.index("2.0 F1")] == "87.2"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_length": "128", "stride": "64"}, "72 tokens or more between them"),
        ({"stride": "-1"}, "stride is -1"),
        ({"n_best": "0"}, "n_best is 0"),
        ({"max_answer_length": "0"}, "max_answer_length is 0"),
        ({"test_questions": "-5"}, "test_questions is -5"),
        ({"split_seed": "-1"}, "split_seed is -1"),
        ({"shifted": "new_wiki,nyc"}, "shifted has 'nyc'; did you mean 'nyt'?"),
        ({"source": "hub", "data_dir": "/tmp"}, "drop one"),
        ({"source": "hup"}, "did you mean 'hub'"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(override, SQuAD, values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sets": "squad-v1.1"}, "no data set 'squad-v1.1' embedded; name its folder with --data-dir, or get it with"),
        (
            {"source": "hub", "sets": "squad-v1"},
            "on the hub; did you mean 'squad-v1.1'? (there: squad-v1.1, squad-v2.0)",
        ),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
    ],
)
def test_unknown_sets_are_refused(values, said):
    assert said in refusal(override(SQuAD, values).datasets)


def test_windows_have_to_fit_the_backbone(backbone):
    assert "the backbone takes 512 tokens" in refusal(SQuAD(max_length=513).windows, backbone)


# --- what is learnt ---------------------------------------------------------------------------------------------------


def test_padding_changes_neither_loss_nor_gradient_nor_prediction():
    torch.manual_seed(0)
    objective, tokens = Spans(), [torch.randn(length, 8, dtype=torch.float64) for length in (5, 9, 3)]
    targets = [torch.tensor([1, 8, 0]), torch.tensor([4, 8, 0])]
    head = objective.head(("start", "end"), 8).double()
    assert isinstance(head, SpanHead)

    def run(batch, chosen):
        head.zero_grad()
        outputs = head(batch)
        loss = objective.loss(outputs, [part[chosen] for part in targets])
        loss.backward()
        return loss.item(), head.weight.grad.clone(), objective.predict(outputs)

    padded = pad_sequence([*tokens, torch.zeros(20, 8, dtype=torch.float64)], batch_first=True)[:3]
    loss, gradient, predictions = run(padded, slice(None))
    alone = [run(part[None], slice(index, index + 1)) for index, part in enumerate(tokens)]
    assert loss == pytest.approx(np.mean([each[0] for each in alone]), abs=1e-12)
    torch.testing.assert_close(gradient, sum(each[1] for each in alone) / 3)
    by_hand = [
        -torch.log_softmax(part @ head.weight[side] + head.bias[side], 0)[targets[side][index]].item()
        for index, part in enumerate(tokens)
        for side in (0, 1)
    ]
    assert loss == pytest.approx(np.mean(by_hand), abs=1e-12)
    for part, prediction, (_, _, (single,)) in zip(tokens, predictions, alone, strict=True):
        assert prediction.dtype == np.float32
        assert prediction[: len(part)] == pytest.approx(single, abs=1e-5)
        assert (prediction[len(part) :] == PADDED).all()


def test_a_head_learns_to_find_a_name(backbone):
    """On one vector a token, the head can learn that the answer is a certain word, wherever it stands."""
    torch.manual_seed(0)
    tokenizer, objective, rng = backbone.tokenizer(), Spans(), random.Random(0)
    embedding = torch.randn(len(tokenizer), 64)
    window_of = SQuAD(max_length=100, stride=24).windows(backbone)

    def examples(count, seed):
        for number in range(count):
            words = text_of(30, seed + number).split(" ")
            words.insert(rng.randrange(1, len(words)), "zorro")
            context = " ".join(words)
            answers = gold(context, "zorro")
            yield window_of(Question("Who is it?", context), answers), answers

    def tokens(windows):
        return pad_sequence([embedding[window.inputs["input_ids"]] for window in windows], batch_first=True)

    head = objective.head(("start", "end"), 64)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    windows = [window for found, _ in examples(12, 0) for window in found]
    targets = [torch.tensor([window.target[side] for window in windows]) for side in (0, 1)]
    for _ in range(60):
        optimizer.zero_grad()
        objective.loss(head(tokens(windows)), targets).backward()
        optimizer.step()
    new = list(examples(12, 500))
    predictions = [objective.merge(found, objective.predict(head(tokens(found)))) for found, _ in new]
    assert max(len(found) for found, _ in new) > 1
    assert objective.score(predictions, [answers for _, answers in new])["exact_match"] >= 0.9


# --- the embedded set -------------------------------------------------------------------------------------------------


def trivial_scores(split):
    """Return the mean F1 of answers that look at no question, for comparison with what is learnt on a split."""
    objective = Spans()
    answers = {
        "first five words": lambda context: " ".join(context.split()[:5]),
        "first sentence": lambda context: re.split(r"(?<=[.!?])\s", context, maxsplit=1)[0],
        "whole context": lambda context: context,
    }
    return {
        name: objective.score(
            [Span(0, 0, answer(example.context), 0.0, 0.0) for example in split.examples], split.targets
        )["f1"]
        for name, answer in answers.items()
    }


@pytest.fixture
def carrier(tmp_path, monkeypatch):
    """Let small files stand in for those of the carrier; an answer of each is misplaced."""

    def benchmark_file(path):
        start = 1000 * sum(map(ord, path))
        content = squad_json(articles=10, start=start)
        content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += 1
        return write(tmp_path / path, content)

    monkeypatch.setattr("zipeft.tasks.squad.sets.benchmark_files", lambda *paths: list(map(benchmark_file, paths)))


def test_the_embedded_set_is_tested_on_other_domains_too(carrier):
    data = SQuAD(shifted_questions=7).load("squad-dev")
    assert [len(split_of(data, split)) for split in SPLITS] == [36, 12, 12]
    assert {name: len(split) for name, split in data.shifted.items()} == dict.fromkeys(SHIFTED, 7)
    assert "other domains: 7 of 60 new_wiki, 7 of 60 nyt, 7 of 60 reddit, 7 of 60 amazon; parts chosen" in data.note
    assert "1 in squaddev_v1.1.json, 1 in new_wiki_v1.0.json" in data.note
    assert data.source == "carrier bigbench 1.0.0"
    fewer = SQuAD(shifted=("reddit",)).load("squad-dev")
    assert {name: len(split) for name, split in fewer.shifted.items()} == {"reddit": 60}
    assert everything(fewer) == everything(data)
    assert not SQuAD(shifted=()).load("squad-dev").shifted


@pytest.mark.slow
def test_the_embedded_set_is_the_development_set_split_by_article():
    data = SQuAD().load("squad-dev")
    parts = {split: split_of(data, split) for split in SPLITS}
    assert sum(map(len, parts.values())) == 10_565
    contexts = contexts_of(data)
    assert sum(map(len, contexts.values())) == len(set.union(*contexts.values())) == 2_067
    assert data.note.startswith(
        "the development set of SQuAD v1.1; 10,565 questions in 48 articles, split 60/20/20 by article with seed 0"
    )
    assert {name: len(split) for name, split in data.shifted.items()} == {
        "new_wiki": 7_936,
        "nyt": 10_056,
        "reddit": 9_767,
        "amazon": 9_877,
    }
    for part in parts.values():
        for example, answers in zip(part.examples, part.targets, strict=True):
            assert answers.texts
            for text, start in zip(answers.texts, answers.starts, strict=True):
                assert example.context.startswith(text, start)
    assert "15 in squaddev_v1.1.json, 8 in new_wiki_v1.0.json" in data.note
    assert "on contexts that" not in data.note
    assert max(trivial_scores(parts["test"]).values()) < 0.15
