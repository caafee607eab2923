"""``zipeft convert``: take over adapters of LLaMA-Adapter and of peft, and give zipeft's to them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft import registry
from zipeft.api.settings import override, parse_assignments
from zipeft.commands.common import (
    ArgumentParser,
    add_backbone,
    chosen_backbone,
    command_parser,
    exit_status,
    named_backbone,
)
from zipeft.errors import UserError, printable

if TYPE_CHECKING:
    from zipeft.adapters.formats import GatedPrompts
    from zipeft.api.backbone import Backbone
    from zipeft.api.learner import Learner
    from zipeft.api.task import Task

ZIPEFT, PEFT, LLAMA_ADAPTER = "zipeft", "peft", "llama-adapter"

EXAMPLES = """\
examples:
  zipeft convert adapters/llama-instruct/alpaca/zero_gated-seed0 --to llama-adapter --gate-activation none --out out
      a checkpoint in the layout of LLaMA-Adapter, for the code that was released for inference
  zipeft convert adapters/llama-instruct/alpaca/zero_gated-seed0 --to peft --out peft-adapter
      a folder for PeftModel.from_pretrained; refused where peft cannot say the same
  zipeft convert adapter.pth --backbone llama --checkpoint ~/llama-7b --gate-activation none --out adapter
      a published checkpoint becomes an adapter for zipeft evaluate, generate and push
  zipeft convert peft-adapter --backbone llama --checkpoint mistralai/Mistral-7B-v0.3 --out adapter

A checkpoint of LLaMA-Adapter does not tell whether tanh is applied to its gates. The published training code (one gate
a head) applies it: --gate-activation tanh. The code released for inference (one gate a head) and the first version (one
gate a layer) do not: --gate-activation none, which is the default for one gate a layer.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Convert one adapter, say what came of it and return the exit status."""
    options = _parser().parse_args(argv)
    given = _format_of(options.source)
    if ZIPEFT not in (given, options.to) or given == options.to:
        raise UserError(
            f"{options.source} is in the format {given}: convert it to {_other(given)}, not to {options.to}"
        )
    _check_options(options, given)
    if options.out.exists() and (options.out.is_file() or any(options.out.iterdir())):
        raise UserError(f"{options.out} is there already: choose another folder for --out")
    lines = _export(options) if given == ZIPEFT else _import(options, given)
    print(printable("\n".join([f"{options.out}: {lines[0]}", *lines[1:]])))
    return 0


def _export(options: argparse.Namespace) -> list[str]:
    """Write an adapter of zipeft in another format; return what is to be said of it."""
    from zipeft.adapters.formats import GatedPrompts, adaption_prompt, llama_adapter
    from zipeft.adapters.saved import load_adapter

    learner, record = load_adapter(options.source, _backbone(options) if options.backbone else None)
    gated = GatedPrompts.of(learner, record.backbone.checkpoint)
    if options.to == PEFT:
        notes = adaption_prompt.write(options.out, gated, learner.model)
    else:
        notes = llama_adapter.write(options.out, gated, gate_activation=options.gate_activation)
    return [str(gated), *notes]


def _import(options: argparse.Namespace, given: str) -> list[str]:
    """Write an adapter of another format as one of zipeft; return what is to be said of it."""
    from zipeft.adapters.formats import adaption_prompt, llama_adapter
    from zipeft.adapters.record import AdapterRecord
    from zipeft.adapters.saved import save_adapter
    from zipeft.registry import Named

    backbone, task = _backbone(options), _task(options)
    if given == PEFT:
        gated = adaption_prompt.read(options.source)
    else:
        gated = llama_adapter.read(options.source, length=options.length, gate_activation=options.gate_activation)
    learner, dataset = _joined(gated, backbone, task, options.task)
    if given == PEFT:
        adaption_prompt.check(learner.model)
    record = AdapterRecord.of(
        Named(options.backbone, backbone),
        Named("zero_gated", gated.method()),
        Named(options.task, task),
        dataset,
        [],
        origin=f"{given}: {options.source.resolve().name}",
    )
    save_adapter(options.out, learner, record)
    ours = record.backbone.checkpoint
    other = gated.made_for and Path(gated.made_for).name != Path(ours).name
    return [str(gated), *([f"it says that it was made for {gated.made_for}, and has joined {ours}"] if other else [])]


def _joined(gated: GatedPrompts, backbone: Backbone, task: Task, name: str) -> tuple[Learner, str]:
    """Return a learner with the prompts, for a task in which nothing else is learnt, and the task's data set."""
    from zipeft.api.learner import build_learner

    if task.modality != backbone.modality:
        raise UserError(f"{name} is a task on {task.modality}s; the backbone takes {backbone.modality}s")
    dataset = task.datasets()[0]
    model = backbone.load()
    learner = build_learner(gated.join, backbone, model, task.objective(dataset, []), [])
    if learner.head_parameters():
        raise UserError(f"the task {name} has a head, which no other format holds: take --task instruct")
    return learner, dataset


def _backbone(options: argparse.Namespace) -> Backbone:
    return named_backbone(options, parse_assignments(options.set).get(options.backbone))


def _task(options: argparse.Namespace) -> Task:
    return override(
        registry.tasks.get(options.task), parse_assignments(options.set).get(options.task, {}), options.task
    )


def _format_of(source: Path) -> str:
    """Return the format of a file or folder. Raises ``UserError`` if it is none that is known."""
    if (source / "adapter.json").is_file():
        return ZIPEFT
    if (source / "adapter_config.json").is_file():
        return PEFT
    if source.is_file():
        return LLAMA_ADAPTER
    raise UserError(
        f"{source} is no adapter: no folder with adapter.json (zipeft) or adapter_config.json (peft), and no file "
        "(LLaMA-Adapter)"
    )


def _other(given: str) -> str:
    return f"{PEFT} or {LLAMA_ADAPTER}" if given == ZIPEFT else ZIPEFT


def _check_options(options: argparse.Namespace, given: str) -> None:
    """Raise ``UserError`` for an option that would be passed over, and for a backbone that is missing."""
    if given != ZIPEFT and not options.backbone:
        raise UserError(f"{options.source} does not hold the model that it was made for: give --backbone, --checkpoint")
    chosen_backbone(options)  # refuses what is unknown, and a checkpoint that would be passed over
    if options.length is not None and (given != LLAMA_ADAPTER or options.length < 1):
        raise UserError("--length is a number from 1, and for a checkpoint of LLaMA-Adapter alone")
    if options.gate_activation and LLAMA_ADAPTER not in (given, options.to):
        raise UserError("--gate-activation is for checkpoints of LLaMA-Adapter: peft applies nothing to a gate")
    for name in parse_assignments(options.set):
        if name not in (options.backbone, options.task):
            raise UserError(f"--set {name}...: there is no {name!r} here, only {options.backbone} and {options.task}")


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft convert",
        "Take over zero-gated prompts from LLaMA-Adapter's checkpoints and from peft, or give those of "
        "zipeft to them. What the other format cannot hold is refused.",
        EXAMPLES,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder of zipeft or peft, or a checkpoint file")
    parser.add_argument("--to", default=ZIPEFT, choices=(ZIPEFT, PEFT, LLAMA_ADAPTER), help="(default: zipeft)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for what is written")
    parser.add_argument(
        "--gate-activation",
        "--squash",  # its old name
        choices=("tanh", "none"),
        help="what LLaMA-Adapter's code does to a gate: see below",
    )
    parser.add_argument(
        "--length", type=int, metavar="K", help="tokens of each layer's prompt in a checkpoint (default: by its gates)"
    )
    add_backbone(parser, "what the adapter joins, needed to take one over")
    parser.add_argument("--task", default="instruct", metavar="NAME", help="what it is for (default: instruct)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME.SETTING=VALUE", help="a setting of either, repeatable"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
