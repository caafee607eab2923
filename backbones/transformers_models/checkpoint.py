"""What backbones of ``transformers`` share: a checkpoint, embedded or in a folder or on the hub, or random weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.backbone import TextBackbone, Weights
from zipeft.backbones.transformers_models import folder as model_folder
from zipeft.backbones.transformers_models import hub, padding
from zipeft.backbones.transformers_models.embedded import EmbeddedModel
from zipeft.backbones.transformers_models.kind import Kind, layers
from zipeft.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class CheckpointBackbone(TextBackbone):
    """A model of ``transformers`` by the name of its checkpoint, which is one of

    - "", or the name of the embedded default;
    - a name on the hub;
    - the path of a folder as ``save_pretrained`` of model and tokenizer writes one: config, tokenizer, and weights as
      safetensors or as a state dict of PyTorch (read with ``weights_only``). It goes before a name on the hub.

    With ``pretrained=False`` it is one of ``architectures``, or that of a folder's config, at random weights, the same
    in every ``build``. The tokenizer is then the embedded one, unless the folder has its own.

    Code that comes with a checkpoint is never run.
    """

    embedded: ClassVar[EmbeddedModel]
    kind: ClassVar[Kind]
    architectures: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]]
    """What can be had at random weights: a type of model of transformers and its sizes, by the name of the weights."""

    def build(self) -> nn.Module:
        """Return the model, in float32 and evaluation mode.

        Raises ``UserError`` for an unknown name, a model of another kind, files that cannot be had or read, and
        weights that are not those of the config.
        """
        return self.kind.load(self._files()) if self.pretrained else self.kind.at_random(self._config())

    def weights(self) -> Weights:
        """Say where the weights come from, without building the model.

        The checksum of a folder covers all that is read of it, at random weights its config and tokenizer; that of hub
        weights is that of the files in the hub's local cache: "" before they are downloaded.
        """
        folder = self._folder()
        if not self.pretrained:
            return _of_folder(folder.name, "random", folder) if folder else Weights(self._architecture(), "random", "")
        if self._is_embedded:
            return Weights(self.embedded.name, self.embedded.archive.label, self.embedded.archive.sha256)
        if folder:
            return _of_folder(folder.name, "local folder", folder)
        hub.check_name(self.checkpoint)
        folder = hub.cached(self.checkpoint)
        return _of_folder(self.checkpoint, "hub", folder) if folder else Weights(self.checkpoint, "hub", "")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer, the same object for the same settings; it neither pads nor cuts unless it is asked to.

        Raises ``UserError`` as ``build`` does, for a slow tokenizer, and for one of another model.
        """
        return _tokenizer(self)

    def max_length(self) -> int:
        """Return how many tokens the model takes, special ones included: by its positions and its tokenizer."""
        if self._tokenizer_files():
            return self.tokenizer().model_max_length
        return min(self.kind.longest_input(self._config()), self.embedded.longest)

    def vocabulary(self) -> int:
        """Return how many ids of tokens the model takes, at random weights by its config: a tokenizer need not fit."""
        return len(self.tokenizer()) if self.pretrained else self._config().vocab_size

    def blocks(self, model: PreTrainedModel) -> Sequence[nn.Module]:
        """Return the layers; each takes and returns hidden states (batch, tokens, width)."""
        return layers(model)

    def width(self, model: PreTrainedModel) -> int:
        """Return the width of the hidden states."""
        return model.config.hidden_size

    def collate(self, inputs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return a batch, padded on the right to its longest example, with the places of its padding."""
        return padding.located(super().collate(inputs))

    @property
    def _is_embedded(self) -> bool:
        return self.checkpoint in ("", self.embedded.name)

    def _folder(self) -> Path | None:
        """Return the local folder that ``checkpoint`` names, checked for what is read of it; None if it names none."""
        if self._is_embedded:
            return None
        folder = Path(self.checkpoint).expanduser().absolute()
        if os.path.isfile(folder):  # unlike Path's, it says no of a name that is too long for one
            raise UserError(f"checkpoint {self.checkpoint!r} is a file: name the folder that it lies in")
        if not os.path.isdir(folder):
            return None
        if missing := model_folder.lacks(folder, weights=self.pretrained):
            raise UserError(
                f"the folder {self.checkpoint!r} has no {missing}: save_pretrained of the model and of its tokenizer "
                f"write all that is needed"
            )
        return folder

    def _files(self) -> Path:
        """Return the folder of the pretrained model, downloaded where it is not there."""
        if self._is_embedded:
            return self.embedded.folder()
        return self._folder() or hub.fetch(self.checkpoint, self.kind.check_config)

    def _tokenizer_files(self) -> Path | None:
        """Return the folder of the checkpoint's own tokenizer; None if it has none, as random weights may."""
        if self.pretrained:
            return self._files()
        folder = self._folder()
        return folder if folder and model_folder.has_tokenizer(folder) else None

    def _config(self) -> PreTrainedConfig:
        """Return the config of the model; one that comes without a tokenizer is given the embedded one's padding."""
        if self.pretrained:
            return model_folder.read_config(self._files())
        folder = self._folder()
        config = model_folder.read_config(folder) if folder else self._random_config()
        if not self._tokenizer_files():
            config.pad_token_id, config.bos_token_id, config.eos_token_id = self.embedded.special
        return config

    def _architecture(self) -> str:
        """Return the name of an architecture that can be had at random weights."""
        name = self.checkpoint or self.embedded.name
        if name not in self.architectures:
            raise UserError(
                f"no architecture {name!r} for random weights: take one of {', '.join(self.architectures)}, or a "
                f"folder with a config.json{did_you_mean(name, self.architectures)}"
            )
        return name

    def _random_config(self) -> PreTrainedConfig:
        from transformers import AutoConfig

        kind, sizes = self.architectures[self._architecture()]
        return AutoConfig.for_model(kind, **sizes)


def _of_folder(name: str, source: str, folder: Path) -> Weights:
    weights = source != "random"
    older = model_folder.weights_checksum(folder) if weights else ""
    return Weights(name, source, model_folder.checksum(folder, weights=weights), older)


@lru_cache(maxsize=16)
def _tokenizer(backbone: CheckpointBackbone) -> PreTrainedTokenizerFast:
    config = backbone._config()
    tokenizer = model_folder.read_tokenizer(
        backbone._tokenizer_files() or backbone.embedded.folder(),
        vocabulary=getattr(config, "vocab_size", 0),
        longest=backbone.kind.longest_input(config),
        types=getattr(config, "type_vocab_size", 1) > 1,
        end_pads=backbone.kind.end_pads,
    )
    if backbone.kind.counts_from_padding(config) and tokenizer.pad_token_id != config.pad_token_id:
        raise UserError(
            f"the tokenizer of {backbone.checkpoint!r} pads with {tokenizer.pad_token_id}, its config says "
            f"{config.pad_token_id}, from which the model counts positions: take the tokenizer of the model"
        )
    return tokenizer
