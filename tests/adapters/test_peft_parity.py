"""zipeft against peft's AdaptionPrompt: the same model before, the same losses while both train, the same after."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import transformers
from peft import AdaptionPromptConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn import functional

from support.model_zoo import VOCABULARY, randomise, randomise_prompts
from zipeft.adapters.formats import GatedPrompts, adaption_prompt
from zipeft.api.learner import Learner
from zipeft.errors import UserError
from zipeft.splices import attach

LENGTH, LAYERS, STEPS = 5, 2, 12
SIZE = {
    **{"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32},
}
FAMILIES = {
    "llama": lambda **settings: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZE | settings)),
    "mistral": lambda **settings: transformers.MistralForCausalLM(
        transformers.MistralConfig(**SIZE | {"sliding_window": 4} | settings)
    ),
    "qwen2": lambda **settings: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZE | settings)),
}
EACH = pytest.mark.parametrize("family", ["llama", "mistral"])
DTYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["float32", "float64"]
)


class Decoder:
    """As much of a backbone as there has to be."""

    def blocks(self, model: nn.Module) -> nn.ModuleList:
        return model.model.layers

    def towers(self, model: nn.Module) -> dict[str, nn.ModuleList]:
        return {"text": self.blocks(model)}


def frozen(family, dtype=torch.float32, **settings):
    torch.manual_seed(0)
    return randomise(FAMILIES[family](**settings)).to(dtype).requires_grad_(False).eval()


def batch(seed=0):
    """Texts of which the second is padded on the right."""
    ids = torch.randint(2, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[1, -3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def loss_of(model, inputs):
    logits = model(**inputs).logits[:, :-1]
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)[:, 1:]
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def pair(family, dtype=torch.float32, length=LENGTH, layers=LAYERS, model=None):
    """A model with zipeft's prompts and one with peft's, at the same initial values, and the frozen model."""
    model = model or frozen(family, dtype)
    ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
    joined = attach(ours, blocks=ours.model.layers, layers=layers, length=length, gate="layer", gate_activation="none")
    config = AdaptionPromptConfig(adapter_len=length, adapter_layers=layers, task_type="CAUSAL_LM")
    theirs = get_peft_model(theirs, config)
    for prompt, attention in zip(joined, adapted(theirs), strict=True):
        prompt.prompt = nn.Parameter(prompt.prompt.to(dtype))  # they stay float32 by themselves, whatever the model is
        prompt.gate = nn.Parameter(prompt.gate.to(dtype))
        attention.adaption_prompt.data.copy_(prompt.prompt.data[None])
    return ours, theirs, model


def adapted(model):
    return [part for part in model.modules() if hasattr(part, "adaption_prompt")]


def trained(model, steps, inputs=batch):
    """The losses of so many steps with AdamW."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-2, weight_decay=0.02)
    losses = []
    for step in range(steps):
        loss = loss_of(model, inputs(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def parts(model):
    """Prompts and gates of a model of either kind, lowest layer first."""
    if isinstance(model, PeftModel):
        return [(part.adaption_prompt[0], part.adaption_gate) for part in adapted(model)]
    return [(part.prompt, part.gate) for part in model.modules() if hasattr(part, "gate_activation")]


@torch.no_grad()
def logits(model, seed=7):
    return model(**batch(seed)).logits


@EACH
@DTYPES
def test_before_training_both_are_the_frozen_model(family, dtype, tolerance):
    ours, theirs, model = pair(family, dtype)
    assert torch.equal(logits(ours), logits(model))
    assert torch.equal(logits(theirs), logits(model))


@EACH
@DTYPES
def test_both_train_alike(family, dtype, tolerance, monkeypatch):
    if dtype == torch.float64:  # where peft takes the softmax in float32 all the same
        in_full = SimpleNamespace(softmax=lambda scores, dim, dtype: functional.softmax(scores, dim))
        monkeypatch.setattr("peft.tuners.adaption_prompt.layer.F", in_full)
    ours, theirs, model = pair(family, dtype)
    losses, peft_losses = trained(ours, STEPS), trained(theirs, STEPS)
    assert torch.allclose(losses, peft_losses, rtol=0, atol=tolerance)
    assert (losses[1:] - losses[0]).abs().max() > 0.1  # so that there was something to agree on
    for (prompt, gate), (their_prompt, their_gate) in zip(parts(ours), parts(theirs), strict=True):
        assert gate.abs().min() > 0.02
        assert torch.allclose(gate, their_gate, rtol=0, atol=100 * tolerance)
        assert torch.allclose(prompt, their_prompt, rtol=0, atol=100 * tolerance)
    assert torch.allclose(logits(ours), logits(theirs), rtol=0, atol=1000 * tolerance)
    assert (logits(ours) - logits(model)).abs().max() > 0.1


def taken(model):
    return GatedPrompts.of(Learner(Decoder(), model, nn.Identity()))


@EACH
def test_what_peft_trained_is_the_same_in_zipeft(family, tmp_path):
    _, theirs, model = pair(family)
    trained(theirs, STEPS)
    theirs.save_pretrained(tmp_path)
    gated = adaption_prompt.read(tmp_path)
    gated.join(Decoder(), model)
    assert (gated.depth, gated.gate_activation, gated.gates.shape) == (3, "none", (LAYERS, 1))
    for (prompt, gate), (their_prompt, their_gate) in zip(parts(model), parts(theirs), strict=True):
        assert torch.equal(prompt, their_prompt)
        assert torch.equal(gate, their_gate)
    assert torch.allclose(logits(model), logits(theirs), rtol=0, atol=1e-5)


@EACH
def test_what_zipeft_trained_is_the_same_in_peft_and_back(family, tmp_path):
    ours, _, model = pair(family)
    trained(ours, STEPS)
    adaption_prompt.write(tmp_path, taken(ours), ours)
    theirs = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path)
    assert torch.allclose(logits(theirs), logits(ours), rtol=0, atol=1e-5)
    adaption_prompt.read(tmp_path).join(Decoder(), model)
    assert torch.equal(logits(model), logits(ours))


# --- where peft computes something else -------------------------------------------------------------------------------


def joined(model):
    randomise_prompts(attach(model, layers=LAYERS, length=LENGTH, gate="layer", gate_activation="none"))
    return model


def refusal(model, folder):
    with pytest.raises(UserError) as error:
        adaption_prompt.write(folder, taken(model), model)
    assert not list(folder.iterdir())
    return str(error.value)


def test_peft_adds_the_bias_of_the_output_projection_twice(tmp_path):
    model = frozen("llama", attention_bias=True)
    config = AdaptionPromptConfig(adapter_len=LENGTH, adapter_layers=LAYERS)
    assert (logits(get_peft_model(copy.deepcopy(model), config)) - logits(model)).abs().max() > 0.1  # at gate zero
    assert "adds the bias of the output projection twice" in refusal(joined(model), tmp_path)


@pytest.mark.parametrize("head_dim", [4, 12])
def test_peft_fails_where_heads_are_not_as_wide_as_the_model(head_dim, tmp_path):
    model = frozen("llama", head_dim=head_dim)
    config = AdaptionPromptConfig(adapter_len=LENGTH, adapter_layers=LAYERS)
    with pytest.raises((RuntimeError, ZeroDivisionError)):
        logits(get_peft_model(copy.deepcopy(model), config))
    assert "it cannot run the model" in refusal(joined(model), tmp_path)


def test_a_model_without_adaption_prompts_in_peft_is_refused(tmp_path):
    model = frozen("qwen2")
    with pytest.raises(ValueError, match="Unsupported model type"):
        get_peft_model(copy.deepcopy(model), AdaptionPromptConfig(adapter_len=LENGTH, adapter_layers=LAYERS))
    assert "for llama and mistral, not for qwen2" in refusal(joined(model), tmp_path)


# --- a real model -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_train_alike_on_the_embedded_model():
    from zipeft.backbones.llama.backbone import Llama

    backbone = Llama()
    tokens = backbone.tokenizer()(["The cat sat on the mat.", "A prompt, and a gate that starts at zero."]).input_ids
    inputs = backbone.collate(
        [{"input_ids": torch.tensor(ids), "attention_mask": torch.ones(len(ids))} for ids in tokens]
    )
    inputs["attention_mask"] = inputs["attention_mask"].long()
    ours, theirs, _ = pair("", length=10, layers=29, model=backbone.build().requires_grad_(False))
    losses, peft_losses = (trained(model, 3, lambda _: inputs) for model in (ours, theirs))
    assert torch.allclose(losses, peft_losses, rtol=0, atol=1e-4)
    assert losses[-1] < losses[0] - 0.1
    assert min(gate.abs().min() for _, gate in parts(ours)) > 1e-3
    with torch.no_grad():
        assert torch.allclose(ours(**inputs).logits, theirs(**inputs).logits, rtol=0, atol=1e-2)
