"""From a question to tokens: its prompt, what of it asks, and an option a branch, each with an end."""

from __future__ import annotations

import pytest

from support.toys import registered
from support.vision_language import toy_vlm
from zipeft.errors import UserError
from zipeft.objectives.options import Answer
from zipeft.vqa.question import VisualQuestion
from zipeft.vqa.windows import prompt_ids, windows_of

QUESTION = VisualQuestion("was it good", ("good film", "bad"), name="question 1")


@pytest.fixture
def backbone():
    with registered():
        yield toy_vlm()


def window(backbone, letters=False, most=64):
    (found,) = windows_of(backbone, letters, most)(QUESTION, Answer(1, QUESTION.options))
    return found


def branch(inputs, number):
    return inputs["input_ids"][inputs["branches"] == number].tolist()


@pytest.mark.parametrize(("letters", "options"), [(False, QUESTION.options), (True, ("A", "B"))])
def test_each_option_is_a_branch_that_ends(backbone, letters, options):
    tokenizer, found = backbone.tokenizer(), window(backbone, letters)
    for number, option in enumerate(options, 1):
        own = tokenizer(option, add_special_tokens=False)["input_ids"]
        assert branch(found.inputs, number) == [*own, tokenizer.eos_token_id]
    assert found.inputs["branches"].max() == 2
    assert found.target == 1


@pytest.mark.parametrize("letters", [False, True])
def test_the_prompt_comes_first_as_a_question_that_is_asked_has_it(backbone, letters):
    inputs = window(backbone, letters).inputs
    ids, asking = prompt_ids(backbone.tokenizer(), QUESTION, letters)
    assert branch(inputs, 0) == ids == inputs["input_ids"][: len(ids)].tolist()
    assert ids[0] == backbone.tokenizer().bos_token_id
    assert inputs["question"].tolist() == asking.tolist() + [False] * (len(inputs["input_ids"]) - len(ids))


def test_the_words_of_the_question_are_what_asks(backbone):
    ids, asking = prompt_ids(backbone.tokenizer(), QUESTION, letters=False)
    own = backbone.tokenizer()(QUESTION.question, add_special_tokens=False)["input_ids"]
    assert [token for token, asks in zip(ids, asking.tolist(), strict=True) if asks] == own


def test_a_question_that_is_too_long_is_named(backbone):
    length = len(window(backbone).inputs["input_ids"])
    assert window(backbone, most=length)
    with pytest.raises(UserError, match=f"question 1 has {length} tokens with its options, more than max_length"):
        window(backbone, most=length - 1)
