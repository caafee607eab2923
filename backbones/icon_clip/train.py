"""Train the embedded CLIP on icons and their names, and report what it can do with fonts and concepts it never saw.

This is a script, run by hand; the package never imports it. So it may import ``zipeft.tasks``, which a backbone must
not.

    python backbones/icon_clip/train.py                  # trains, and writes icon_clip.safetensors and .json beside it
    python backbones/icon_clip/train.py --validate       # chooses settings: reports on other fonts and concepts

The model and the loss are open_clip's (Radford et al., arXiv 2103.00020). A batch never holds two drawings of one
concept, so no right pair is ever counted as a wrong one, and the loss is CLIP's own as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft import carriers
from zipeft.cli import ArgumentParser, exit_status
from zipeft.errors import UserError
from zipeft.tasks._icon_concepts import HELD_OUT, Drawings, Split, read_drawings, split, words_of
from zipeft.tasks._icons import TEST_FONTS, concepts_of, draw, read_glyphs

if TYPE_CHECKING:
    import open_clip
    import torch
    from PIL.Image import Image

HERE = Path(__file__).parent
CONFIG = "open_clip_config.json"
WEIGHTS, RESULTS, CARD = "icon_clip.safetensors", "icon_clip.json", "CARD.md"

TEMPLATES = ("a {} icon", "an icon of {}", "{}")
"""The texts of training; the first is that of the zero-shot classifier."""

FEW_SHOT_SIZE = 96
"""The side in pixels of the few-shot task's drawings, which the model's own preprocessing shrinks."""

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
    (options.out / CONFIG).write_text((HERE / CONFIG).read_text("utf-8"), "utf-8")
    results = {
        "zero_shot": report(options.out, parts, few_shot=not options.validate),
        "settings": settings,
        "drawings": len(parts.train.concepts),
        "concepts": len(set(parts.train.concepts)),
        "sha256": carriers.file_sha256(options.out / WEIGHTS),
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
    parser.add_argument("--out", type=Path, help="folder of what is written (default: this script's, or the cache)")
    parser.add_argument("--checkpoint", type=Path, help="file to resume from (default: in the cache)")
    options = parser.parse_args(argv)
    for name in ("steps", "batch", "rate", "threads"):
        if not 0 < getattr(options, name) < math.inf:
            raise UserError(f"--{name} must be above 0, not {getattr(options, name)}")
    if not (options.seed >= 0 and 0 <= options.decay < math.inf and 0 <= options.invert <= 1):
        raise UserError("--seed and --decay must be 0 or more, and --invert from 0 to 1")
    scratch = carriers.cache_dir() / "icon_clip"
    options.out = options.out or (scratch / "validation" if options.validate else HERE)
    options.checkpoint = options.checkpoint or scratch / ("validation.pt" if options.validate else "training.pt")
    return options


def read_config() -> dict[str, Any]:
    """Return the model's configuration, in open_clip's own format."""
    return json.loads((HERE / CONFIG).read_text("utf-8"))


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


class Batches:
    """Batches of images and texts; each is a function of the seed and the step alone, so that a training can resume.

    An epoch shows every concept once, by any one of its drawings and under any one of ``TEMPLATES``.
    """

    def __init__(self, drawings: Drawings, context_length: int, batch: int, seed: int, invert: float) -> None:
        import numpy as np
        import torch

        self.concepts, labels = np.unique(drawings.concepts, return_inverse=True)
        if batch > len(self.concepts):
            raise UserError(f"--batch {batch} is above the number of concepts, {len(self.concepts)}")
        self._rows = [np.flatnonzero(labels == label) for label in range(len(self.concepts))]
        self._ink = 1 - torch.from_numpy(drawings.pixels).float()[:, None] / 255
        texts = [template.format(words_of(concept)) for concept in self.concepts for template in TEMPLATES]
        self.tokens = _tokenizer(context_length)(texts).view(len(self.concepts), len(TEMPLATES), context_length)
        self._batch, self._seed, self._invert = batch, seed, invert

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images (batch, 3, size, size), -1 to 1, and token ids (batch, context) of a step, from 0 on.

        Torch's own generator is seeded as well, which augmentation and patch dropout draw from.
        """
        import numpy as np
        import torch

        epoch, place = divmod(step, len(self.concepts) // self._batch)
        order = np.random.default_rng([self._seed, 0, epoch]).permutation(len(self.concepts))
        chosen = order[place * self._batch : (place + 1) * self._batch]
        draws = np.random.default_rng([self._seed, 1, step])
        torch.manual_seed(int(draws.integers(2**62)))
        rows = [draws.choice(self._rows[concept]) for concept in chosen]
        templates = draws.integers(len(TEMPLATES), size=self._batch)
        return augment(self._ink[rows], self._invert), self.tokens[chosen, templates]


def augment(ink: torch.Tensor, invert: float) -> torch.Tensor:
    """Return drawings (n, 1, size, size), ink 1 and paper 0, as images (n, 3, size, size) in -1 to 1, each changed.

    Strokes get thicker or thinner by up to a pixel, then the drawing is scaled, stretched a little and shifted; some
    are inverted. Nothing is mirrored or turned: arrows have a direction.
    """
    import torch
    from torch.nn import functional as F

    count = len(ink)
    amount = torch.empty(count, 1, 1, 1).uniform_(-1, 1)
    thicker, thinner = F.max_pool2d(ink, 3, 1, 1), -F.max_pool2d(-ink, 3, 1, 1)
    ink = ink + amount.clamp(min=0) * (thicker - ink) - amount.clamp(max=0) * 0.6 * (thinner - ink)
    size = torch.empty(count, 1).uniform_(0.75, 1.15) * torch.empty(count, 2).uniform_(0.92, 1.08)
    shift = torch.empty(count, 2).uniform_(-0.1, 0.1)
    grid = F.affine_grid(torch.cat([torch.diag_embed(1 / size), shift[:, :, None]], dim=2), ink.shape, False)
    ink = F.grid_sample(ink, grid, align_corners=False)
    black_on_white = torch.where(torch.rand(count, 1, 1, 1) < invert, -1.0, 1.0)
    return ((1 - 2 * ink) * black_on_white).expand(-1, 3, -1, -1)


def _tokenizer(context_length: int) -> open_clip.SimpleTokenizer:
    import open_clip

    return open_clip.SimpleTokenizer(context_length=context_length)


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


# --- what it can do ---------------------------------------------------------------------------------------------------


def report(folder: Path, parts: Split, few_shot: bool = True) -> dict[str, dict[str, Any]]:
    """Return the zero-shot accuracies of the model in a folder, as it is stored and loaded by open_clip.

    With ``few_shot`` there is one more: the few-shot task's own drawings, larger, through the model's preprocessing.
    """
    from PIL import Image

    scores = {}
    for name in ("unseen_fonts", "unseen_concepts"):
        part = getattr(parts, name)
        images = [Image.fromarray(pixels).convert("RGB") for pixels in part.pixels]
        scores[name] = zero_shot(folder, images, part.concepts.tolist())
    if few_shot:
        groups = concepts_of(read_glyphs())
        drawings = [drawing for concept in HELD_OUT for drawing in draw(concept, groups[concept], FEW_SHOT_SIZE)]
        drawings = [drawing for drawing in drawings if drawing.name.partition(":")[0] in TEST_FONTS]
        scores["few_shot"] = zero_shot(folder, *zip(*((one.image, one.label) for one in drawings), strict=True))
    return scores


def zero_shot(folder: Path, images: Sequence[Image], concepts: Sequence[str]) -> dict[str, Any]:
    """Return how often the concept of an image is the best, or among the five best, of all ``concepts``."""
    import open_clip
    import torch

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    classes = sorted(set(concepts))
    targets = torch.tensor([classes.index(concept) for concept in concepts])
    with torch.inference_mode():
        tokens = _tokenizer(model.context_length)([TEMPLATES[0].format(words_of(concept)) for concept in classes])
        inputs = torch.stack([preprocess(image) for image in images])
        matches = model.encode_image(inputs, normalize=True) @ model.encode_text(tokens, normalize=True).T
    right = matches.topk(min(5, len(classes))).indices == targets[:, None]
    return {
        "top1": right[:, 0].float().mean().item(),
        "top5": right.any(dim=1).float().mean().item(),
        "chance": 1 / len(classes),
        "classes": len(classes),
        "images": len(images),
    }


TITLES = {
    "unseen_fonts": "concepts of training, unseen fonts",
    "unseen_concepts": "unseen concepts, unseen fonts",
    "few_shot": "the same, as the few-shot task draws them",
}


def table(zero_shot: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the accuracies as a Markdown table, in percent."""
    from tabulate import tabulate

    rows = [
        [TITLES[name], *(f"{100 * of[key]:.1f}" for key in ("top1", "top5", "chance")), of["classes"], of["images"]]
        for name, of in zero_shot.items()
    ]
    headers = ["drawings", "top-1 (%)", "top-5 (%)", "chance of top-1 (%)", "classes", "images"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def fill_card(path: Path, results: Mapping[str, Any]) -> None:
    """Put the results of a run between the marks of the model card, if there is one."""
    if path.exists():
        marks = "<!-- results -->\n", "<!-- end of results -->"
        filled = _summary(results).join(marks)
        card = re.sub(f"{marks[0]}.*?{marks[1]}", lambda _: filled, path.read_text("utf-8"), flags=re.DOTALL)
        path.write_text(card, "utf-8")


def _summary(results: Mapping[str, Any]) -> str:
    settings, versions = results["settings"], results["versions"]
    options = " ".join(f"--{name} {value}" for name, value in settings.items() if name != "validate")
    return f"""
{table(results["zero_shot"])}

{results["drawings"]:,} training drawings of {results["concepts"]:,} concepts. The run:
`python backbones/icon_clip/train.py {options}`,
{results["cpu_seconds"] / 60:.0f} minutes of CPU time on {versions["processor"]} with torch {versions["torch"]} and
open_clip {versions["open_clip"]}. SHA-256 of the weights: `{results["sha256"]}`.
"""


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
