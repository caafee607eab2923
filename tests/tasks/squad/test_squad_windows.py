"""Windows on long contexts, and how their predictions become one answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.squad import (
    gold,
    text_of,
    words_in,
)
from zipeft.api.data import Window
from zipeft.metrics.answers import best_f1
from zipeft.objectives.extractive_qa import PADDED, Answers, Origin, Span, Spans
from zipeft.tasks.squad.files import Question
from zipeft.tasks.squad.task import SQuAD


@pytest.mark.parametrize(("max_length", "stride"), [(100, 20), (100, 0), (384, 128)])
def test_windows_cover_the_context_and_overlap(backbone, max_length, stride):
    tokenizer, context = backbone.tokenizer(), text_of(250, seed=1)
    windows = SQuAD(max_length=max_length, stride=stride).windows(backbone)
    every = windows(Question("  Who is it?", context), Answers((), ()))
    asked = tokenizer("Who is it?")["input_ids"]
    before = len(asked) + tokenizer.num_special_tokens_to_add(pair=True) - tokenizer.num_special_tokens_to_add() - 1
    shown, covered = [], set()
    for window in every:
        ids, offsets = window.inputs["input_ids"], window.origin.offsets
        assert set(window.inputs) == set(tokenizer.model_input_names)
        assert {len(part) for part in window.inputs.values()} == {len(offsets)}
        assert ids.dtype == torch.int64
        assert ids[: len(asked)].tolist() == asked
        assert window.target == (0, 0)
        assert window.origin.context is context
        assert (offsets[[*range(before), -1]] == -1).all()
        shown.append(ids[before:-1].tolist())
        assert (offsets[:, 0] < offsets[:, 1])[offsets[:, 0] >= 0].all()  # some tokens are a blank that is left out
        covered |= {at for start, end in offsets.tolist() for at in range(start, end)}
    assert len(every) > 2
    assert {len(window.origin.offsets) for window in every[:-1]} == {max_length}
    # Nothing is lost, and each window shares just the stride with the one before.
    joined = shown[0] + [token for part in shown[1:] for token in part[stride:]]
    assert joined == tokenizer(context, add_special_tokens=False)["input_ids"]
    assert all(character.isspace() or at in covered for at, character in enumerate(context))


@pytest.mark.parametrize("words", [1, 2])
def test_an_answer_is_the_target_of_the_windows_that_hold_it_whole(backbone, words):
    context = text_of(150, seed=2)
    task = SQuAD(max_length=120, stride=48)
    windows, cut, places = task.windows(backbone), 0, words_in(context)
    for (_, start), (last, at) in list(zip(places, places[words - 1 :], strict=False))[::3]:
        text = context[start : at + len(last)]
        holding = 0
        for window in windows(Question("Who is it?", context), Answers((text, "other"), (start, 0))):
            (first, last_token), offsets = window.target, window.origin.offsets
            inside = offsets[offsets[:, 0] >= 0]
            if inside[0, 0] <= start and start + len(text) <= inside[-1, 1]:
                assert (offsets[first, 0], offsets[last_token, 1]) == (start, start + len(text))
                holding += 1
            else:
                assert (first, last_token) == (0, 0)
                cut += inside[0, 0] < start + len(text) and start < inside[-1, 1]
        assert holding
    assert cut > 3  # some answers crossed the border of a window


def test_blanks_around_an_answer_and_parts_of_tokens_are_no_obstacle(backbone):
    context = "It cost 3.2 million dollars, John said, and no more."
    windows = SQuAD().windows(backbone)
    for text, found in ((" John ", "John"), ("2 million", "2 million"), ("ohn sai", "John said")):
        (window,) = windows(Question("Who is it?", context), gold(context, text))
        start, end = window.target
        offsets = window.origin.offsets
        read = context[offsets[start, 0] : offsets[end, 1]]
        assert text.strip() in read
        assert read in found


def test_a_long_question_leaves_room_for_the_context(backbone):
    context = text_of(80)
    asked = "What is the answer to this question? " * 40
    every = SQuAD(max_length=128, stride=56).windows(backbone)(Question(asked, context), gold(context, context[-4:]))
    for window in every:
        assert (window.origin.offsets[:, 0] >= 0).sum() >= 1
    assert 64 < (every[0].origin.offsets[:, 0] >= 0).argmax() <= 64 + 3
    assert every[-1].target != (0, 0)


def oracle(windows, seed=0):
    """Return logits of a model that knows where each window holds the answer."""
    generator, made = np.random.default_rng(seed), []
    for window in windows:
        logits = generator.normal(size=(len(window.origin.offsets) + 7, 2)).astype(np.float32)
        logits[-7:] = PADDED  # batches are padded
        for side, token in enumerate(window.target):
            logits[token, side] += 20
        made.append(logits)
    return made


@pytest.mark.parametrize("unanswerable", [False, True])
def test_a_perfect_model_scores_full_marks(backbone, unanswerable):
    objective = Spans()
    window_of = SQuAD(max_length=120, stride=48).windows(backbone)
    predictions, targets, several = [], [], 0
    for seed, words in enumerate((5, 40, 120)):
        context = text_of(words, seed)
        for number, (word, start) in enumerate(words_in(context)):
            answers = Answers((), ()) if unanswerable and number % 3 == 0 else Answers(("not it", word), (0, start))
            first = answers._replace(texts=answers.texts[1:], starts=answers.starts[1:])
            windows = window_of(Question("Who is it?", context), first)
            several += len(windows) > 2
            predictions.append(objective.merge(windows, oracle(windows, number)))
            targets.append(answers)
            if answers.texts:
                assert context[predictions[-1].start : predictions[-1].end] == predictions[-1].text == word
    assert several > 60
    chosen = objective.choose(predictions, targets)
    assert bool(chosen) == unanswerable
    final = objective.decide(predictions, chosen)
    scores = objective.score(final, targets)
    names = {"f1", "exact_match"} | ({"has_answer_f1", "no_answer_accuracy"} if unanswerable else set())
    assert scores == dict.fromkeys(names, 1.0)
    assert objective.item_scores(final, targets) == [1.0] * len(targets)


def brute_force(windows, logits, n_best, longest):
    """Return the best span and its score, as plainly as it can be said."""
    found = []
    for number, (window, values) in enumerate(zip(windows, logits, strict=True)):
        offsets = window.origin.offsets
        inside = [token for token in range(len(offsets)) if offsets[token, 0] >= 0]
        for count in (n_best, len(inside)):
            starts, ends = (
                sorted(inside, key=lambda token, side=side: (-values[token, side], token))[:count] for side in (0, 1)
            )
            spans = [
                (-float(values[start, 0] + values[end, 1]), number, start, end)
                for start in starts
                for end in ends
                if start <= end < start + longest
            ]
            if spans:
                found += spans
                break
    return min(found, default=None)


@st.composite
def windows_and_logits(draw):
    windows, logits = [], []
    for _ in range(draw(st.integers(1, 3))):
        kinds = draw(st.lists(st.booleans(), min_size=1, max_size=9))
        offsets = np.array([(2 * at, 2 * at + 2) if kind else (-1, -1) for at, kind in enumerate(kinds)], np.int32)
        windows.append(Window(None, (0, 0), Origin("abcdefghijklmnopqrst", offsets)))
        values = draw(st.lists(st.integers(-3, 3), min_size=2 * len(kinds), max_size=2 * len(kinds)))
        logits.append(np.array(values, np.float32).reshape(-1, 2))
    return windows, logits


@given(windows_and_logits(), st.integers(1, 5), st.integers(1, 4))
def test_the_best_span_is_that_of_all_loops(drawn, n_best, longest):
    windows, logits = drawn
    span = Spans(n_best, longest).merge(windows, logits)
    assert span.null == min(float(values[0].sum()) for values in logits)
    best = brute_force(windows, logits, n_best, longest)
    if best is None:
        assert (span.start, span.end, span.text) == (0, 0, "")
    else:
        score, number, start, end = best
        offsets = windows[number].origin.offsets
        assert (span.start, span.end, span.score) == (offsets[start, 0], offsets[end, 1], -score)
        assert span.text == "abcdefghijklmnopqrst"[span.start : span.end]


@pytest.mark.parametrize(("n_best", "text"), [(2, "c"), (3, "ab")])
def test_the_best_span_is_one_of_the_n_best(n_best, text):
    offsets = np.array([(0, 1), (1, 2), (2, 3), (3, 4)], np.int32)
    logits = np.array([(1, -3), (-3, 3), (2, 0), (3, -3)], np.float32)
    window = Window(None, (0, 0), Origin("abcd", offsets))
    assert Spans(n_best).merge([window], [logits]).text == text


@given(st.lists(st.tuples(st.integers(-4, 4), st.sampled_from(["", "a b", "a c", "d"])), min_size=1, max_size=12))
def test_the_threshold_is_the_best_there_is(drawn):
    objective = Spans()
    predictions = [Span(0, 3, "b c", 0.0, float(margin)) for margin, _ in drawn]
    targets = [Answers((text,), (0,)) if text else Answers((), ()) for _, text in drawn]
    chosen = objective.choose(predictions, targets)
    if all(target.texts for target in targets):
        assert chosen == {}
        assert objective.decide(predictions, chosen) == predictions
        return

    def f1(threshold):
        final = [None if prediction.null - prediction.score > threshold else prediction for prediction in predictions]
        return np.mean([best_f1(one.text if one else "", gold.texts) for one, gold in zip(final, targets, strict=True)])

    scores = objective.score(objective.decide(predictions, chosen), targets)
    assert scores["f1"] == pytest.approx(max(f1(threshold) for threshold in np.arange(-5, 5, 0.25)))
    assert scores["f1"] == pytest.approx(f1(chosen["no_answer_threshold"]))
    assert chosen["no_answer_threshold"] not in {prediction.null for prediction in predictions}
    json.dumps(chosen, allow_nan=False)


def test_scores_are_fractions_and_means_over_questions():
    objective = Spans()
    targets = [Answers(("red fox", "fox"), (0, 4)), Answers(("blue whale",), (0,)), Answers((), ()), Answers((), ())]
    predictions = [Span(4, 7, "fox", 1, 0), Span(5, 14, "The whale", 1, 0), None, Span(0, 1, "x", 1, 0)]
    scores = objective.score(predictions, targets)
    assert objective.item_scores(predictions, targets) == pytest.approx([1, 2 / 3, 1, 0])
    assert scores == pytest.approx(
        {"f1": 2 / 3, "exact_match": 1 / 2, "has_answer_f1": 5 / 6, "no_answer_accuracy": 1 / 2}
    )
    assert set(objective.score(predictions[:2], targets[:2])) == {"f1", "exact_match"}


def test_records_hold_no_text():
    objective = Spans()
    kept = [Span(4, 7, "fox", 1.5, 0.5), None, Answers(("red fox", "fox"), (0, 4)), Answers((), ())]
    assert [objective.record(value) for value in kept] == [[4, 7], None, [[0, 7], [4, 7]], []]
    assert json.dumps(list(map(objective.record, kept))) == "[[4, 7], null, [[0, 7], [4, 7]], []]"
