"""The ViTs of transformers as a backbone. Heavy libraries are imported inside functions: listing stays instant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft import ImageBackbone, UserError, Weights

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn
    from transformers import ViTConfig, ViTModel

DEFAULT_CHECKPOINT = "facebook/dino-vits16"


@dataclass(frozen=True)
class HFViT(ImageBackbone):
    """ViTs of transformers, from the Hugging Face hub or a local folder (an example of a third-party plug-in).

    Without pretrained weights the checkpoint's configuration is initialised at random; with no checkpoint named
    either, a small configuration of four layers, 64 wide.
    """

    lora_targets: ClassVar[tuple[str, ...]] = ("q_proj", "v_proj")

    def build(self) -> nn.Module:
        import torch
        from transformers import ViTModel

        if self.pretrained:
            model = _from_hub(ViTModel.from_pretrained, self._source(), config=self._config(), add_pooling_layer=False)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the same random weights every time
                model = ViTModel(self._config(), add_pooling_layer=False)
        return model.float().eval()

    def weights(self) -> Weights:
        from transformers.utils import cached_file

        if not (self.pretrained or self.checkpoint):
            return Weights("small", "random", "")
        # All that decides what is computed: another config makes another model of the same weights.
        self._config()
        names = ["config.json", "preprocessor_config.json", *(["model.safetensors"] if self.pretrained else [])]
        files = [Path(_from_hub(cached_file, self._source(), filename=name)) for name in names]
        digests = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
        source = "local folder" if Path(self._source()).is_dir() else "hub"
        return Weights(
            self._source(), source if self.pretrained else "random", hashlib.sha256(digests.encode()).hexdigest()
        )

    def blocks(self, model: ViTModel) -> Sequence[nn.Module]:
        return list(model.layers)

    def width(self, model: ViTModel) -> int:
        return model.config.hidden_size

    def features(self, model: ViTModel, inputs: Any) -> Tensor:
        return model(inputs, interpolate_pos_encoding=True).last_hidden_state[:, 0]

    def image_transform(self, size: int) -> Callable[[Image], Tensor]:
        from torchvision import transforms
        from transformers import ViTImageProcessor

        named = self.pretrained or self.checkpoint
        processor = _from_hub(ViTImageProcessor.from_pretrained, self._source()) if named else ViTImageProcessor()
        normalize = transforms.Normalize(processor.image_mean, processor.image_std)
        return transforms.Compose([transforms.ToTensor(), normalize])

    def _source(self) -> str:
        return self.checkpoint or DEFAULT_CHECKPOINT

    def _config(self) -> ViTConfig:
        from transformers import AutoConfig, ViTConfig

        if not (self.pretrained or self.checkpoint):
            return ViTConfig(
                hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128, image_size=64
            )
        config = _from_hub(AutoConfig.from_pretrained, self._source())
        if not isinstance(config, ViTConfig):
            raise UserError(f"checkpoint {self._source()!r} is a {config.model_type}; hf_vit takes models of type vit")
        return config


def _from_hub(load: Callable[..., Any], source: str, **options: Any) -> Any:
    """Call a loader of transformers, whose errors run over many lines and do not name zipeft's setting."""
    try:
        return load(source, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"checkpoint {source!r} cannot be loaded (a ViT of the hub, or a folder): {reason}") from error
