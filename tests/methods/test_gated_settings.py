"""Settings of the gated prompt: each starts at the frozen model, learns, is saved, and computes its formula."""

from __future__ import annotations

import copy
from functools import cache, partial

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from support import experiments
from support.fitting import fit_of
from support.forks import fork_together, statuses
from support.model_zoo import ordinary_path, randomise_prompts
from support.toys import TOYS, ToyViT, registered
from zipeft.adapters.formats import GatedPrompts
from zipeft.adapters.saved import load_adapter, save_adapter
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.settings import as_json
from zipeft.errors import UserError
from zipeft.experiments.experiment import Experiment
from zipeft.methods.prompt_starts import start
from zipeft.methods.zero_gated import RandomGated, ZeroGated
from zipeft.methods.zero_gated_v2 import EarlyGated, ZeroGatedV2
from zipeft.modules.prompt_mlp import PromptMLP
from zipeft.splices import detach, gated_prompts
from zipeft.splices.layer_inputs import Reservoir, layer_inputs
from zipeft.training.dataset import EncodedSplit
from zipeft.training.execution import BY_DEFAULT, Execution
from zipeft.training.initialisation import initialise
from zipeft.training.optimizers import new_optimizer
from zipeft.training.sharding import is_sharded

VARIANTS = {
    "gate rate": {"gate_learning_rate": 0.5},
    "sampled": {"prompt_init": "sampled", "init_examples": 8, "length": 4},
    "kmeans": {"prompt_init": "kmeans", "init_examples": 8, "length": 4},
    "scaled": {"prompt_init": "scaled", "init_examples": 4},
    "mlp": {"prompt_mlp": 6},
    "key value": {"prompt_form": "key_value"},
    "key value kmeans": {"prompt_form": "key_value", "prompt_init": "kmeans", "init_examples": 8, "length": 4},
    "norm": {"prompt_norm": True},
    "norm sampled": {"prompt_norm": True, "prompt_init": "sampled", "init_examples": 8, "length": 4},
    "channel": {"gate": "channel"},
    "norms and biases": {"tune_norms_and_biases": True},
    "many": {"prompt_norm": True, "prompt_mlp": 3, "gate": "channel", "tune_norms_and_biases": True, "layers": 1},
}
POST_NORM = ("toy_text",)
"""RoBERTa normalises behind its attention."""


def goes(toy, settings):
    no_norm = toy in POST_NORM and settings.get("prompt_norm")
    return not no_norm and not (toy == "toy_vlm" and settings.get("prompt_form") == "key_value")


CASES = [(toy, name) for toy in TOYS for name, settings in VARIANTS.items() if goes(toy, settings)]
FEW = [("toy", name) for name in VARIANTS]
EACH = pytest.mark.parametrize(
    ("toy", "name"), [pytest.param(*case, marks=() if case in FEW else pytest.mark.slow) for case in CASES]
)


@cache
def frozen(toy):
    return TOYS[toy][0]().build().requires_grad_(False)


def applied(toy, **settings):
    torch.manual_seed(0)
    backbone, model = TOYS[toy][0](), copy.deepcopy(frozen(toy))
    ZeroGated(**settings).adapt(backbone, model)
    return backbone, model


def test_what_is_at_its_default_is_in_no_record():
    assert as_json(ZeroGated()) == {
        "learning_rate": 0.1,
        "head_learning_rate": 0.01,
        "weight_decay": 1e-4,
        "length": 10,
        "layers": None,
        "gate": "head",
        "squash": "tanh",
        "gate_init": "zero",
        "prompt_std": 1.0,
    }
    assert set(as_json(ZeroGatedV2())) == {*as_json(ZeroGated()), "visual_length"} == set(as_json(EarlyGated()))
    assert as_json(ZeroGated(prompt_mlp=64))["prompt_mlp"] == 64


@EACH
def test_it_starts_at_the_frozen_model_and_everything_learns(toy, name):
    """Bit for bit, with the values that training data decide."""
    fit, accelerator = fit_of(toy, "zero_gated", **VARIANTS[name]), Accelerator(cpu=True)
    initialise(fit.learner, fit.method, fit.objective, fit.train, 0, accelerator, 8)
    detached = copy.deepcopy(fit.learner.eval())
    detach(detached.model)
    inputs = fit.train.sample_inputs(4)
    with torch.no_grad(), ordinary_path():
        results = [each.read(each.backbone, each.model, inputs) for each in (fit.learner, detached)]
    assert torch.equal(*results)
    _, moved = fit.on(accelerator, epochs=2)
    still = {key for key in moved if not moved[key].abs().max() > 0}
    assert still <= never_read(fit.learner)


def never_read(learner):
    """What no gradient can reach: norms of a vision-language model's frozen image tower, which runs without."""
    if type(learner.backbone).__name__ != "ToyVLM":
        return set()
    return {key for key in learner.trainable() if ".vision" in key or "image_" in key}


@pytest.mark.parametrize("toy", TOYS)
def test_parameters_are_those_of_the_formula(toy):
    def count(**settings):
        _, model = applied(toy, length=5, **settings)
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    backbone, model = applied(toy)
    widths = [{prompt.prompt.shape[1] for prompt in map(one, tower)} for tower in backbone.towers(model).values()]
    layers = [len(tower) for tower in backbone.towers(model).values()]
    own, heads = count(), 2
    each = [(width, number) for (width,), number in zip(widths, layers, strict=True)]
    assert count(gate="channel") - own == sum(number * (width - heads) for width, number in each)
    assert count(gate="layer") - own == sum(number * (1 - heads) for _, number in each)
    assert count(prompt_mlp=7) - own == sum(2 * width * 7 + width + 7 for width, _ in each)
    if toy != "toy_vlm":
        assert count(prompt_form="key_value") - own == sum(number * 5 * width for width, number in each)
    if toy not in POST_NORM:
        assert count(prompt_norm=True) == own


def one(block):
    (prompt,) = gated_prompts(block)
    return prompt


@pytest.mark.parametrize("toy", ["toy", "toy_instruct", "toy_image_text"])
def test_tokens_pass_the_network_and_the_norm_in_float64(toy):
    """As the plain prompt whose values are what the formula makes of them."""
    backbone, model = applied(toy, length=3, prompt_mlp=6, prompt_norm=True)
    _, plain = applied(toy, length=3)
    made, expected = gated_prompts(model), gated_prompts(plain)
    randomise_prompts(made)
    networks = [module for module in model.modules() if isinstance(module, PromptMLP)]
    assert len(networks) == len(backbone.towers(model))
    owner = {
        id(p): network
        for network, tower in zip(networks, backbone.towers(model).values(), strict=True)
        for block in tower
        for p in gated_prompts(block)
    }
    model.double(), plain.double()
    with torch.no_grad():
        for prompt, other in zip(made, expected, strict=True):
            network, norm = owner[id(prompt)].double(), prompt.norm
            hidden, output = network.hidden, network.output
            for layer in (hidden, output):
                layer._parameters = {key: nn.Parameter(p.double()) for key, p in layer._parameters.items()}
            tokens = prompt.prompt.double() @ hidden.weight.T + hidden.bias
            tokens = tokens.clamp(min=0) @ output.weight.T + output.bias
            other.prompt.data, other.gate.data = normed(norm, tokens), prompt.gate.double()
            prompt.prompt.data, prompt.gate.data = prompt.prompt.double(), prompt.gate.double()
        inputs = backbone.random_batch(2, image_size=16, length=8)
        inputs = inputs.double() if isinstance(inputs, torch.Tensor) else inputs
        if toy == "toy_image_text":
            backbone.name_classes(model, ["red", "green"], ["a {}."])
            backbone.name_classes(plain, ["red", "green"], ["a {}."])
            results = backbone.matches(model, inputs), backbone.matches(plain, inputs)
        else:
            results = backbone.features(model, inputs), backbone.features(plain, inputs)
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)  # LLaMA's norms compute in float32


def normed(norm, x):
    """A layer norm, or RMS norm, written out."""
    eps = getattr(norm, "eps", None) or norm.variance_epsilon
    if getattr(norm, "bias", None) is None:
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * norm.weight.double()
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * norm.weight.double() + norm.bias.double()


@pytest.mark.parametrize("toy", POST_NORM)
def test_a_layer_that_takes_no_norms_output_is_refused_in_one_line(toy):
    with pytest.raises(UserError, match="does not hand its attention the output of a norm: leave prompt_norm out"):
        applied(toy, prompt_norm=True)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"prompt_form": "key_value", "prompt_mlp": 4}, "has no tokens for prompt_mlp"),
        ({"prompt_form": "key_value", "prompt_norm": True}, "has no tokens for prompt_norm"),
        ({"prompt_init": "kmeans", "prompt_mlp": 4}, "makes other tokens"),
        ({"gate_learning_rate": 0.0}, "gate_learning_rate must be above 0"),
        ({"prompt_mlp": -1}, "prompt_mlp must be 1 or more"),
        ({"init_examples": 0}, "init_examples must be 1 or more"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        ZeroGated(**settings)


def test_an_image_is_added_to_tokens_alone():
    with pytest.raises(UserError, match="prompt_form=key_value has none: take tokens"):
        applied("toy_vlm", prompt_form="key_value")


def test_the_network_leaves_with_the_prompts():
    _, model = applied("toy", prompt_mlp=4)
    detach(model)
    assert list(model.state_dict()) == list(frozen("toy").state_dict())


def test_gates_have_a_learning_rate_of_their_own():
    fit = fit_of("toy", "zero_gated", gate_learning_rate=0.5, learning_rate=0.25)
    optimizer = new_optimizer(fit.learner, fit.method, TrainingProtocol(epochs=1, batch_size=8))
    names = {id(parameter): name for name, parameter in fit.learner.trainable().items()}
    rates = {names[id(p)].rpartition(".")[2]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {"prompt": 0.25, "gate": 0.5, "weight": 0.01, "bias": 0.01}
    assert {group["weight_decay"] for group in optimizer.param_groups if group["lr"] == 0.5} == {0.0}


def test_a_method_without_rates_of_its_own_has_the_groups_that_it_had():
    fit = fit_of("toy", "zero_gated", learning_rate=0.01)  # that of the head, which is another group all the same
    optimizer = new_optimizer(fit.learner, fit.method, TrainingProtocol(epochs=1, batch_size=8))
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [
        (4, 1e-4),
        (4, 0.0),
        (1, 1e-4),
        (1, 0.0),
    ]


def initialised(name, toy="toy", seed=0):
    backbone, task = (part() for part in TOYS[toy])
    experiment = Experiment(
        experiments.comparison(backbone, task, names=(toy, toy), epochs=1, batch_size=8, max_steps=1, seeds=(0,)),
        Accelerator(cpu=True),
        "pytest",
    )
    run = experiments.run(*experiment.comparison.datasets(), ZeroGated(**VARIANTS[name], learning_rate=1e-12), seed)
    _, learner = experiment.measure(run)
    return experiment, learner


@pytest.mark.parametrize("name", ["sampled", "norm sampled"])
def test_sampled_prompts_are_vectors_that_their_layer_takes(name):
    experiment, learner = initialised(name)
    train: EncodedSplit = experiment.loaded("colours").plain(0)
    model = copy.deepcopy(frozen("toy"))
    layers = [(block.attn, block.norm1 if "norm" in name else None) for block in model.blocks]
    taken = layer_inputs(layers, lambda: model(train.sample_inputs(len(train))), 10**6)
    for prompt, vectors in zip(gated_prompts(learner.model), taken, strict=True):
        assert len(vectors) == 48 * 17
        distances = (prompt.prompt.detach()[:, None] - vectors).abs().amax(-1).min(1).values
        assert distances.max() < 1e-4
    assert len(torch.unique(torch.cat([p.prompt for p in gated_prompts(learner.model)]), dim=0)) == 4 * 4


def test_initial_values_repeat_with_the_seed():
    (_, one), (_, again), (_, other) = (initialised("kmeans", seed=seed) for seed in (0, 0, 1))
    first, same, another = (torch.stack([p.prompt for p in gated_prompts(each.model)]) for each in (one, again, other))
    assert torch.equal(first, same)
    assert not torch.allclose(first, another)


def test_starts_have_their_statistics():
    torch.manual_seed(0)
    vectors = torch.cat([torch.randn(50, 8) * 0.01 + centre for centre in (-3.0, 0.0, 5.0)])
    centres = start("kmeans", vectors, 3, 1.0)
    assert sorted(round(float(c)) for c in centres.mean(1)) == [-3, 0, 5]
    scaled = start("scaled", vectors, 500, 2.0)
    assert float(scaled.std()) == pytest.approx(2 * float(vectors.std()), rel=0.05)
    with pytest.raises(UserError, match="raise init_examples"):
        start("sampled", vectors, 151, 1.0)


def test_a_reservoir_keeps_each_vector_with_the_same_chance():
    torch.manual_seed(0)
    kept = torch.zeros(40)
    for _ in range(300):
        reservoir = Reservoir(10)
        for part in torch.arange(40.0).view(4, 10, 1):
            reservoir.add(part)
        kept[reservoir.vectors.flatten().long()] += 1
    assert kept.sum() == 3000
    assert kept.min() > 45
    assert kept.max() < 110


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "many" else pytest.mark.slow) for name in VARIANTS]
)
def test_a_saved_adapter_comes_back(name, tmp_path):
    with registered():
        experiment = experiments.experiment(ToyViT(), epochs=1, batch_size=8)
        run = experiments.run("colours", ZeroGated(**VARIANTS[name]), name="zero_gated")
        _, learner = experiment.measure(run)
        folder = save_adapter(tmp_path / "saved", learner, experiment.describer.adapter(run))
        again, _ = load_adapter(folder)
    images = torch.randn(3, 3, 16, 16)
    assert torch.equal(again(images), learner.eval()(images))


def leave(name, folder):
    torch.set_num_threads(1)
    with registered():
        _, learner = measured("toy_instruct", name, Execution(sharding=True))
    if learner.model.training is False and not is_sharded(learner):
        torch.save({key: p.detach() for key, p in learner.trainable().items()}, folder / "learnt.pt")


def measured(toy, name, execution=BY_DEFAULT):
    backbone, task = (part() for part in TOYS[toy])
    comparison = experiments.comparison(backbone, task, names=(toy, toy), epochs=1, batch_size=8)
    experiment = Experiment(comparison, Accelerator(cpu=True), "pytest", execution=execution)
    return experiment.measure(experiments.run(*comparison.datasets(), ZeroGated(**VARIANTS[name], learning_rate=0.01)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kmeans", "mlp", "key value", "norm sampled", "channel", "norms and biases"])
def test_processes_that_share_a_model_out_train_to_the_numbers_of_one(name, tmp_path):
    _, alone = measured("toy_instruct", name)
    said = tmp_path / "said"
    assert statuses(fork_together(partial(leave, name, tmp_path), 2, said), 300) == [0, 0], said.read_text()
    there = torch.load(tmp_path / "learnt.pt")
    assert there.keys() == alone.trainable().keys()
    for key, parameter in alone.trainable().items():
        torch.testing.assert_close(there[key], parameter.detach(), atol=2e-3, rtol=1e-2)


def test_what_other_formats_have_no_form_for_is_refused():
    for settings in ({"gate": "channel"}, {"prompt_mlp": 3}, {"prompt_norm": True}, {"prompt_form": "key_value"}):
        fit = fit_of("toy_instruct", "zero_gated", **settings)
        with pytest.raises(UserError, match="form in other formats"):
            GatedPrompts.of(fit.learner)


def test_random_gates_are_random_in_every_form():
    for settings in ({"gate": "channel"}, {"prompt_form": "key_value"}):
        backbone, model = TOYS["toy"][0](), copy.deepcopy(frozen("toy"))
        RandomGated(**settings).adapt(backbone, model)
        gates = [p for name, p in model.named_parameters() if name.endswith("zero_gated_prompt.gate")]
        assert all((gate != 0).all() for gate in gates)
        assert len(gates) == 4
