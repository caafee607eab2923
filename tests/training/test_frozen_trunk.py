"""What is kept of a frozen trunk: for how long, for whom, and within which memory."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from support.toys import ToyEncoder, ToyTask, ToyTexts, ToyViT
from zipeft import registry
from zipeft.api.learner import Learner, build_learner
from zipeft.training.dataset import EncodedSplit, encode
from zipeft.training.frozen_trunk import FrozenTrunk


def trunk(limit=None) -> FrozenTrunk:
    return FrozenTrunk(Accelerator(cpu=True), batch_size=8, limit=limit)


def learner_and_split(name, backbone=None, task=None, **settings) -> tuple[Learner, EncodedSplit]:
    backbone, task = backbone or ToyViT(), task or ToyTask(examples=24)
    data = task.load(*task.datasets())
    objective, method = task.objective(data.name, data.classes), registry.methods.make(name, settings).plugin
    learner = build_learner(method.apply, backbone, backbone.build().requires_grad_(False), objective, data.classes)
    split = encode(data.train, task.windows(backbone), backbone)
    learner.find_trunk(split.sample_inputs(2))
    return learner.eval(), split


@pytest.mark.parametrize(("name", "settings"), [("linear", {}), ("zero_gated", {"layers": 1})])
@pytest.mark.parametrize("toys", [(ToyViT, ToyTask), (ToyEncoder, ToyTexts)], ids=["images", "texts"])
def test_from_the_kept_output_a_learner_computes_what_it_does_from_inputs(name, settings, toys):
    learner, split = learner_and_split(name, toys[0](), toys[1](examples=24), **settings)
    extended, spent = trunk().extend(learner, split)
    assert spent.wall > 0
    assert extended.needs_inputs == (name != "linear")
    batch = extended.batch(range(6))
    del batch["targets"]
    torch.testing.assert_close(learner(**batch), learner(split.inputs(range(6))), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "settings"), [("full", {}), ("zero_gated", {})])
def test_a_learner_without_a_frozen_trunk_leaves_a_split_as_it_is(name, settings):
    learner, split = learner_and_split(name, **settings)
    assert trunk().extend(learner, split)[0] is split


def test_memory_is_a_limit_to_the_byte():
    learner, split = learner_and_split("linear")
    size = 24 * 32 * 4  # features of 32 numbers
    assert trunk(limit=size - 1).extend(learner, split)[0] is split
    assert trunk(limit=size).extend(learner, split)[0].trunk_output is not None


def test_learners_of_one_depth_share_the_output_of_a_split_and_others_do_not():
    kept = trunk()
    learner, split = learner_and_split("linear")
    first = kept.extend(learner, split)[0].trunk_output
    assert kept.extend(learner_and_split("linear")[0], split)[0].trunk_output is first
    assert kept.extend(learner, replace(split))[0].trunk_output is not first
    deeper = kept.extend(learner_and_split("zero_gated", layers=1)[0], split)[0].trunk_output
    assert deeper[0].dim() > first[0].dim()
    assert kept.extend(learner, split)[0].trunk_output is not first  # of each split the last one is kept


def test_the_output_goes_with_its_split():
    kept = trunk()
    learner, split = learner_and_split("linear")
    kept.extend(learner, split)
    assert len(kept._kept) == 1
    del split
    gc.collect()
    assert len(kept._kept) == 0
