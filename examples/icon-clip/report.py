"""What the embedded CLIP can do with fonts and concepts that it never saw, as numbers, as a table and in its card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batches import TEMPLATES, tokenizer

from zipeft.tasks.coop.icon_concepts import Split, words_of
from zipeft.tasks.coop.icons import held_out_drawings

if TYPE_CHECKING:
    from PIL.Image import Image


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
        _, test = held_out_drawings()
        scores["few_shot"] = zero_shot(folder, *zip(*((one.image, one.label) for one in test), strict=True))
    return scores


def zero_shot(folder: Path, images: Sequence[Image], concepts: Sequence[str]) -> dict[str, Any]:
    """Return how often the concept of an image is the best, or among the five best, of all ``concepts``."""
    import open_clip
    import torch

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    classes = sorted(set(concepts))
    targets = torch.tensor([classes.index(concept) for concept in concepts])
    with torch.inference_mode():
        tokens = tokenizer(model.context_length)([TEMPLATES[0].format(words_of(concept)) for concept in classes])
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
`python examples/icon-clip/train.py {options}`,
{results["cpu_seconds"] / 60:.0f} minutes of CPU time on {versions["processor"]} with torch {versions["torch"]} and
open_clip {versions["open_clip"]}. SHA-256 of the weights: `{results["sha256"]}`.
"""
