"""Adapters of gated prompts on tiny decoders."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from support.toys import toy_tokenizer
from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import load_adapter, read_record, save_adapter
from zipeft.api.learner import Learner
from zipeft.backbones.llama.backbone import Llama
from zipeft.commands.convert import main
from zipeft.methods.zero_gated import ZeroGated
from zipeft.objectives.responses import Responses
from zipeft.registry import Named
from zipeft.splices import gated_prompts

DEPTH, LAYERS, LENGTH, HEADS, WIDTH = 4, 2, 5, 4, 32


IDS = torch.tensor([[1, 4, 5, 9, 10, 13], [1, 8, 6, 7, 9, 2]])


def narrow(folder, config=LlamaConfig, model=LlamaForCausalLM, **settings):
    """Save a narrow decoder of random weights, with a tokenizer, and return its folder."""
    size = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS}
    size |= {"num_key_value_heads": 2, "vocab_size": len(toy_tokenizer()), "max_position_embeddings": 512}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model(config(**size | settings, initializer_range=0.2)).save_pretrained(folder)
    tokenizer = copy.deepcopy(toy_tokenizer())
    tokenizer.eos_token = "end"
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Work:
    folder: str
    checkpoint: str

    @property
    def backbone(self):
        return ["--backbone", "llama", "--checkpoint", str(self.checkpoint)]

    def adapter(self, method=None, name="zero_gated", gates=None, **settings):
        """Save an adapter of zipeft with all that trains drawn at random, and return its folder."""
        backbone, task = Llama(checkpoint=str(self.checkpoint)), registry.tasks.get("instruct")()
        method = method or ZeroGated(**{"layers": LAYERS, "length": LENGTH} | settings)
        learner = learner_of(backbone, method)
        if gates is not None:
            with torch.no_grad():
                for prompt, gate in zip(gated_prompts(learner.model), gates, strict=True):
                    prompt.gate.copy_(torch.tensor(gate))
        parts = Named("llama", backbone), Named(name, method), Named("instruct", task)
        record = AdapterRecord.of(*parts, task.datasets()[0], [])
        return save_adapter(self.folder / f"adapter-{name}", learner, record)

    def convert(self, source, *options, out="converted"):
        assert main([str(source), "--out", str(self.folder / out), *options]) == 0
        return self.folder / out

    def back(self, source, *options):
        """Convert to an adapter of zipeft."""
        return self.convert(source, *self.backbone, *options, out="back")


def learner_of(backbone, method):
    model = backbone.build().requires_grad_(False)
    method.apply(backbone, model)
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    return Learner(backbone, model, torch.nn.Identity(), Responses().read).eval()


@torch.no_grad()
def logits(source):
    model = load_adapter(source)[0].model if not isinstance(source, torch.nn.Module) else source
    return model(input_ids=IDS).logits


def frozen(checkpoint):
    return Llama(checkpoint=str(checkpoint)).build()


def assert_same(one, other, exactly=False):
    assert (logits(one) - logits(frozen(read_record(one).backbone.settings["checkpoint"]))).abs().max() > 0.1
    assert torch.allclose(logits(one), logits(other), rtol=0, atol=0 if exactly else 1e-5)


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def published(path, gates, gate_activation=torch.tanh, layers=LAYERS, depth=DEPTH, dtype=torch.float16, **more):
    """Write a checkpoint as the layout has it, and return the values that count: prompts and effective gates."""
    torch.manual_seed(5)
    rows = torch.randn(layers * LENGTH, WIDTH).to(dtype)
    gates = [torch.randn(gates).to(dtype) * (layer >= depth - layers) for layer in range(depth)]
    state = {f"layers.{layer}.attention.gate": gate for layer, gate in enumerate(gates)}
    torch.save({"adapter_query.weight": rows} | state | more, path)
    return rows.float().split(LENGTH), [gate_activation(gate.float()).flatten() for gate in gates[-layers:]]
