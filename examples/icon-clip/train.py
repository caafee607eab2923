"""Train the embedded CLIP on icons and their names, and report what it can do with fonts and concepts it never saw.

    python examples/icon-clip/train.py             # trains, and writes the weights that the backbone clip loads
    python examples/icon-clip/train.py --validate  # chooses settings: reports on other fonts and concepts

It stands outside of the package, as it joins a backbone and tasks, which know nothing of each other there.

The model and the loss are open_clip's (Radford et al., arXiv 2103.00020). A batch never holds two drawings of one
concept, so no right pair is ever counted as a wrong one, and the loss is CLIP's own as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batches import Batches
from report import fill_card, report, table

from zipeft.backbones.clip.choice import CONFIG, FOLDER, WEIGHTS
from zipeft.commands.common import ArgumentParser, exit_status
from zipeft.errors import UserError
from zipeft.sources import package_archive
from zipeft.tasks.coop.icon_concepts import HELD_OUT, Drawings, Split, read_drawings, split
from zipeft.tasks.fgvc.icons import TEST_FONTS

if TYPE_CHECKING:
    import open_clip
    import torch

RESULTS, CARD = "icon_clip.json", "CARD.md"

VALIDATION_FONTS = ("Font Awesome 6 Regular", "Font Awesome 6 Solid")
"""Further fonts that --validate leaves out; and of the concepts that they share with others, one in ``EVERY``."""

EVERY = 5

PATCH_DROPOUT = 0.25
"""The part of the patches that a training step leaves out (Li et al., arXiv 2212.00794): regularises, and is faster."""

SAVED_EVERY = 100
"""Steps between two checkpoints."""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Train, save and report; return the exit status."""
    options = _options(argv)
    import torch

    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "checkpoint")}
    config = read_config()
    parts = split_of(config["model_cfg"]["vision_cfg"]["image_size"], options.validate)
    state, seconds = _trained(config["model_cfg"], parts.train, settings, options.checkpoint)
    options.out.mkdir(parents=True, exist_ok=True)
    save_weights(state, options.out / WEIGHTS)
    (options.out / CONFIG).write_text((FOLDER / CONFIG).read_text("utf-8"), "utf-8")
    results = {
        "zero_shot": report(options.out, parts, few_shot=not options.validate),
        "settings": settings,
        "drawings": len(parts.train.concepts),
        "concepts": len(set(parts.train.concepts)),
        "sha256": package_archive.file_sha256(options.out / WEIGHTS),
        "cpu_seconds": round(seconds),
        "versions": _versions(),
    }
    (options.out / RESULTS).write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    fill_card(options.out / CARD, results)
    options.checkpoint.unlink()
    print(table(results["zero_shot"]))
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=160, help="pairs a step, each of another concept")
    parser.add_argument("--rate", type=float, default=5e-4, help="highest learning rate (AdamW, warm-up, cosine)")
    parser.add_argument("--decay", type=float, default=0.2, help="weight decay")
    parser.add_argument("--invert", type=float, default=0.1, help="part of the drawings shown white on black")
    parser.add_argument("--seed", type=int, default=0, help="decides initial weights, batches and augmentation")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the sums' order depends on them")
    parser.add_argument("--validate", action="store_true", help="leave out more, and report on that alone")
    parser.add_argument("--out", type=Path, help="folder of what is written (default: the backbone's, or the cache)")
    parser.add_argument("--checkpoint", type=Path, help="file to resume from (default: in the cache)")
    options = parser.parse_args(argv)
    for name in ("steps", "batch", "rate", "threads"):
        if not 0 < getattr(options, name) < math.inf:
            raise UserError(f"--{name} must be above 0, not {getattr(options, name)}")
    if not (options.seed >= 0 and 0 <= options.decay < math.inf and 0 <= options.invert <= 1):
        raise UserError("--seed and --decay must be 0 or more, and --invert from 0 to 1")
    scratch = package_archive.cache_dir() / "icon_clip"
    options.out = options.out or (scratch / "validation" if options.validate else FOLDER)
    options.checkpoint = options.checkpoint or scratch / ("validation.pt" if options.validate else "training.pt")
    return options


def read_config() -> dict[str, Any]:
    """Return the model's configuration, in open_clip's own format."""
    return json.loads((FOLDER / CONFIG).read_text("utf-8"))


# --- data -------------------------------------------------------------------------------------------------------------


def split_of(image_size: int, validate: bool = False) -> Split:
    """Return the drawings, split as they are reported; with ``validate``, the training part of that, split again."""
    parts = split(read_drawings(image_size), TEST_FONTS, HELD_OUT)
    if not validate:
        return parts
    fonts, concepts = parts.train.fonts, parts.train.concepts
    by_font = [font in VALIDATION_FONTS for font in fonts]
    here = {concept for concept, unseen in zip(concepts, by_font, strict=True) if unseen}
    elsewhere = {concept for concept, unseen in zip(concepts, by_font, strict=True) if not unseen}
    return split(parts.train, VALIDATION_FONTS, sorted(here & elsewhere)[::EVERY])


# --- training ---------------------------------------------------------------------------------------------------------


def _trained(
    model_config: Mapping[str, Any], drawings: Drawings, settings: Mapping[str, Any], checkpoint: Path
) -> tuple[dict[str, torch.Tensor], float]:
    """Train, from the checkpoint if it is there, and return the weights and the seconds of CPU time."""
    import torch
    from open_clip import ClipLoss
    from open_clip_train.scheduler import cosine_lr
    from tqdm import trange

    context = model_config["text_cfg"]["context_length"]
    batches = Batches(drawings, context, settings["batch"], settings["seed"], settings["invert"])
    model = build(model_config, batches.tokens, settings["seed"])
    optimizer = torch.optim.AdamW(_groups(model, settings["decay"]), lr=0, betas=(0.9, 0.98), eps=1e-6)
    set_rate = cosine_lr(optimizer, settings["rate"], math.ceil(settings["steps"] / 10), settings["steps"])
    loss_of, done, before = ClipLoss(), *_resume(checkpoint, model, optimizer, settings)
    started = time.process_time()
    bar = trange(done, settings["steps"], initial=done, total=settings["steps"], desc="training", dynamic_ncols=True)
    for step in bar:
        set_rate(step)
        loss = loss_of(*model(*batches.at(step)))
        if not loss.isfinite():
            raise UserError(f"the loss is not finite at step {step}: take a lower --rate")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == settings["steps"]:
            _save(checkpoint, model, optimizer, settings, step + 1, before + time.process_time() - started)
    return model.state_dict(), before + time.process_time() - started


def build(model_config: Mapping[str, Any], tokens: torch.Tensor, seed: int) -> open_clip.CLIP:
    """Return the model at its start. The rows of the token table that no text of ``tokens`` uses are zero.

    They get no gradient and stay so: a token that was never read then says nothing but where it stands.
    """
    import open_clip
    import torch

    torch.manual_seed(seed)
    vision = {**model_config["vision_cfg"], "patch_dropout": PATCH_DROPOUT}
    model = open_clip.CLIP(**{**model_config, "vision_cfg": vision})
    unread = torch.ones(model.vocab_size, dtype=torch.bool)
    unread[tokens.unique()] = False
    model.token_embedding.weight.data[unread] = 0
    return model.train()


def _groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the parameters in two groups: matrices decay; gains, biases and the temperature do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _save(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Mapping[str, Any],
    step: int,
    seconds: float,
) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "settings": dict(settings), "step": step, "seconds": seconds}, part)
    os.replace(part, path)


def _resume(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]
) -> tuple[int, float]:
    """Take over a checkpoint, if there is one; return the steps that are done and their seconds."""
    import torch

    if not path.exists():
        return 0, 0.0
    advice = "delete it, or name another with --checkpoint"
    try:
        saved = torch.load(path, weights_only=True)
        others = {key for key, value in settings.items() if saved["settings"][key] != value}
        if others:
            raise UserError(f"the checkpoint {path} is of a training with another {min(others)}: {advice}")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        return saved["step"], saved["seconds"]
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes torch raise
        raise UserError(f"the checkpoint {path} cannot be read ({type(error).__name__}): {advice}") from error


def save_weights(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write the weights, rounded to float16."""
    from safetensors.torch import save_file

    part = path.with_name(path.name + ".part")
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, part)
    os.replace(part, path)


def _versions() -> dict[str, str]:
    import open_clip
    import torch

    processor = torch.backends.cpu.get_cpu_capability()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "processor": f"{platform.machine()} ({processor})",
    }


if __name__ == "__main__":
    sys.exit(main())
