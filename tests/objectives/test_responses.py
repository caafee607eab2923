"""Responses to instructions: their log-probabilities, loss and scores, against other ways to compute them."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from support.toys import ToyDecoder
from zipeft.api.data import NO_LABEL, Split, Window
from zipeft.api.learner import Learner
from zipeft.doctor.self_test import accelerated
from zipeft.metrics.rouge import rouge_l
from zipeft.objectives.responses import Response, Responses
from zipeft.training.dataset import encode
from zipeft.training.evaluation import Evaluator

BACKBONE = ToyDecoder()
MODEL = BACKBONE.build().double().requires_grad_(False)


def window(length: int, answer: int, seed: int = 0) -> dict[str, Tensor]:
    """Random tokens, of which the last few are a response."""
    ids = torch.randint(3, 14, (length,), generator=torch.Generator().manual_seed(seed))
    labels = torch.where(torch.arange(length) < length - answer, NO_LABEL, ids)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


WINDOWS = [window(9, 3), window(5, 1, 1), window(12, 6, 2), window(7, 5, 3)]


def reference(inputs: dict[str, Tensor]) -> Tensor:
    """The log-probabilities of a response's tokens, one after the other, from all logits of one window alone."""
    logits = MODEL(inputs["input_ids"][None]).logits[0].log_softmax(-1)
    ids, labels = inputs["input_ids"].tolist(), inputs["labels"].tolist()
    return torch.stack([logits[at - 1, ids[at]] for at in range(1, len(ids)) if labels[at] != NO_LABEL])


def test_log_probs_of_a_padded_batch_are_those_of_each_window_alone():
    outputs = BACKBONE.log_probs(MODEL, BACKBONE.collate(WINDOWS))
    assert outputs.shape == (4, 12)
    for row, inputs in zip(outputs, WINDOWS, strict=True):
        torch.testing.assert_close(row[row <= 0].double(), reference(inputs), rtol=1e-5, atol=1e-6)


def test_only_labelled_tokens_have_logits(monkeypatch):
    seen = []
    compute = ToyDecoder.logits
    monkeypatch.setattr(ToyDecoder, "logits", lambda self, model, x: seen.append(len(x)) or compute(self, model, x))
    BACKBONE.log_probs(MODEL, BACKBONE.collate(WINDOWS))
    assert seen == [3 + 1 + 6 + 5]


def test_the_loss_is_the_mean_over_responses_of_the_mean_over_their_tokens():
    loss = Responses().loss(BACKBONE.log_probs(MODEL, BACKBONE.collate(WINDOWS)), None)
    alone = [-reference(inputs).mean() for inputs in WINDOWS]
    torch.testing.assert_close(loss.double(), torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_all_logits():
    model = ToyDecoder().build()
    inputs = BACKBONE.collate(WINDOWS[:1])
    Responses().loss(BACKBONE.log_probs(model, inputs), None).backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    logits = model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    functional.cross_entropy(logits[0, :-1], inputs["labels"][0, 1:], ignore_index=NO_LABEL).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_prompts_are_what_stands_before_the_response_padded_on_the_left():
    prompts = BACKBONE.prompt_ids(BACKBONE.collate(WINDOWS))
    assert prompts["input_ids"].shape == (4, 6)
    for ids, mask, inputs in zip(prompts["input_ids"], prompts["attention_mask"], WINDOWS, strict=True):
        length = int((inputs["labels"] == NO_LABEL).sum())
        assert mask.tolist() == [0] * (6 - length) + [1] * length
        assert ids[-length:].tolist() == inputs["input_ids"][:length].tolist()


def test_test_examples_are_answered_too_and_validation_examples_are_not(monkeypatch):
    asked = []

    def generate(self, model, prompts, max_new_tokens):
        asked.append(max_new_tokens)
        return [[4, 6]] * len(prompts["input_ids"])

    monkeypatch.setattr(ToyDecoder, "generate", generate)
    objective = Responses(max_new_tokens=7)
    references = [("good so",), ("y",), ("z", "Good so."), ("w",)]
    split = Split(WINDOWS, references, [*"abcd"])
    data = encode(split, lambda inputs, target: [Window(inputs, 0)], BACKBONE)
    learner = Learner(BACKBONE, MODEL, nn.Identity(), objective.read)
    evaluator = Evaluator(objective, Accelerator(cpu=True))
    before = evaluator.validate(learner, data)
    assert asked == []
    assert "rouge_l" not in before
    scores, predictions = evaluator.test(learner, data)
    assert asked == [7]
    assert [each.answer for each in predictions] == ["good so"] * 4
    assert {name: scores[name] for name in before} == before
    assert scores["exact_match"] == 0.5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_answers_are_generated_in_the_precision_of_training(precision, monkeypatch):
    computed, generate, model = [], ToyDecoder.generate, BACKBONE.build()

    def spy(self, model, prompts, max_new_tokens):
        computed.append((prompts, model(**prompts).logits))
        return generate(self, model, prompts, max_new_tokens)

    monkeypatch.setattr(ToyDecoder, "generate", spy)
    data = encode(Split(WINDOWS, [("y",)] * 4, [*"abcd"]), lambda inputs, target: [Window(inputs, 0)], BACKBONE)
    objective = Responses(max_new_tokens=2)
    with accelerated(torch.device("cpu"), precision) as accelerator:
        Evaluator(objective, accelerator).test(Learner(BACKBONE, model, nn.Identity(), objective.read), data)
    ((prompts, logits),) = computed
    assert logits.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    if precision == "fp32":  # to the last bit
        with torch.no_grad():
            assert torch.equal(logits, model(**prompts).logits)


def test_generated_tokens_become_answers():
    responses = [Response(-1.0, 1)] * 4
    answered = Responses().with_generated(responses, [[4, 6], [], [5], [3]], BACKBONE)
    assert [each.answer for each in answered] == ["good so", "", "bad", ""]  # an unknown token is a special one
    assert [each._replace(answer=None) for each in answered] == responses


def test_scores_of_probabilities_are_those_computed_by_hand():
    responses = [Response(math.log(0.25), 1), Response(3 * math.log(0.5), 3)]
    scores = Responses().score(responses, [("a",), ("b",)])
    assert scores["answer_probability"] == pytest.approx((0.25 + 0.5) / 2)
    assert scores["loss"] == pytest.approx(-(math.log(0.25) + 3 * math.log(0.5)) / 4)
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert Responses().item_scores(responses, [("a",), ("b",)]) == pytest.approx([0.25, 0.5])


def test_no_text_is_on_record():
    objective = Responses()
    kept = objective.record(Response(-1.25, 3, "a secret")), objective.record(("a secret", "another"))
    assert "secret" not in str(kept)
    assert kept[0][:2] == [-1.25, 3]
    assert kept[0][2] == kept[1][0] != kept[1][1]


def test_answers_without_a_token_are_refused():
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        Responses(max_new_tokens=0)


# --- ROUGE-L ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("police kill the gunman", "police killed the gunman", 0.75),  # the examples of Lin 2004, section 3.1
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("gunman the killed police", "police killed the gunman", 0.25),
        ("Yes.", "yes", 1.0),
        ("", "yes", 0.0),
        ("", "", 1.0),
        ("one two", "one two three four", 2 * 1 * 0.5 / 1.5),
        ("да нет", "да", 2 / 3),
        ("Столица страны Париж, 1999", "Собака бежит в парк 1999", 2 / 9),
        ("こんにちはAI", "さようならAI", 2 / 12),
        ("北京", "北京 2008", 2 / 3),
        ("café", "caf", 0),
        ("naïve", "na ve", 0),
        ("今天天气很好", "今天天气不好", 10 / 12),  # by characters
        ("今天 天气很好", "今天天气很好", 1),
        ("我去了北京 2008", "北京 2008 很热", 2 * 3 / (6 + 5)),
        ("Café au lait.", "café AU LAIT", 1),
        ("café", "cafe\u0301", 1),  # a letter and its mark are that letter
        ("हिन्दी की", "हिन्दी का", 0.5),  # marks that stand alone are parts of words
        ("ÜBER alles", "über alles!", 1),
        ("Straße", "STRASSE", 1),
        ("안녕 세계", "안녕 나라", 0.5),
        ("٣ ٤", "٣ ٥", 0.5),  # noqa: RUF001
        ("สวัสดี", "สวัสดี", 1),
        ("ok, да", "ok, нет", 0.5),
        ("yes", "да", 0),
        ("“yes”, it is", "yes it is", 1),  # signs are no letters
        ("snake_case", "snake case", 1),
        ("+", "-", 0),
    ],
)
def test_rouge_l_of_texts(answer, reference, expected):
    assert rouge_l(answer, reference) == pytest.approx(expected)
    assert rouge_l(reference, answer) == pytest.approx(expected)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_the_longest_common_subsequence_is_the_one_by_its_definition(one, other):
    @lru_cache(None)
    def longest(at: int, there: int) -> int:
        if not (at and there):
            return 0
        if one[at - 1] == other[there - 1]:
            return 1 + longest(at - 1, there - 1)
        return max(longest(at - 1, there), longest(at, there - 1))

    if one and other:
        expected = 2 * longest(len(one), len(other)) / (len(one) + len(other))
        assert rouge_l(" ".join(one), " ".join(other)) == pytest.approx(expected)
