"""Two small models at random weights, and something to learn: what the self-test trains. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from zipeft.api.backbone import Backbone
from zipeft.api.data import NO_LABEL, Split, Window
from zipeft.backbones.llama.backbone import Llama
from zipeft.backbones.llama.decoder_model import DECODER
from zipeft.backbones.vit.backbone import ViT
from zipeft.training.dataset import EncodedSplit

VOCABULARY, SIDE, CLASSES = 64, 32, 3
EXAMPLES, LONGEST = 16, 24


@dataclass(frozen=True)
class SmallLlama(Llama):
    """A LLaMA of two layers."""

    def build(self) -> nn.Module:
        from transformers import LlamaConfig

        size: dict[str, Any] = {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
        }
        heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1}
        return DECODER.at_random(LlamaConfig(**size, **heads, pad_token_id=0, bos_token_id=1, eos_token_id=2))

    def tokenizer(self) -> Any:
        """Return what says by which token a batch is padded; no text is read or written."""
        return SimpleNamespace(pad_token_id=0)

    def max_length(self) -> int:
        return LONGEST


def toys() -> dict[str, Backbone]:
    """Return the backbones that are trained, by what they are called."""
    return {"ViT": ViT(checkpoint="test_vit", pretrained=False), "LLaMA": SmallLlama(pretrained=False)}


def examples(backbone: Backbone, seed: int) -> EncodedSplit:
    """Return what a toy learns: noise with one bright colour, or random tokens of which each answer is the same."""
    draw = torch.Generator().manual_seed(seed)
    targets = [index % CLASSES for index in range(EXAMPLES)]
    of_one = _picture if backbone.modality == "image" else _text
    windows = [Window(of_one(target, draw), target) for target in targets]
    lengths = [backbone.length(window.inputs) for window in windows]
    split = Split(windows, targets, [str(index) for index in range(EXAMPLES)])
    differ = len(set(lengths)) > 1
    return EncodedSplit(split, _as_it_is, backbone, windows, range(EXAMPLES), lengths if differ else None)


def _as_it_is(window: Window, _target: int) -> Sequence[Window]:
    return [window]


def _picture(target: int, draw: torch.Generator) -> Tensor:
    image = torch.randn(3, SIDE, SIDE, generator=draw)
    image[target] += 0.5
    return image


def _text(target: int, draw: torch.Generator) -> dict[str, Any]:
    length = int(torch.randint(LONGEST // 2, LONGEST, (1,), generator=draw))
    ids = torch.randint(3, VOCABULARY, (length,), generator=draw)
    ids[-4:] = 3 + target
    labels = torch.where(torch.arange(length) < length - 4, NO_LABEL, ids)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
