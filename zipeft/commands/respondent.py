"""The vision-language model that a benchmark's command asks: a saved adapter, or a backbone as it is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zipeft import registry
from zipeft.api.language_backbone import VisionLanguageBackbone
from zipeft.api.settings import as_json, parse_assignments
from zipeft.commands.common import add_backbone, chosen_backbone, named_backbone, positive_int
from zipeft.errors import UserError

if TYPE_CHECKING:
    from zipeft.api.backbone import Backbone
    from zipeft.benchmarks.respondent import Respondent

MODALITY = VisionLanguageBackbone.modality


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``respondent_of`` reads. ADAPTER stands where it is added among the arguments."""
    parser.add_argument("adapter", type=Path, nargs="?", metavar="ADAPTER", help="folder that --save-adapters wrote")
    add_backbone(parser, "take a backbone as it is, without an adapter, such as vlm: no image enters it")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME.SETTING=VALUE",
        help="a setting of the backbone, repeatable, such as vlm.language=llama:NAME",
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=16, metavar="N", help="questions at once (default: 16)"
    )


def check_model(options: argparse.Namespace) -> None:
    """Refuse, before anything is loaded, options of which no model can come, with a ``UserError``."""
    if bool(options.adapter) == bool(options.backbone):
        raise UserError("give the folder of an adapter, or a --backbone to take as it is")
    if options.adapter:
        chosen_backbone(options)  # refuses a checkpoint that would be passed over
        if options.set:
            raise UserError("--set goes with a --backbone; an adapter has its own settings")


def respondent_of(options: argparse.Namespace, max_new_tokens: int) -> tuple[Respondent, dict[str, Any]]:
    """Return the model, and the record of where it comes from: its ``name``, the adapter or None, the backbone.

    Raises ``UserError`` for anything but a vision-language model.
    """
    from zipeft.benchmarks.respondent import Respondent
    from zipeft.training.parallel import new_accelerator

    backbone, model, origin = _of_adapter(options.adapter) if options.adapter else _of_backbone(options)
    model = model.to(new_accelerator().device).eval()
    return Respondent(backbone, model, options.batch_size, max_new_tokens), origin


def _of_adapter(folder: Path) -> tuple[VisionLanguageBackbone, Any, dict[str, Any]]:
    from zipeft.adapters.saved import load_adapter, read_record

    record = read_record(folder)
    _check_sees(registry.backbones.get(record.backbone.name), f"the adapter {folder}")
    learner, _ = load_adapter(folder)
    adapter = {
        "folder": folder.resolve().name,
        "run": record.run,
        "method": record.method.name,
        "task": record.task.name,
        "dataset": record.task.dataset,
    }
    origin = _origin(adapter["folder"], adapter, record.backbone.name, learner.backbone)
    return cast("VisionLanguageBackbone", learner.backbone), learner.model, origin


def _of_backbone(options: argparse.Namespace) -> tuple[VisionLanguageBackbone, Any, dict[str, Any]]:
    assigned = parse_assignments(options.set)
    named = named_backbone(options, assigned.pop(options.backbone, {}))
    if assigned:
        raise UserError(f"--set {min(assigned)}...: the backbone is {options.backbone}")
    _check_sees(type(named), f"the backbone {options.backbone}")
    backbone = cast("VisionLanguageBackbone", named)  # by its modality
    return backbone, backbone.load(), _origin(options.backbone, None, options.backbone, backbone)


def _check_sees(cls: type[Backbone], what: str) -> None:
    if cls.modality != MODALITY:
        raise UserError(f"{what} takes {cls.modality}s: take one that is shown images with texts, such as vlm")


def _origin(name: str, adapter: Mapping[str, Any] | None, backbone: str, plugin: Backbone) -> dict[str, Any]:
    weights = plugin.weights()
    own = {"name": backbone, "checkpoint": weights.checkpoint, "checksum": weights.checksum}
    return {"name": name, "adapter": adapter, "backbone": {**own, "settings": as_json(plugin)}}
