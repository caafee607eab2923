"""A small vision-language model whose decoder has words of its own, and an adapter of it that heeds images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from support.toys import ToyVQA
from support.vision_language import learner_of, toy_vlm
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import save_adapter
from zipeft.methods.zero_gated import ZeroGated
from zipeft.registry import Named
from zipeft.splices import gated_prompts

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


def save_decoder(folder: Path, words: Sequence[str]) -> Path:
    """Write a narrow LLaMA with random weights, and a tokenizer of words between blanks and punctuation."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(
            LlamaConfig(
                **size,
                num_key_value_heads=2,
                vocab_size=len(vocabulary),
                initializer_range=0.3,
                max_position_embeddings=256,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
        ).save_pretrained(folder)
    return folder


def save_gated(folder: Path, decoder: Path) -> Path:
    """Write an adapter of that decoder with the toys' image encoder, which ``toys.registered`` makes known. Its gates
    are open and its projection is large: another image, another answer."""
    backbone, method = toy_vlm(language=f"llama:{decoder}"), ZeroGated(length=4)
    learner = learner_of(backbone, "zero_gated", length=4)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for prompt in gated_prompts(learner.model):
            prompt.gate.fill_(3.0)
        nn.init.normal_(learner.model.image_entry.projection.weight, std=1.0)
    parts = Named("vlm", backbone), Named("zero_gated", method), Named("toy_vlm", ToyVQA())
    return save_adapter(folder, learner, AdapterRecord.of(*parts, "films", [], run="run-of-the-test"))
