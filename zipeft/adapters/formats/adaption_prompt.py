"""The folder of peft's ``AdaptionPrompt``: one prompt and one gate a layer, without tanh, for LLaMA and Mistral.

peft has them for GPT-2 as well, where they join behind the output projection: no such model is among the backbones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from zipeft import strict_json
from zipeft.adapters.formats.files import read_floats
from zipeft.adapters.formats.gated_prompts import GatedPrompts
from zipeft.errors import UserError
from zipeft.files import read_whole, write_atomically
from zipeft.formatting import counted
from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt

CONFIG = "adapter_config.json"
SAFETENSORS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
METHOD = "ADAPTION_PROMPT"
MODELS = ("llama", "mistral")
NAME = re.compile(r"(?:.+\.)?layers\.(0|[1-9]\d{0,3})\.self_attn\.adaption_(prompt|gate)")


def read(folder: Path) -> GatedPrompts:
    """Return the prompts of a folder that ``PeftModel.save_pretrained`` wrote.

    Raises ``UserError`` for another method's, and for files that are damaged, incomplete or contradict each other.
    """
    config = _config(folder)
    path = next((path for path in (folder / SAFETENSORS, folder / PICKLE) if path.is_file()), folder / SAFETENSORS)
    prompts, gates = _parts(path)
    length, layers = config["adapter_len"], config["adapter_layers"]
    depth = max(prompts, default=-1) + 1
    top = sorted(prompts)
    if not sorted(gates) == top == list(range(depth - len(top), depth)) or len(top) != layers:
        raise UserError(
            f"{path} has not the prompts and gates of {counted(layers, 'top layer')} that {CONFIG} tells of"
        )
    width = prompts[depth - 1].shape[-1:].numel()
    if any(prompts[layer].shape != (1, length, width) or gates[layer].shape != (1,) for layer in top):
        raise UserError(f"{path} has not prompts of (1, {length}, width) and gates of (1,), as {CONFIG} tells of")
    stacked = torch.cat([prompts[layer] for layer in top]), torch.stack([gates[layer] for layer in top])
    return GatedPrompts(*stacked, "none", depth, config.get("base_model_name_or_path") or "")


def write(folder: Path, gated: GatedPrompts, model: nn.Module) -> list[str]:
    """Write the prompts of a model, which they have joined, as ``PeftModel.from_pretrained`` reads them.

    Returns what is to be said of it. Raises ``UserError`` if peft could not say, or would not compute, the same.
    """
    from peft import AdaptionPromptConfig

    check(model)
    single, notes = _one_gate_a_layer(gated.activated())
    if gated.gate_activation == "tanh":
        notes.append("a gate is stored as its tanh, to which peft applies nothing")
    names = _attentions(model)
    layers, length, _ = single.prompts.shape
    tensors = {}
    for name, prompt, gate in zip(names, single.prompts, single.gates, strict=True):
        tensors[f"base_model.model.{name}.adaption_prompt"] = prompt[None].contiguous()
        tensors[f"base_model.model.{name}.adaption_gate"] = gate.contiguous()
    write_atomically(folder / SAFETENSORS, save(tensors, metadata={"format": "pt"}))
    AdaptionPromptConfig(
        adapter_len=length,
        adapter_layers=layers,
        target_modules=names[0].rpartition(".")[2],
        task_type="CAUSAL_LM",
        base_model_name_or_path=gated.made_for or None,
        inference_mode=True,
    ).save_pretrained(str(folder))
    return notes


def check(model: nn.Module) -> None:
    """Raise ``UserError`` unless peft computes of a joined model what zipeft does."""
    config: Any = model.config
    kind = config.model_type
    if kind not in MODELS:
        raise UserError(f"peft has adaption prompts for {' and '.join(MODELS)}, not for {kind}")
    for name in _attentions(model):
        attention: Any = model.get_submodule(name)
        if attention.o_proj.bias is not None:
            raise UserError("peft adds the bias of the output projection twice: with it the model is another one")
        if attention.zipeft_splice.first_token.factor != 1.0:
            raise UserError(
                "peft leaves the keys of prompts out of the scaling that the model's rotary embedding (YaRN, LongRoPE) "
                "does: its prompts have another temperature"
            )
        if attention.k_proj.in_features // attention.k_proj.out_features != attention.num_key_value_groups:
            raise UserError(
                "peft takes the hidden width for heads times their width, which it is not here: it cannot run the model"
            )


def _parts(path: Path) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Return prompts and gates by the numbers of their layers."""
    found: dict[str, dict[int, Tensor]] = {"prompt": {}, "gate": {}}
    for name, tensor in read_floats(path).items():
        match = NAME.fullmatch(name)
        if not match:
            raise UserError(f"{path} holds {name!r}, which is no adaption prompt of LLaMA or Mistral")
        layer = int(match[1])
        if layer in found[match[2]]:
            raise UserError(f"{path} has two adaption prompts for layer {layer}")
        found[match[2]][layer] = tensor
    return found["prompt"], found["gate"]


def _attentions(model: nn.Module) -> list[str]:
    """Return the names of the attention layers that a prompt has joined, lowest first."""
    return [name.rpartition(".")[0] for name, part in model.named_modules() if isinstance(part, ZeroGatedPrompt)]


def _one_gate_a_layer(gated: GatedPrompts) -> tuple[GatedPrompts, list[str]]:
    if gated.gates.shape[1] == 1:
        return gated, []
    for layer, gates in enumerate(gated.gates.tolist(), gated.depth - len(gated.gates)):
        if min(gates) != max(gates):
            raise UserError(
                f"peft has one gate a layer, but those of the heads in layer {layer} differ ({min(gates):.3g} to "
                f"{max(gates):.3g}): train with zero_gated.gate=layer for an adapter that peft can hold"
            )
    return replace(gated, gates=gated.gates[:, :1]), ["the gates of a layer's heads are equal, and stored as one"]


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    try:
        config = strict_json.parse(read_whole(path))
        method = config["peft_type"]
        sizes = [config[name] for name in ("adapter_len", "adapter_layers")] if method == METHOD else []
        if not all(type(size) is int and size >= 1 for size in sizes):
            raise ValueError("adapter_len and adapter_layers are numbers from 1")
        if not isinstance(config.get("base_model_name_or_path"), str | None):
            raise ValueError("base_model_name_or_path is a name")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is no config of an adaption prompt ({error})") from error
    if method != METHOD:
        raise UserError(f"{folder} is an adapter of peft's {method}: only those of {METHOD} can be taken over")
    return config
