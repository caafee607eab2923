"""Any decoder with any image encoder: what it computes with an image, without one, and in batches of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from support.reference import causal_mask, of_transformers, padding_mask
from support.toys import ToyDecoder, ToyViT, registered
from support.vision_language import METHODS, batch_of, item, learner_of, toy_vlm, trained
from support.zoo_references import recorded
from zipeft import registry
from zipeft.api.backbone import ImageBackbone, Weights
from zipeft.commands.run import _parse
from zipeft.errors import UserError
from zipeft.experiments.description import Describer
from zipeft.experiments.plan import make_plan
from zipeft.objectives.options import Options
from zipeft.splices import gated_prompts

ITEMS = [
    item(6, (2, 1), image=0),
    item(4, (1, 2, 3)),
    item(7, (3, 1), image=1),
    item(3, (1,), image=0),
]
SEEING = [name for name in METHODS if registry.methods.get(name).image_entry != "none"]


@pytest.fixture(autouse=True)
def toys():
    with registered():
        yield


@pytest.fixture
def vlm():
    return toy_vlm()


def hidden_states(backbone, learner, items):
    with torch.no_grad():
        return backbone.tokens(learner.model, batch_of(backbone, items))


def texts(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in batch.items() if name not in ("image", "has_image", "question")}


# --- the start --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in METHODS if registry.methods.get(n).image_entry != "tokens"])
def test_at_the_start_it_is_the_frozen_text_model_whatever_the_image(vlm, name):
    learner, decoder = learner_of(vlm, name), vlm.decoder
    if not registry.methods.get(name).starts_at_frozen_model:
        return
    batch = batch_of(vlm, ITEMS)
    batch["image"] = 1000 * torch.randn(4, 64)
    with torch.no_grad():
        ours = vlm.logits(learner.model, vlm.tokens(learner.model, batch))
        text_model = decoder.build()
        theirs = decoder.logits(text_model, decoder.tokens(text_model, texts(batch)))
    assert torch.equal(ours, theirs)


def test_gradients_reach_gates_at_once_and_prompts_and_projection_after_one_step(vlm):
    learner = learner_of(vlm, "zero_gated").train()
    parts = {"gate": [], "prompt": [], "projection": []}
    for name, parameter in learner.trainable().items():
        parts[next(part for part in parts if f".{part}" in name)].append(parameter)
    assert sorted(len(found) for found in parts.values()) == [2, 2, 2]
    optimizer = torch.optim.SGD(learner.trainable().values(), lr=0.1)

    def step() -> dict[str, list[float]]:
        optimizer.zero_grad()
        Options().loss(learner(batch_of(vlm, ITEMS)), torch.tensor([0, 1, 1, 0])).backward()
        sizes = {part: [p.grad.abs().max().item() for p in found] for part, found in parts.items()}
        optimizer.step()
        return sizes

    first, second = step(), step()
    assert set(first["prompt"] + first["projection"]) == {0.0}
    assert min(first["gate"]) > 0
    assert min(second["prompt"] + second["projection"] + second["gate"]) > 0


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_of_items_with_and_without_an_image_is_each_alone(vlm, name):
    learner = trained(vlm, name)
    together = hidden_states(vlm, learner, ITEMS)
    assert together.isfinite().all()
    options = Options().read(vlm, learner.model, batch_of(vlm, ITEMS)).detach()
    for row, inputs in enumerate(ITEMS):
        alone, length = hidden_states(vlm, learner, [inputs])[0], len(inputs["input_ids"])
        torch.testing.assert_close(together[row, :length], alone, rtol=1e-4, atol=1e-5)
        assert not together[row, length:].any()
        own = Options().read(vlm, learner.model, batch_of(vlm, [inputs])).detach()[0]
        torch.testing.assert_close(options[row, : len(own)], own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEEING)
def test_an_image_matters_where_there_is_one(vlm, name):
    learner = trained(vlm, name)
    batch, other = (batch_of(vlm, ITEMS) for _ in range(2))
    other["image"] = torch.randn(4, 64)
    with torch.no_grad():
        one, two = (vlm.tokens(learner.model, each) for each in (batch, other))
    differs = [not torch.equal(a, b) for a, b in zip(one, two, strict=True)]
    assert differs == [True, False, True, True]


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize("tokens", [1, 3])
def test_without_an_image_it_is_as_if_none_could_enter(name, tokens):
    backbone = toy_vlm(image_tokens=tokens)
    learner = trained(backbone, name)
    items = [item(4, (1, 2, 3)), item(6, (2, 1)), item(3, (1,))]
    shown_none = hidden_states(backbone, learner, items)
    learner.model.image_entry = None
    torch.testing.assert_close(shown_none, hidden_states(backbone, learner, items), rtol=1e-4, atol=1e-5)


# --- against other ways to compute it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bottleneck", [0, 5])
def test_a_conditioned_layer_is_the_papers_formula_in_float64(bottleneck):
    """out = attention(q, k, v) + tanh(g) attention(q, k(P + I), v(P + I)), with gates away from zero."""
    backbone = toy_vlm(bottleneck=bottleneck)
    learner = trained(backbone, "zero_gated", length=3)
    model = learner.model
    items = [{k: v for k, v in each.items() if k != "branches"} for each in ITEMS]
    batch = batch_of(backbone, items)
    layers = [block.self_attn for block in backbone.blocks(model)]
    with torch.no_grad():
        records = recorded(layers, lambda: backbone.tokens(model, batch))
    condition = batch["image"].double()
    for layer in [model.image_entry.projection] if not bottleneck else model.image_entry.projection:
        if isinstance(layer, nn.SiLU):
            condition = condition / (1 + (-condition).exp())
        else:
            condition = condition @ layer.weight.detach().double().T + layer.bias.detach().double()
    condition = condition * batch["has_image"]
    assert condition[0].abs().max() > 0.1
    real = batch["attention_mask"].bool()
    for attention, (hidden, result) in zip(layers, records, strict=True):
        assert attention.zero_gated_prompt.gate.abs().min() > 0.01
        layer = of_transformers(attention, attention.o_proj, 16, rope_theta=10000.0)
        mask = causal_mask(real.shape[1]) + padding_mask(real)
        expected = layer(hidden, attention.zero_gated_prompt, mask, condition=condition)
        assert (result.double() - expected)[real].abs().max() < 1e-5
        without = layer(hidden, attention.zero_gated_prompt, mask)
        assert (without - expected)[real].abs().max() > 1e-3


@pytest.mark.parametrize("name", ["zero_gated_early", "zero_gated_v2"])
def test_early_fusion_joins_the_image_to_longer_prompts_of_the_first_layer(vlm, name):
    model = trained(vlm, name, length=3, visual_length=5).model
    first, second = gated_prompts(model)
    assert (len(first.prompt), len(second.prompt)) == (5, 3)
    batch = batch_of(vlm, ITEMS)
    with torch.no_grad(), model.shown(batch):
        assert first.condition is not None
        assert second.condition is None


def test_early_fusion_leaves_the_first_layer_to_the_image(vlm):
    assert len(gated_prompts(learner_of(vlm, "zero_gated_early", layers=1).model)) == 2
    with pytest.raises(UserError, match="layers is 2; this model has 1 to 1 to join"):
        learner_of(vlm, "zero_gated_early", layers=2)
    with pytest.raises(ValueError, match="visual_length must be 1 or more"):
        learner_of(vlm, "zero_gated_early", visual_length=0)


@pytest.mark.parametrize("tokens", [1, 3])
def test_image_tokens_are_embeddings_put_in_front_of_those_of_the_text(tokens):
    """As LLaVA does it: the projected image and the text's embeddings, concatenated, go through the model."""
    backbone = toy_vlm(image_tokens=tokens)
    learner = learner_of(backbone, "lora")  # at its start it changes nothing
    for inputs in (ITEMS[0], ITEMS[2]):
        inputs = {k: v for k, v in inputs.items() if k != "branches"}
        decoder = backbone.decoder.build()
        with torch.no_grad():
            ours = backbone.logits(learner.model, backbone.tokens(learner.model, batch_of(backbone, [inputs])))
            image = learner.model.image_entry.projection(inputs["image"]).view(1, tokens, -1)
            embedded = torch.cat([image, decoder.get_input_embeddings()(inputs["input_ids"][None])], dim=1)
            theirs = decoder(inputs_embeds=embedded).logits[:, tokens:]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


# --- generation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["", "_blind", "_unasked"])
@pytest.mark.parametrize("name", SEEING)
def test_generation_is_the_same_cached_in_batches_and_by_likeliest_tokens(vlm, name, form):
    learner = trained(vlm, name + form)
    prompts = vlm.prompt_ids(batch_of(vlm, ITEMS))
    cached, anew = (vlm.generate(learner.model, prompts, 5, use_cache=use) for use in (True, False))
    assert cached == anew
    end = vlm.tokenizer().eos_token_id
    for row, inputs in enumerate(ITEMS):
        own = vlm.prompt_ids(batch_of(vlm, [inputs]))
        assert vlm.generate(learner.model, own, 5) == [cached[row]]
        written = []
        while len(written) < 5 and end not in written:
            added = torch.tensor([written], dtype=torch.long)
            longer = {
                **own,
                "input_ids": torch.cat([own["input_ids"], added], 1),
                "attention_mask": torch.cat([own["attention_mask"], torch.ones_like(added)], 1),
                "question": torch.cat([own["question"], torch.zeros_like(added, dtype=torch.bool)], 1),
            }
            with torch.no_grad():
                logits = vlm.logits(learner.model, vlm.tokens(learner.model, longer)[:, -1])
            written.append(int(logits.argmax()))
        assert [token for token in written if token != end] == cached[row]


def test_two_images_in_a_batch_do_not_mix(vlm):
    learner = trained(vlm, "zero_gated")
    prompts = vlm.prompt_ids(batch_of(vlm, ITEMS))
    before = vlm.generate(learner.model, prompts, 5)
    prompts["image"][0] = 5 * torch.randn(64)
    after = vlm.generate(learner.model, prompts, 5)
    assert before[1:] == after[1:]
    assert before[0] != after[0]


@pytest.mark.parametrize("name", ["zero_gated", "lora"])
def test_each_of_several_beams_is_shown_its_own_image(vlm, name):
    learner = trained(vlm, name)
    prompts = vlm.prompt_ids(batch_of(vlm, ITEMS))
    together = vlm.generate(learner.model, prompts, 5, num_beams=3)
    alone = [vlm.generate(learner.model, vlm.prompt_ids(batch_of(vlm, [each])), 5, num_beams=3)[0] for each in ITEMS]
    assert together == alone
    prompts["image"] = 5 * torch.randn_like(prompts["image"])
    assert vlm.generate(learner.model, prompts, 5, num_beams=3) != together


# --- what goes together -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Brightness(ImageBackbone):
    """An encoder from elsewhere: one convolution and two layers on patches, no class token, of a width of its own."""

    lora_targets: ClassVar[tuple[str, ...]] = ("0",)

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(nn.Conv2d(3, 10, 4, 4), nn.Flatten(2), nn.Linear(10, 10), nn.Linear(10, 10)).eval()

    def weights(self) -> Weights:
        return Weights("brightness", "random", "")

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        return [model[2], model[3]]

    def leading_tokens(self, model: nn.Module) -> int:
        return 0

    def width(self, model: nn.Module) -> int:
        return 10

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model[3](model[2](model[:2](inputs).transpose(1, 2))).mean(1)

    def image_transform(self, size: int) -> Callable[[Any], Tensor]:
        return ToyViT().image_transform(size)


@dataclass(frozen=True)
class Other(ToyDecoder):
    """A decoder from elsewhere."""

    def weights(self) -> Weights:
        return Weights("other", "random", "")


def test_an_encoder_and_a_decoder_from_elsewhere_go_together():
    registry.backbones.register("brightness", Brightness)
    registry.backbones.register("other_decoder", Other)
    try:
        backbone = toy_vlm("other_decoder", "brightness")
        assert backbone.encoder.width == 10
        assert backbone.weights().checkpoint == "other + brightness"
        for name in ("zero_gated", "lora"):
            learner = trained(backbone, name).train()
            items = [item(5, (1, 2), image=0, width=10), item(4, (2, 1), width=10)]
            Options().loss(learner(batch_of(backbone, items)), torch.tensor([0, 1])).backward()
            assert all(p.grad.abs().max() > 0 for p in learner.head_parameters().values())
    finally:
        registry.backbones.unregister("brightness")
        registry.backbones.unregister("other_decoder")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"language": "toy"}, "vlm.language is toy, which takes images"),
        ({"vision": "toy_text"}, "vlm.vision is toy_text, which takes texts"),
        ({"language": "nothing"}, "unknown backbone 'nothing'"),
        ({"vision_blocks": (5,)}, "vision_blocks has 5; the image encoder has blocks 1 to 4"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_in_a_line(settings, says):
    with pytest.raises(UserError, match=says) as caught:
        learner_of(toy_vlm(**settings), "zero_gated")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"set vlm\.language and vlm\.vision"):
        toy_vlm(checkpoint="llama")


def test_a_projection_counts_as_a_head_and_prompts_and_gates_do_not(vlm):
    learner = learner_of(vlm, "zero_gated", length=3)
    assert sum(p.numel() for p in learner.head_parameters().values()) == 64 * 32 + 32
    gates = sum(prompt.gate.numel() for prompt in gated_prompts(learner.model))
    assert sum(p.numel() for p in learner.method_parameters().values()) == 2 * 3 * 32 + gates == 2 * 3 * 32 + 2 * 2


@pytest.mark.parametrize("changed", ["decoder", "image_backbone"])
def test_the_checksum_is_of_the_weights_of_both_models(vlm, monkeypatch, changed):
    def weights(checksum):
        return type("Part", (), {"weights": lambda self: Weights("name", "hub", checksum)})()

    def checksum(**parts):
        for name, part in {"decoder": weights("a"), "image_backbone": weights("b"), **parts}.items():
            monkeypatch.setattr(type(vlm), name, part)
        return vlm.weights().checksum

    before = checksum()
    assert before == checksum()
    assert checksum(**{changed: weights("c")}) != before
    assert checksum(**{changed: weights("")}) == ""  # of what is not downloaded yet nothing is known


def test_the_record_of_a_run_names_both_models_and_holds_no_path():
    (comparison,) = make_plan(_parse(["--backbone", "vlm", "--task", "vqa", "--no-pretrained"]))
    record = Describer(comparison, torch.device("cpu"), "", lambda name: None, lambda: 1).backbone
    assert record.checkpoint == "smollm2_135m_instruct_q4 + vit_small_patch14_dinov2"
    assert not {"language", "vision", "checkpoint"} & record.settings.keys()
    assert {"pretrained": False, "image_size": 112, "bottleneck": 0}.items() <= record.settings.items()
