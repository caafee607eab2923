"""Counting floating-point operations: against sums by hand, and that the count leaves no trace, as no run does."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from support import experiments
from support.method_cases import methods_for
from support.parallel_training import prepared
from support.toys import SIZE, ToyEncoder, ToyTask, ToyTexts, ToyViT
from zipeft import registry
from zipeft.api.data import Split
from zipeft.api.learner import Learner
from zipeft.errors import UserError
from zipeft.training.batches import ordered_batches
from zipeft.training.costs import count_flops
from zipeft.training.dataset import encode

METHODS = methods_for("image")
CPU = torch.device("cpu")
BATCH = 8
TASK = ToyTask(examples=24)

WIDTH, BLOCKS, CLASSES = 32, 4, 3
PATCHES = (SIZE // 4) ** 2
TOKENS = PATCHES + 1
EMBEDDING = 2 * PATCHES * WIDTH * (3 * 4 * 4)
ATTENTION = 4 * TOKENS * TOKENS * WIDTH
BLOCK = 2 * TOKENS * WIDTH * (3 * WIDTH + WIDTH + 4 * WIDTH + 4 * WIDTH) + ATTENTION
HEAD = 2 * WIDTH * CLASSES
FROZEN_MODEL = EMBEDDING + BLOCKS * BLOCK + HEAD


def counts(name, **settings):
    learner, train, _ = prepared(registry.methods.get(name)(**settings), TASK)
    return count_flops(learner, TASK, train, CPU, BATCH)


def test_a_linear_probe_trains_its_head_alone_and_infers_with_the_whole_model():
    forward, gradient_of_weights = HEAD, HEAD
    assert counts("linear") == (forward + gradient_of_weights, FROZEN_MODEL)


def test_full_fine_tuning_takes_three_passes_but_no_gradient_of_the_pixels():
    assert counts("full") == (3 * FROZEN_MODEL - EMBEDDING, FROZEN_MODEL)


def test_a_prompt_adds_its_attention_and_while_it_trains_its_projection():
    length = registry.methods.get("zero_gated")().length
    attention = 4 * TOKENS * length * WIDTH
    keys_and_values = 2 * length * WIDTH * 2 * WIDTH
    training, inference = counts("zero_gated")
    assert inference == FROZEN_MODEL + BLOCKS * attention
    projections = BLOCKS * 2 * keys_and_values // BATCH  # forward, and the gradient of the prompt
    queries_keys_values = 2 * TOKENS * WIDTH * 3 * WIDTH
    # Backward goes through all but the first block's own attention, where no query depends on a prompt yet.
    backward = BLOCKS * (BLOCK - ATTENTION) - queries_keys_values + (BLOCKS - 1) * 2 * ATTENTION + 2 * HEAD
    of_prompts = BLOCKS * 2 * attention - attention // 2
    assert training == inference + backward + of_prompts + projections


def test_training_above_a_frozen_trunk_counts_what_lies_above_it():
    all_layers, top_layer = counts("zero_gated"), counts("zero_gated", layers=1)
    assert BLOCK < top_layer[0] < 3 * BLOCK
    assert all_layers[0] > EMBEDDING + 4 * BLOCK
    assert FROZEN_MODEL < top_layer[1] < all_layers[1] < 1.1 * FROZEN_MODEL


def test_a_method_that_trains_more_counts_more():
    training = {name: counts(name)[0] for name in ("full", "zero_gated", "linear")}
    assert training["full"] > training["zero_gated"] > training["linear"]


def test_without_its_trunk_s_output_the_frozen_part_is_counted_as_it_then_runs_in_every_step():
    learner, train, _ = prepared(registry.methods.get("linear")(), TASK)
    inputs = encode(train.split, TASK.windows(ToyViT()), ToyViT())
    assert count_flops(learner, TASK, inputs, CPU, BATCH) == (FROZEN_MODEL + HEAD, FROZEN_MODEL)


@pytest.mark.parametrize("name", METHODS)
def test_the_count_leaves_no_trace(name):
    learner, train, _ = prepared(registry.methods.get(name)(), TASK)
    learner.train()
    untouched = copy.deepcopy(learner)
    before = modes_and_hooks(learner)
    random, fast = torch.random.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    assert min(count_flops(learner, TASK, train, CPU, BATCH)) > 0
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert modes_and_hooks(learner) == before
    assert all(parameter.grad is None for parameter in learner.parameters())
    for gradient, expected in zip(gradients(learner, train), gradients(untouched, train), strict=True):
        assert torch.equal(gradient, expected)


def test_a_count_that_fails_leaves_no_trace_either():
    class Failing(ToyTask):
        def loss(self, outputs, targets):
            raise ArithmeticError

    learner, train, _ = prepared(registry.methods.get("zero_gated")(), TASK)
    learner.train()
    before = modes_and_hooks(learner)
    with pytest.raises(ArithmeticError):
        count_flops(learner, Failing(examples=24), train, CPU, BATCH)
    assert modes_and_hooks(learner) == before
    assert torch.backends.mha.get_fastpath_enabled()


def test_attention_of_torch_itself_is_counted_past_its_inference_path():
    class Torch(ToyViT):
        def build(self):
            layer = nn.TransformerEncoderLayer(WIDTH, 2, 4 * WIDTH, dropout=0.1, batch_first=True)
            return nn.TransformerEncoder(layer, BLOCKS, enable_nested_tensor=False).requires_grad_(False)

        def blocks(self, model):
            return list(model.layers)

        def features(self, model, inputs):
            return model(inputs.flatten(1)[:, : TOKENS * WIDTH].unflatten(1, (TOKENS, WIDTH))).mean(1)

    backbone = Torch()
    learner = Learner(backbone, backbone.build(), nn.Linear(WIDTH, CLASSES))
    train = encode(TASK.load("colours").train, TASK.windows(backbone), backbone)
    random = torch.random.get_rng_state()
    expected = BLOCKS * BLOCK + HEAD
    assert count_flops(learner, TASK, train, CPU, BATCH) == (expected + HEAD, expected)
    assert torch.equal(torch.random.get_rng_state(), random)


def counts_of_texts(*lengths):
    backbone, task = ToyEncoder(), ToyTexts()
    texts = [" ".join(["film"] * length) for length in lengths]
    split = Split(texts, [0] * len(texts), list(map(str, range(len(texts)))))
    model = backbone.build().requires_grad_(False)
    registry.methods.get("lora")().apply(backbone, model)
    learner = Learner(backbone, model, nn.Linear(32, 2))
    return count_flops(learner, task, encode(split, task.windows(backbone), backbone), CPU, BATCH)


def test_of_texts_of_different_lengths_those_of_median_length_are_counted():
    expected = counts_of_texts(8, 8, 8, 8, 8, 8)
    assert counts_of_texts(30, 1, 8, 20, 8, 2) == expected
    assert counts_of_texts(9, 9, 9, 9, 9, 9) != expected


def test_fewer_examples_than_a_batch_are_enough():
    task = ToyTask(examples=3)
    learner, train, _ = prepared(registry.methods.get("linear")(), task)
    assert count_flops(learner, task, train, CPU, BATCH) == (2 * HEAD, FROZEN_MODEL)


def modes_and_hooks(learner):
    return [
        (module.training, *(list(value) for key, value in vars(module).items() if "hooks" in key))
        for module in learner.modules()
    ]


def gradients(learner, train):
    batch = next(iter(ordered_batches(train, 8)))[0].content
    targets = batch.pop("targets")
    learner.train()
    loss = TASK.loss(learner(**batch), targets)
    return torch.autograd.grad(loss, list(learner.trainable().values()))


@pytest.mark.parametrize("trial", [None, 0])
@pytest.mark.parametrize("rate", [1e-2, 1e30], ids=["a run that ends", "a run that diverges"])
def test_nothing_of_a_run_is_left_in_memory_for_the_next(trial, rate):
    experiment = experiments.experiment(epochs=2)
    kept = []

    def watch(_steps):
        learner = experiment.accelerator._models[0]
        kept.append(weakref.ref(learner))

    run = experiments.run("colours", "full", learning_rate=rate, trial=trial)
    try:
        experiment.measure(run, watch)
    except UserError:
        assert rate > 1
    gc.collect()
    assert kept
    assert all(learner() is None for learner in kept)
