"""Every registered method, on a small backbone: what it changes, what it trains, that it learns, that it repeats."""

from __future__ import annotations

import copy

import pytest
import torch

from support import experiments
from support.method_cases import asked_for, covered, learning_on, methods_for, slow
from support.toys import SIZE, TOYS, ToyDecoder, ToyInstructions, ToyViT
from zipeft import registry
from zipeft.api.learner import Learner
from zipeft.methods.linear import Linear
from zipeft.training.frozen_trunk import FrozenTrunk

METHODS = methods_for("image") + slow(asked_for("image"))
KINDS = ("image", "text", "image-text", "image-instruction")
BACKBONE = ToyViT()


def experiment_on(modality, epochs):
    backbone, task = next(toys for toys in TOYS.values() if toys[0].modality == modality)
    return experiments.experiment(backbone(), task(), epochs=epochs, batch_size=8)


@pytest.fixture(scope="module")
def experiment():
    return experiment_on("image", epochs=4)


def applied(name, dtype=torch.float32):
    torch.manual_seed(0)
    model = BACKBONE.build().requires_grad_(False).to(dtype)
    registry.methods.get(name)().apply(BACKBONE, model)
    return model


def images(count=4, dtype=torch.float32):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).to(dtype)


def tensors(module):
    """Parameters and buffers, those that layers share once."""
    return {key: value.detach() for key, value in (*module.named_parameters(), *module.named_buffers())}


@pytest.mark.parametrize("name", METHODS)
def test_every_trainable_parameter_gets_a_gradient_and_no_other_one_changes(name):
    model = applied(name)
    learner = Learner(BACKBONE, model, torch.nn.Linear(BACKBONE.width(model), 3))
    before = {key: value.clone() for key, value in tensors(learner).items()}
    optimizer = torch.optim.SGD(learner.trainable().values(), lr=0.1)
    moved = set()
    for _ in range(3):  # a zero gate, and LoRA's zero matrix, hold back the gradient of what they multiply at first
        loss = torch.nn.functional.cross_entropy(learner(images()), torch.tensor([0, 1, 2, 0]))
        optimizer.zero_grad()
        loss.backward()
        moved |= {key for key, p in learner.trainable().items() if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
    assert moved == set(learner.trainable())
    changed = {key for key, value in tensors(learner).items() if not torch.equal(value, before[key])}
    assert changed == set(learner.trainable())


@pytest.mark.parametrize("name", METHODS)
def test_trainable_parameters_are_float32_on_a_bfloat16_model(name):
    model = applied(name, torch.bfloat16)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    own = {key for key, _ in BACKBONE.build().named_parameters()}
    if any(p.requires_grad and key in own for key, p in model.named_parameters()):
        return  # it trains parameters of the model itself, which then runs under autocast
    assert BACKBONE.features(model, images(dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", METHODS)
def test_the_start_is_the_frozen_model_where_the_method_says_so(name):
    frozen, start = (BACKBONE.features(model, images()) for model in (BACKBONE.build(), applied(name)))
    says_so = registry.methods.get(name).starts_at_frozen_model
    assert torch.equal(frozen, start) == says_so, f"{name}.starts_at_frozen_model says {says_so}"
    assert frozen.shape == start.shape


@pytest.mark.parametrize("name", METHODS)
def test_a_method_repeats_with_its_seed_and_not_with_another(name):
    short = experiment_on("image", epochs=1)
    one, again, other = (short.measure(experiments.run("colours", name, seed))[0] for seed in (0, 0, 1))
    assert (again.test, again.history, again.predictions) == (one.test, one.history, one.predictions)
    assert again.id == one.id != other.id
    assert other.history != one.history


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_and_counts_what_it_trains(name, experiment):
    run = experiments.run("colours", name)
    result, learner = experiment.measure(run)
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert result.score > 0.5  # a third by chance
    assert result.id == experiment.id(run)
    assert result.cost.trainable_parameters == sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
    assert result.cost.head_parameters == 3 * 32 + 3


def test_seeds_share_a_count_of_operations_and_settings_do_not(monkeypatch):
    counted = []

    def count(*_):
        counted.append(None)
        return 2 * len(counted), len(counted)

    monkeypatch.setattr("zipeft.experiments.experiment.count_flops", count)
    own = experiment_on("image", epochs=1)
    runs = [experiments.run("colours", "lora", seed, rank=rank) for rank, seed in ((8, 0), (8, 1), (4, 0))]
    costs = [own.measure(run)[0].cost for run in runs]
    assert [(cost.training_flops, cost.inference_flops) for cost in costs] == [(2, 1), (2, 1), (4, 2)]


@pytest.mark.parametrize(
    ("modality", "name", "layers"),
    [
        *covered((kind, "zero_gated", 1) for kind in ("image", "text", "instruction", "image-instruction")),
        *covered((kind, name, None) for kind in KINDS for name in methods_for(kind)),
        *slow((kind, name, None) for kind in KINDS for name in asked_for(kind)),
    ],
)
def test_running_the_frozen_trunk_once_changes_no_result(modality, name, layers):
    experiment = experiment_on(modality, epochs=1)
    run = experiments.run(*experiment.comparison.datasets(), name, **({"layers": layers} if layers else {}))
    kept, _ = experiment.measure(run)
    experiment.trunk = FrozenTrunk(experiment.accelerator, batch_size=8, limit=0)
    anew, _ = experiment.measure(run)
    assert [e.train_loss for e in anew.history] == pytest.approx([e.train_loss for e in kept.history], abs=1e-5)
    if modality == "instruction":  # a log-probability, tokens, and a digest of the answer
        assert [each[1:] for each in anew.predictions] == [each[1:] for each in kept.predictions]
        assert anew.item_scores == pytest.approx(kept.item_scores, abs=1e-5)
    else:
        assert anew.predictions == kept.predictions


def of(split):
    return split.examples, split.targets


@pytest.mark.parametrize("name", learning_on("image-text"))
def test_a_method_learns_to_match_pictures_with_names_and_repeats(name):
    made, run = experiment_on("image-text", epochs=2), experiments.run("colours", name)
    result, learner = made.measure(run)
    assert result.history[-1].train_loss < result.history[0].train_loss
    again, _ = made.measure(run)
    assert (again.test, again.history, again.predictions) == (result.test, result.history, result.predictions)
    trained = sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
    assert result.cost.trainable_parameters == trained
    assert result.cost.head_parameters == (75 if name == "linear" else 0)  # 24 features and a bias for each of three


@pytest.fixture(scope="module")
def instructing():
    """An experiment on instructions, and what the frozen model scores."""
    made = experiments.experiment(ToyDecoder(), ToyInstructions(examples=32), epochs=4, batch_size=8)
    frozen, _ = made.measure(experiments.run("summaries", "untuned"))
    return made, frozen


@pytest.mark.parametrize("name", learning_on("instruction"))
def test_a_method_learns_to_follow_instructions(name, instructing):
    experiment, frozen = instructing
    result, learner = experiment.measure(experiments.run("summaries", name))
    first, *_, last = result.history
    assert last.train_loss < first.train_loss
    assert last.validation["loss"] < min(first.validation["loss"], frozen.validation["loss"])
    assert result.score > frozen.score
    assert {"rouge_l", "exact_match", "unseen rouge_l", "unseen answer_probability"} <= result.test.keys()
    assert result.cost.head_parameters == 0
    assert result.cost.trainable_parameters == sum(p.numel() for p in learner.model.parameters() if p.requires_grad)


def test_instruction_tuning_repeats_with_its_seed(instructing):
    experiment, _ = instructing
    one, again, other = (
        experiment.measure(experiments.run("summaries", "lora", seed, dropout=0.1))[0] for seed in (0, 0, 1)
    )
    assert (again.test, again.history, again.predictions) == (one.test, one.history, one.predictions)
    assert other.history != one.history


def test_the_frozen_model_scores_what_its_windows_do_one_by_one(instructing):
    """What is computed once for frozen layers must not stand in for it: log-probabilities are padded, too."""
    experiment, frozen = instructing
    loaded = experiment.loaded("summaries")
    data, backbone, windows = loaded.data, loaded.backbone, loaded.task.windows(loaded.backbone)
    model = backbone.build()
    assert len({len(windows(*pair)[0].inputs["input_ids"]) for pair in zip(*of(data.validation), strict=True)}) > 1
    total, count = 0.0, 0
    for example, references in zip(*of(data.validation), strict=True):
        (window,) = windows(example, references)
        with torch.no_grad():
            log_probs = backbone.log_probs(model, backbone.collate([window.inputs]))
        total, count = total - log_probs[log_probs <= 0].sum().item(), count + int((log_probs <= 0).sum())
    assert frozen.validation["loss"] == pytest.approx(total / count, abs=1e-5)


def test_tokens_a_second_are_those_of_training_without_padding(instructing, experiment):
    """A record counts windows a second, too; how long they are on average makes the one of the other."""
    texts, frozen = instructing
    result, _ = texts.measure(experiments.run("summaries", "lora"))
    loaded = texts.loaded("summaries")
    data, windows = loaded.data, loaded.task.windows(loaded.backbone)
    lengths = [len(windows(*pair)[0].inputs["input_ids"]) for pair in zip(*of(data.train), strict=True)]
    expected = result.cost.examples_per_second * sum(lengths) / len(lengths)
    assert result.cost.tokens_per_second == pytest.approx(expected)
    assert frozen.cost.tokens_per_second is None
    images, _ = experiment.measure(experiments.run("colours", "linear"))
    assert images.cost.tokens_per_second is None


def test_the_frozen_model_is_a_row_of_its_own(instructing):
    _, frozen = instructing
    assert (frozen.history, frozen.selected_epoch, frozen.cost.steps) == ((), 0, 0)
    assert frozen.cost.trainable_parameters == frozen.cost.head_parameters == 0
    assert frozen.cost.frozen_prefix_seconds == 0  # there is no training for which it would be computed once
    assert frozen.cost.inference_flops > frozen.cost.training_flops == 0
    assert list(frozen.problems()) == []
    answered = {"rouge_l", "exact_match"}
    assert answered <= frozen.test.keys()
    assert not answered & frozen.validation.keys()


@pytest.mark.parametrize(
    ("name", "settings", "frozen_blocks", "only_head"),
    [
        ("linear", {}, 4, True),
        ("full", {}, 0, False),
        ("bitfit", {}, 0, False),
        ("prompt", {}, 0, False),
        ("lora", {}, 0, False),
        ("zero_gated", {}, 0, False),
        ("zero_gated", {"layers": 1}, 3, False),
        ("zero_gated", {"layers": 3}, 1, False),
    ],
)
def test_the_frozen_trunk_ends_below_the_first_block_that_trains(name, settings, frozen_blocks, only_head):
    model = BACKBONE.build().requires_grad_(False)
    registry.methods.get(name)(**settings).apply(BACKBONE, model)
    learner = Learner(BACKBONE, model, torch.nn.Identity()).eval()
    learner.find_trunk(images())
    assert (learner.frozen_blocks, learner.only_head_trains) == (frozen_blocks, only_head)
    if learner.has_trunk:
        outputs = learner(images(), learner.run_trunk(images()))
        assert torch.equal(outputs, learner(images()))
        untouched = copy.deepcopy(learner)
        assert torch.equal(untouched(images()), learner(images()))
        assert not any("forward" in vars(block) for block in BACKBONE.blocks(learner.model))


def test_frozen_blocks_stay_without_dropout_while_the_blocks_above_train():
    model = BACKBONE.build().requires_grad_(False)
    registry.methods.get("zero_gated")(layers=2).apply(BACKBONE, model)
    learner = Learner(BACKBONE, model, torch.nn.Identity())
    learner.find_trunk(images())
    learner.train()
    assert [block.training for block in BACKBONE.blocks(model)] == [False, False, True, True]
    learner.eval()
    assert not any(module.training for module in learner.modules())


def test_the_output_of_a_layer_that_a_method_changed_is_not_taken_from_another_run(experiment):
    """Runs share their trunk's output; one whose frozen layers differ after all must not get another's."""

    class Shifted(Linear):
        def apply(self, backbone, model):
            model.pos_embed = torch.nn.Parameter(model.pos_embed + 1.0, requires_grad=False)

    plain, _ = experiment.measure(experiments.run("colours", Linear()))
    shifted, _ = experiment.measure(experiments.run("colours", Shifted()))
    assert shifted.history != plain.history
    alone, _ = experiment_on("image", epochs=4).measure(experiments.run("colours", Shifted()))
    assert alone.history == shifted.history


def test_deep_prompts_replace_each_other_and_leave_the_sequence_as_long_as_it_was():
    model = applied("deep_prompt")
    seen = []
    for block in model.blocks:
        block.attn.register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[1]))
    tokens = model.forward_features(images())
    plain = BACKBONE.build().forward_features(images())
    assert tokens.shape == plain.shape
    assert seen == [plain.shape[1] + 10] * 4


def test_lora_names_the_target_that_the_backbone_lacks():
    from zipeft.errors import UserError

    with pytest.raises(UserError, match=r"lora: .*no_such_layer"):
        registry.methods.get("lora")(targets=("no_such_layer",)).apply(BACKBONE, BACKBONE.build())
