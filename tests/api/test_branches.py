"""Options as branches of one sequence: the same as each option behind a question of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from support.toys import ToyDecoder, registered
from support.vision_language import METHODS, batch_of, item, toy_vlm, trained
from zipeft import registry
from zipeft.api import branches
from zipeft.api.data import NO_LABEL
from zipeft.api.predicted import with_places

INPUTS = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
    "branches": torch.tensor([[0, 0, 1, 2, 2, 3], [0, 1, 2, 0, 0, 0]]),
}


@dataclass(frozen=True)
class Apart(ToyDecoder):
    """A decoder that does not heed branches."""

    takes_branches: ClassVar[bool] = False


@pytest.fixture(autouse=True)
def toys():
    registry.backbones.register("toy_apart", Apart)
    try:
        with registered():
            yield
    finally:
        registry.backbones.unregister("toy_apart")


def test_a_token_sees_the_question_and_what_stands_before_it_in_its_own_branch():
    seen = branches.visible(INPUTS["branches"], INPUTS["attention_mask"])
    assert [row.nonzero().flatten().tolist() for row in seen[0]] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 3, 4], [0, 1, 5],
    ]  # fmt: skip
    assert [row.nonzero().flatten().tolist() for row in seen[1]][:3] == [[0], [0, 1], [0, 2]]


def test_a_masked_token_is_seen_by_itself_alone():
    mask = torch.tensor([[1, 0, 1, 1, 1, 1]])
    seen = branches.visible(INPUTS["branches"][:1], mask)[0]
    assert seen[:, 1].nonzero().flatten().tolist() == [1]


def test_the_first_token_of_an_option_is_predicted_by_the_last_of_the_question():
    before, labelled = branches.predictors(INPUTS["branches"])
    assert labelled.tolist() == (INPUTS["branches"] > 0).tolist()
    assert before.tolist() == [1, 1, 3, 1, 0, 0]


def test_options_apart_stand_each_behind_its_question():
    rows, places = branches.apart(INPUTS)
    assert places.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    real = [ids[mask > 0].tolist() for ids, mask in zip(rows["input_ids"], rows["attention_mask"], strict=True)]
    assert real == [[5, 6, 7], [5, 6, 8, 9], [5, 6, 10], [11, 12], [11, 13]]
    labelled = [labels[labels != NO_LABEL].tolist() for labels in rows["labels"]]
    assert labelled == [[7], [8, 9], [10], [12], [13]]
    assert "branches" not in rows


def test_what_an_example_holds_beside_tokens_goes_with_each_of_its_options():
    rows, _ = branches.apart({**INPUTS, "image": torch.tensor([[1.0], [2.0]])})
    assert rows["image"].flatten().tolist() == [1, 1, 1, 2, 2]


def test_values_of_rows_come_back_as_a_table_in_which_one_marks_what_is_lacking():
    _, places = branches.apart(INPUTS)
    table = branches.in_places(-torch.arange(5.0), places, INPUTS["branches"])
    assert table.tolist() == [[0, -1, -2], [-3, -4, 1]]


def test_sums_are_those_of_each_options_tokens():
    _, labelled = branches.predictors(INPUTS["branches"])
    logits = torch.randn(int(labelled.sum()), 20, generator=torch.Generator().manual_seed(0))
    table = branches.summed(logits, with_places(INPUTS))
    own = logits.log_softmax(-1)[range(6), INPUTS["input_ids"][labelled]]
    expected = torch.stack([own[0], own[1] + own[2], own[3], own[4], own[5], torch.tensor(1.0)]).view(2, 3)
    torch.testing.assert_close(table, expected)


@pytest.mark.parametrize("name", METHODS)
def test_packed_options_are_as_likely_as_options_apart(name):
    packing, single = (toy_vlm(language=language) for language in ("toy_instruct", "toy_apart"))
    assert (packing.takes_branches, single.takes_branches) == (True, False)
    model = trained(packing, name).model
    batch = batch_of(packing, [item(4, (2, 1, 3), image=0), item(7, (1, 2)), item(5, (2,), image=1)])
    with torch.no_grad():
        packed, apart = (each.option_log_probs(model, batch) for each in (packing, single))
    torch.testing.assert_close(packed, apart, rtol=1e-4, atol=1e-5)
    assert packed.shape == (3, 3)
    assert (packed > 0).tolist() == [[False] * 3, [False, False, True], [False, True, True]]


@pytest.mark.parametrize(("language", "frozen"), [("toy_instruct", 1), ("toy_apart", 0)])
def test_a_trunk_is_found_only_where_the_rows_of_its_blocks_are_examples(language, frozen):
    backbone = toy_vlm(language=language)
    learner = trained(backbone, "zero_gated", layers=1)
    batch = batch_of(backbone, [item(4, (2, 1, 3), image=0), item(7, (1, 2))])
    learner.find_trunk(batch)
    assert learner.frozen_blocks == frozen
    if learner.has_trunk:
        torch.testing.assert_close(learner(batch, learner.run_trunk(batch)), learner(batch), rtol=0, atol=0)
