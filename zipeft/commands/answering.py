"""What answers: the model of a saved adapter, or a backbone as it is, with what decides how. For several commands."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zipeft import registry
from zipeft.api.language_backbone import VisionLanguageBackbone
from zipeft.commands.common import named_backbone
from zipeft.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone
    from zipeft.api.language_backbone import LanguageBackbone
    from zipeft.api.task import Task
    from zipeft.generation.generator import TextGenerator
    from zipeft.vqa.generator import VisualGenerator

SEEING = VisionLanguageBackbone.modality
SPEAKING = ("instruction", SEEING)
AS_IT_IS = "nothing has learnt yet how one enters"


class Sampling(NamedTuple):
    """How long answers get, and how their tokens are drawn: ``drawing`` are options of ``generate`` of transformers."""

    max_new_tokens: int
    drawing: Mapping[str, Any] = {}
    seed: int = 0


def of_adapter(folder: Path, template: str | None, sampling: Sampling) -> tuple[TextGenerator, dict[str, Any]]:
    """Return what answers with a saved adapter, and the record of it that stands beside each answer.

    ``template`` None takes the one that it was trained with. Raises ``UserError`` for an adapter that says nothing,
    for one of a task without a template where none is given, and as ``load_adapter``.
    """
    from zipeft.adapters.saved import load_adapter, read_record, task_of

    record = read_record(folder)
    cls = registry.backbones.get(record.backbone.name)
    _check_speaks(cls, f"the adapter {folder}")
    sees = cls.modality == SEEING
    if sees and template is not None:
        raise UserError(f"the adapter {folder} is asked as its task asks: leave --template out")
    learner, _ = load_adapter(folder)
    task, parts = task_of(record), (learner.backbone, learner.model)
    if sees:
        enters = registry.methods.get(record.method.name).image_entry != "none"
        generator: TextGenerator = _visual(
            *parts, task, "" if enters else f"its method is {record.method.name}", sampling
        )
    else:
        given = getattr(task, "template", None) if template is None else template
        generator = _of_texts(*parts, _checked(given, f"the task of {folder}"), sampling)
    return generator, _origin(folder.resolve().name, generator, {"run": record.run})


def of_backbone(options: argparse.Namespace, sampling: Sampling) -> tuple[TextGenerator, dict[str, Any]]:
    """Return what answers with the backbone that options name, as it is, and the record of it.

    A vision-language model is its language model then: nothing has learnt how an image enters.
    """
    named = named_backbone(options)
    _check_speaks(type(named), f"the backbone {options.backbone}")
    backbone = cast("LanguageBackbone", named)  # by its modality
    model = backbone.load()
    own = "chat" if backbone.tokenizer().chat_template else "alpaca"
    template = _checked(own if options.template is None else options.template, options.backbone)
    blind = AS_IT_IS if backbone.modality == SEEING else ""
    weights = backbone.weights()
    generator = _of_texts(backbone, model, template, sampling, blind)
    return generator, _origin(weights.checkpoint, generator, {"checksum": weights.checksum} if weights.checksum else {})


def _of_texts(backbone: Any, model: nn.Module, template: str, sampling: Sampling, blind: str = "") -> TextGenerator:
    from zipeft.generation.generator import TextGenerator

    generator = TextGenerator(backbone, _placed(model), template, *sampling)
    return replace(generator, blind=blind) if blind else generator


def _visual(backbone: Any, model: nn.Module, task: Task, blind: str, sampling: Sampling) -> VisualGenerator:
    from zipeft.vqa.generator import BY_LETTERS, BY_WORDS, VisualGenerator

    template = BY_LETTERS if getattr(task, "letters", False) else BY_WORDS
    return VisualGenerator(backbone, _placed(model), template, *sampling, blind)


def _placed(model: nn.Module) -> nn.Module:
    """Return a model where it computes."""
    from zipeft.training.parallel import new_accelerator

    return model.to(new_accelerator().device)


def _origin(model: str, generator: TextGenerator, settings: dict[str, Any]) -> dict[str, Any]:
    own = {"template": generator.template, "max_new_tokens": generator.max_new_tokens}
    return {"model": model, "settings": settings | own}


def _check_speaks(cls: type[Backbone], what: str) -> None:
    if cls.modality not in SPEAKING:
        raise UserError(f"{what} takes {cls.modality}s and says nothing: take a language model, such as llama")


def _checked(template: str | None, whose: str) -> str:
    from zipeft.text import templates

    if template is None:
        raise UserError(f"{whose} has no template: name one by --template")
    try:
        templates.check(template)
    except ValueError as error:
        raise UserError(f"--template: {error}") from None
    return template
