"""Which model of open_clip a checkpoint names, checked without building it or reading its weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zipeft.errors import UserError, did_you_mean

EMBEDDED = "icon_clip"
FOLDER = Path(__file__).with_name(EMBEDDED)
CONFIG, WEIGHTS = "open_clip_config.json", f"{EMBEDDED}.safetensors"

WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin")
FORMS = "write NAME/TAG, for example ViT-B-16/openai, or NAME:PATH, for example ViT-B-16:weights.safetensors"
TAKE = "take one whose two towers are open_clip's own transformers, such as ViT-B-16 or ViT-L-14"


@dataclass(frozen=True)
class Choice:
    """A model of open_clip, the tag of its published weights, and the local file that holds weights, if any."""

    name: str
    tag: str = ""
    file: Path | None = None

    @property
    def label(self) -> str:
        """The name and the tag, as they are written."""
        return f"{self.name}/{self.tag}" if self.tag else self.name

    @property
    def is_embedded(self) -> bool:
        return self.name == EMBEDDED

    @cached_property
    def published(self) -> Mapping[str, Any]:
        """What open_clip knows of the tag's weights: where they are, activation and preprocessing; empty for none."""
        import open_clip

        return open_clip.get_pretrained_cfg(self.name, self.tag) if self.tag else {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The sizes of the model in open_clip's own form, with the activation that the tag's weights were trained
        with (OpenAI's: QuickGELU)."""
        import open_clip

        if self.is_embedded:
            return _embedded_config()["model_cfg"]
        config = open_clip.get_model_config(self.name)
        return {**config, "quick_gelu": bool(config.get("quick_gelu") or self.published.get("quick_gelu"))}

    @cached_property
    def preprocessing(self) -> dict[str, Any]:
        """The settings of ``open_clip.transform.PreprocessCfg``: the tag's, without one those of OpenAI's CLIP."""
        from open_clip.transform import PreprocessCfg, merge_preprocess_dict

        own = _embedded_config()["preprocess_cfg"] if self.is_embedded else self.published
        return {**merge_preprocess_dict(PreprocessCfg(), own), "size": self.config["vision_cfg"]["image_size"]}


def parse(checkpoint: str, pretrained: bool) -> Choice:
    """Return what a checkpoint names.

    Raises: ``UserError`` for an unknown name or tag, a file that is not there, a model whose towers are not open_clip's
    own transformers, and a name without weights where they are asked for.
    """
    if checkpoint in ("", EMBEDDED):
        return Choice(EMBEDDED)
    label, colon, path = checkpoint.partition(":")
    name, slash, tag = label.partition("/")
    file = Path(path).expanduser() if colon else None
    if not colon and Path(checkpoint).suffix in WEIGHT_FILES:
        raise UserError(f"checkpoint {checkpoint!r} is a file without its architecture: {FORMS}")
    _check_name(name)
    if slash:
        _check_tag(name, tag)
    if file is not None:
        _check_file(checkpoint, file, pretrained)
    elif pretrained and not slash:
        raise UserError(f"checkpoint {checkpoint!r} is an architecture without weights: {FORMS}{_known_tags(name)}")
    return Choice(name, tag, file)


def embedded_file() -> Path:
    """Return the file of the embedded weights. Raises ``UserError`` if it is not there."""
    file = FOLDER / WEIGHTS
    if not os.path.isfile(file):
        raise UserError(f"the embedded CLIP is not installed ({WEIGHTS} is missing): name a --checkpoint ({FORMS})")
    return file


def _embedded_config() -> dict[str, Any]:
    try:
        return json.loads((FOLDER / CONFIG).read_text())
    except OSError as error:
        message = f"the embedded CLIP is not installed ({CONFIG} is missing): name a --checkpoint ({FORMS})"
        raise UserError(message) from error


def _check_name(name: str) -> None:
    import open_clip

    known = open_clip.list_models()
    if name not in known:
        hint = did_you_mean(name, known) or f"; {FORMS}"
        raise UserError(f"unknown model {name!r} of open_clip{hint}")
    if other := _other_tower(open_clip.get_model_config(name)):
        raise UserError(f"open_clip's {name} has {other}: {TAKE}")


def _other_tower(config: Mapping[str, Any]) -> str:
    """Say which part of a model is no transformer of open_clip's own; "" if both towers are."""
    vision, text = (config.get(part, {}) for part in ("vision_cfg", "text_cfg"))
    others = {
        "an image tower of timm": vision.get("timm_model_name"),
        "a ResNet for images": isinstance(vision.get("layers"), list),
        "a text tower of transformers": text.get("hf_model_name"),
        "a decoder of captions": "multimodal_cfg" in config,
        "no image tower": not vision,
    }
    return next((what for what, there in others.items() if there), "")


def _check_tag(name: str, tag: str) -> None:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise UserError(f"unknown tag {tag!r} of open_clip's {name}{did_you_mean(tag, tags) or _known_tags(name)}")


def _check_file(checkpoint: str, file: Path, pretrained: bool) -> None:
    if not pretrained:
        raise UserError(f"checkpoint {checkpoint!r} names a file of weights, but pretrained is off: drop one")
    if not os.path.isfile(file):
        raise UserError(f"checkpoint {checkpoint!r}: there is no file {str(file)!r}: {FORMS}")
    if file.suffix not in WEIGHT_FILES:
        raise UserError(f"{str(file)!r} is of no known kind of weights: use one of {', '.join(WEIGHT_FILES)}")


def _known_tags(name: str) -> str:
    import open_clip

    return f" (tags of {name}: {', '.join(open_clip.list_pretrained_tags_by_model(name)) or 'none'})"
