"""``zipeft profile``: what methods cost on a backbone, before anything is downloaded or trained for long."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from zipeft import registry
from zipeft.api.settings import override, parse_assignments
from zipeft.commands.common import (
    ArgumentParser,
    add_backbone,
    command_parser,
    exit_status,
    fraction,
    named_backbone,
    whole,
)
from zipeft.errors import UserError
from zipeft.prediction.devices import SHARE, device_named
from zipeft.registry import Named

if TYPE_CHECKING:
    from zipeft.api.backbone import Backbone
    from zipeft.api.method import Method

EXAMPLES = """\
examples:
  zipeft profile --backbone llama --checkpoint llama-7b --meta --method full lora zero_gated --set zero_gated.layers=30
      counts what trains and what is saved, of a model that is never in memory
  zipeft profile --backbone llama --checkpoint llama-7b --meta --method zero_gated --gpu a100-80gb --devices 8 \\
      --batch-size 64 --micro-batch 4 --length 512 --examples 52002 --epochs 5
      also predicts the memory and the hours of a training, still of a model that is nowhere
  zipeft profile --backbone vit --checkpoint vit_base_patch16_224 --image-size 224 --batch-size 8
      takes some steps of every method on random pictures, at random weights
  zipeft profile --backbone vlm --meta --set vlm.language=llama:llama-7b --set vlm.vision=clip:ViT-L-14
      a language model that is shown images: prompts, gates and the images' projection are counted apart
  zipeft profile --backbone roberta --checkpoint roberta-large --length 384 --format github
"""

SIZE, SIDE = whole(1, 1_000_000), whole(1, 4096)
"""What numbers of examples, tokens and steps may be, and the pixels of a side."""

CLASSES = 10
"""Of the head, where a task would bring its own."""


@dataclass(frozen=True)
class Profile:
    """What a method costs on a backbone. ``prompts`` and ``gates`` are the part of ``trainable`` that gated prompts
    have; ``step_seconds`` and ``peak_bytes`` are None where nothing was run."""

    method: str
    trainable: int
    prompts: int
    gates: int
    head: int
    of_all: float
    adapter_bytes: int
    step_seconds: float | None = None
    peak_bytes: int | None = None


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Profile methods, print a table and return the exit status."""
    options = _parser().parse_args(argv)
    if bool(options.gpu) > options.meta:
        raise UserError("--gpu predicts by shapes alone: write --meta beside it")
    if options.gpu:
        device_named(options.gpu)  # before anything is built
    backbone, methods = _plugins(options)
    from tqdm import tqdm

    profiles = []
    with tqdm(methods, disable=None, leave=False) as bar:
        for method in bar:
            bar.set_description(method.name)
            profiles.append(_profile(method, backbone, options))
    print(_table(profiles, options.format, "projection" if backbone.modality == "image-instruction" else "head"))
    if options.gpu:
        print(f"\n{_predicted(methods, backbone, options)}")
    return 0


def _plugins(options: argparse.Namespace) -> tuple[Backbone, list[Named[Method]]]:
    """Return the backbone, at random weights, and the methods, with their settings."""
    assigned = parse_assignments(options.set)
    of_backbone = assigned.pop(options.backbone, {})
    backbone = named_backbone(options, of_backbone)
    if backbone.pretrained and "pretrained" in of_backbone:
        raise UserError("costs are those of random weights: leave out --set ...pretrained")
    backbone, modality = replace(backbone, pretrained=False), backbone.modality
    known = [name for name in registry.methods.names() if registry.methods.get(name).goes_with(modality)]
    default = [name for name in registry.methods.by_default() if name in known]
    names = default if options.method == ["all"] else options.method
    for name in names:
        if not registry.methods.get(name).goes_with(modality):
            raise UserError(
                f"the method {name} does not go with {options.backbone} (those that do: {', '.join(known)})"
            )
    methods = [Named(name, override(registry.methods.get(name), assigned.pop(name, {}), name)) for name in names]
    if assigned:
        raise UserError(f"--set {min(assigned)}...: nothing that is profiled is called so")
    return backbone, methods


def _profile(method: Named[Method], backbone: Backbone, options: argparse.Namespace) -> Profile:
    import torch

    from zipeft.adapters.saved import adapter_bytes
    from zipeft.modules.gated_attention import GatedAttention
    from zipeft.training.costs import PeakMemory

    device = torch.device("meta" if options.meta else "cpu")
    with device:
        learner = _learner(backbone, method.plugin)
    trainable = sum(parameter.numel() for parameter in learner.method_parameters().values())
    head = sum(parameter.numel() for parameter in learner.head_parameters().values())
    gated = [module for module in learner.model.modules() if isinstance(module, GatedAttention)]
    gates = sum(each.gate.numel() for each in gated)
    of_gated = sum(parameter.numel() for each in gated for parameter in each.parameters()) - gates, gates
    everything = sum(parameter.numel() for parameter in learner.model.parameters())
    profile = Profile(method.name, trainable, *of_gated, head, trainable / everything, adapter_bytes(learner))
    if options.meta:
        return profile
    batch = backbone.random_batch(options.batch_size, image_size=options.image_size, length=options.length)
    with PeakMemory(device) as memory:
        seconds = _step_seconds(learner, batch, options.steps)
    return replace(profile, step_seconds=seconds, peak_bytes=memory.bytes)


def _predicted(methods: Sequence[Named[Method]], backbone: Backbone, options: argparse.Namespace) -> str:
    """Return the table of memory and time that trainings would take, in words and numbers."""
    from tabulate import tabulate

    from zipeft.api.protocol import TrainingProtocol
    from zipeft.prediction.table import explanation, headers, prediction_rows
    from zipeft.prediction.training import Devices, Prediction

    def batch(size: int) -> Any:
        return backbone.random_batch(size, image_size=options.image_size, length=options.length)

    protocol = TrainingProtocol(epochs=options.epochs, batch_size=options.batch_size, precision=options.precision)
    devices = Devices(device_named(options.gpu), options.devices, options.shard, options.share)
    rows = []
    for method in methods:
        build = partial(_learner, backbone, method.plugin)
        prediction = Prediction(build, batch, method.plugin, protocol, devices, options.micro_batch)
        rows += prediction_rows(method.name, prediction, options.examples)
    titles = headers(options.examples)
    aligned = ("left", *["right"] * (len(titles) - 1))
    table = tabulate(rows, headers=titles, tablefmt=options.format, colalign=aligned, disable_numparse=True)
    return f"{explanation(prediction)}\n\n{table}"


def _learner(backbone: Backbone, method: Method) -> Any:
    from zipeft.api.learner import build_learner
    from zipeft.objectives.default import default_objective

    objective = method.objective(default_objective(backbone))
    classes = [f"class {index}" for index in range(CLASSES)]
    return build_learner(method.adapt, backbone, backbone.load(), objective, classes)


def _step_seconds(learner: Any, inputs: Any, steps: int) -> float | None:
    """Return the median time of an optimiser step, after one that does not count; None where nothing trains."""
    import time

    import torch

    if not (parameters := list(learner.trainable().values())):
        return None
    optimizer, seconds = torch.optim.AdamW(parameters, lr=1e-4), []
    learner.train()
    for _ in range(steps + 1):
        start = time.perf_counter()
        outputs = learner(inputs)
        optimizer.zero_grad()
        outputs.square().mean().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def _table(profiles: Sequence[Profile], style: str, head: str) -> str:
    """Return the table; times and memory also as ratios to the cheapest method's. ``head`` says what trains beside."""
    from tabulate import tabulate

    from zipeft.formatting import DASH, count, duration, size

    gated = any(profile.gates for profile in profiles)
    timed = [(p.step_seconds, p.peak_bytes) for p in profiles if p.step_seconds and p.peak_bytes is not None]
    headers = ["method", "trainable parameters", "exactly", *(["prompts", "gates"] if gated else [])]
    headers += [
        "of all (%)",
        head,
        "adapter file",
        *(["time per step", "ratio", "peak memory", "ratio"] if timed else []),
    ]
    fastest, smallest = map(min, zip(*timed, strict=True)) if timed else (0.0, 0)
    rows = []
    for profile in profiles:
        row = [profile.method, count(profile.trainable), f"{profile.trainable:,}"]
        if gated:
            row += [f"{number:,}" if number else DASH for number in (profile.prompts, profile.gates)]
        row += [f"{100 * profile.of_all:.3g}", count(profile.head), size(profile.adapter_bytes)]
        if profile.step_seconds and profile.peak_bytes is not None:
            times = [duration(profile.step_seconds), f"{profile.step_seconds / fastest:.2f}"]
            row += [*times, size(profile.peak_bytes), f"{profile.peak_bytes / smallest:.2f}"]
        elif timed:
            row += [DASH] * 4
        rows.append(row)
    aligned = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers=headers, tablefmt=style, colalign=aligned, disable_numparse=True)


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft profile",
        "Tell what methods cost on a backbone at random weights: parameters, bytes, time and memory. Every "
        "step computes the whole model: what a training keeps of frozen layers is not counted in.",
        EXAMPLES,
    )
    add_backbone(parser, "family of models, such as vit or llama")
    parser.add_argument(
        "--method",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="methods, or 'all' that run by default (default: all)",
    )
    parser.add_argument("--meta", action="store_true", help="count alone, on a model without memory")
    parser.add_argument("--batch-size", type=SIZE, default=8, metavar="N", help="(default: 8)")
    parser.add_argument("--length", type=SIZE, default=128, metavar="N", help="tokens of a text (default: 128)")
    parser.add_argument("--image-size", type=SIDE, metavar="N", help="pixels (default: 224, or the model's own)")
    parser.add_argument("--steps", type=SIZE, default=3, metavar="N", help="steps that are timed (default: 3)")
    parser.add_argument(
        "--gpu", metavar="NAME", help="predict the memory and time of trainings on it, such as a100-80gb; with --meta"
    )
    parser.add_argument("--devices", type=SIZE, default=1, metavar="N", help="how many of it (default: 1)")
    parser.add_argument("--shard", action="store_true", help="with the model sharded over them, as by run --sharding")
    parser.add_argument("--micro-batch", type=SIZE, metavar="N", help="examples that go through each at once")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "fp16"), help="(default: bf16)")
    parser.add_argument("--share", type=fraction, default=SHARE, help=f"of its peak that is reached (default: {SHARE})")
    parser.add_argument("--examples", type=SIZE, metavar="N", help="training examples, for the time of all epochs")
    parser.add_argument("--epochs", type=SIZE, default=1, metavar="N", help="(default: 1)")
    parser.add_argument("--format", default="simple", choices=("simple", "github", "latex_booktabs"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME.SETTING=VALUE", help="a setting of any part, repeatable"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
