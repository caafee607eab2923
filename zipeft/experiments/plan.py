"""From the command line to comparisons: names are resolved and settings are checked, before anything is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any

from zipeft import registry
from zipeft.api.protocol import SEEDS, TrainingProtocol
from zipeft.api.settings import override, parse_assignments
from zipeft.api.task import Preset, Task
from zipeft.errors import UserError, did_you_mean
from zipeft.experiments.comparison import Comparison, Contender
from zipeft.experiments.options import RunOptions
from zipeft.experiments.variants import Variant, parse_variants
from zipeft.registry import Named

MOST_SEEDS = 1000
"""More is more likely to be a seed that was meant: "--seeds 1234," has the comma of a list."""

Assigned = Mapping[str, Mapping[str, str]]


def make_plan(options: RunOptions) -> list[Comparison]:
    """Return a comparison for every backbone and task that go together.

    Raises ``UserError`` for whatever is unknown or does not fit, before anything is loaded.
    """
    options = _with_sets_of_tasks(options)
    assigned = parse_assignments(options.set)
    _check_parts(assigned, options)
    if "preset" in assigned.get("protocol", {}):
        raise UserError("--set protocol.preset would change a preset's name alone: choose one by --preset")
    for one, names in (("checkpoint", options.backbone), ("data_dir", options.task)):
        if getattr(options, one) and len(names) > 1:
            flag = one.replace("_", "-")
            raise UserError(f"--{flag} fits one only; with several write --set {names[0]}.{one}=...")
    return [_comparison(backbone, task, options, assigned) for backbone, task in _pairs(options)]


def _with_sets_of_tasks(options: RunOptions) -> RunOptions:
    """Return options in which "fgvc/icons", one data set of a task, has become the task and its setting ``sets``.

    Raises ``UserError`` for a task that has no such setting.
    """
    sets: dict[str, list[str]] = {}
    for name in options.task:
        task, slash, dataset = name.partition("/")
        if slash and not dataset:
            raise UserError(f"--task {name}: name a set behind the slash, or leave it out for all")
        sets.setdefault(task, []).append(dataset)
    for task, names in sets.items():
        if any(names) and "sets" not in {field.name for field in fields(registry.tasks.get(task))}:
            named = next(filter(None, names))
            raise UserError(f"--task {task}/{named}: {task} has no sets that can be named alone; take --task {task}")
    chosen = [f"{task}.sets={','.join(names)}" for task, names in sets.items() if all(names)]
    return replace(options, task=tuple(sets), set=(*options.set, *chosen))


def _pairs(options: RunOptions) -> Iterator[tuple[str, str]]:
    """Yield the backbones and tasks that go together; say of the others that they are left out."""
    pairs = list(product(dict.fromkeys(options.backbone), dict.fromkeys(options.task)))
    fitting = 0
    for index, (backbone, task) in enumerate(pairs):
        takes, gives = registry.backbones.get(backbone).modality, registry.tasks.get(task).modality
        if takes == gives:
            fitting += 1
            yield backbone, task
            continue
        message = f"{task} is a task on {gives}s; the backbone {backbone} takes {takes}s"
        if index == len(pairs) - 1 and not fitting:
            raise UserError(f"{message} (zipeft ls lists all)")
        print(f"zipeft: left out: {message}", file=sys.stderr)


def _comparison(backbone_name: str, task_name: str, options: RunOptions, assigned: Assigned) -> Comparison:
    task_class = registry.tasks.get(task_name)
    preset = _preset(task_class, options.preset)
    flags = {"checkpoint": options.checkpoint, "pretrained": "false" if options.no_pretrained else None}
    backbone = _with(registry.backbones.get(backbone_name), ("backbone", backbone_name), flags, assigned)
    task = _with(
        task_class(**preset.task),
        ("task", task_name),
        {"data_dir": str(options.data_dir) if options.data_dir else None},
        assigned,
    )
    flags = {name: getattr(options, name) for name in ("epochs", "batch_size", "precision", "trials")}
    protocol = TrainingProtocol(preset=options.preset, **preset.protocol)
    protocol = _with(protocol, ("protocol",), {**flags, "max_steps": options.steps}, assigned)
    _check_augmentation(task_name, task, protocol)
    names = _fitting(_method_names(options, preset), task_class.modality, named=options.method not in (None, ("all",)))
    variants = _variants(options)
    _fitting([each.method for each in variants], task_class.modality, named=True)
    entering = [*(Variant("", name) for name in names), *variants]
    contenders = tuple(_contender(each, preset, protocol, assigned) for each in entering)
    seeds = tuple(range(preset.seeds)) if options.seeds is None else _seeds(options.seeds)
    if options.validation_only:
        if options.seeds is not None or not protocol.trials:
            raise UserError("--validation-only scores trials, and no seeds: give --trials 1 or more, and no --seeds")
        seeds = ()
    return Comparison(Named(backbone_name, backbone), Named(task_name, task), contenders, protocol, seeds)


def _check_augmentation(name: str, task: Task, protocol: TrainingProtocol) -> None:
    if protocol.augmentation not in task.augmentations:
        takes = " or ".join(task.augmentations)
        raise UserError(f"the task {name} cannot be augmented by {protocol.augmentation}: augmentation is {takes}")


def _variants(options: RunOptions) -> list[Variant]:
    """Return the variants that a comparison has. Raises ``UserError`` for one that is called as another part is."""
    variants = parse_variants(options.variant)
    for name in variants:
        if name in ("backbone", "task", "protocol", *options.backbone, *options.task):
            raise UserError(f"--variant {name}: another part is called so; take another name")
    return list(variants.values())


def _contender(entering: Variant, preset: Preset, protocol: TrainingProtocol, assigned: Assigned) -> Contender:
    """Return a method of a comparison, or a variant of one, which has what is set for its method too; what the user has
    set is not searched."""
    name, label = entering.method, entering.name or entering.method
    cls = registry.methods.get(name)
    whole = registry.methods.whole(name)
    settings = preset.settings.get(name, preset.settings.get(whole, {}))
    of_method = assigned.get(name, {}) if entering.name else {}
    own = {**of_method, **entering.settings}
    method = _with(cls(**settings), (label,), own, assigned)
    published = preset.spaces.get(name, preset.spaces.get(whole, cls.space))
    fixed = own.keys() | assigned.get(label, {}).keys()
    space = {setting: dimension for setting, dimension in published.items() if setting not in fixed}
    return Contender(name, method, space if protocol.trials else {}, entering.name)


def _preset(task: type[Task], name: str) -> Preset:
    if name not in task.presets:
        raise UserError(f"unknown preset {name!r}{did_you_mean(name, task.presets)} ({', '.join(task.presets)})")
    return task.presets[name]


def _method_names(options: RunOptions, preset: Preset) -> list[str]:
    asked = options.method
    if asked is None and options.variant:
        return []
    if asked is None:
        return list(preset.methods) or registry.methods.by_default()
    names = [name for part in asked for name in part.split(",") if name]
    if not names:
        raise UserError(f"--method {' '.join(asked)}: give names of methods, or all (zipeft ls methods lists them)")
    if names == ["all"]:
        return registry.methods.by_default()
    return list(dict.fromkeys(names))


def _fitting(names: Sequence[str], modality: str, named: bool) -> list[str]:
    """Return the methods that go with a kind of backbone. Raises ``UserError`` if the user ``named`` another one."""
    fitting = [name for name in names if registry.methods.get(name).goes_with(modality)]
    for name in names:
        if named and name not in fitting:
            goes = " and ".join(registry.methods.get(name).modalities)
            raise UserError(f"the method {name} goes with backbones for {goes} only, not for {modality}")
    return fitting


def _check_parts(assigned: Iterable[str], options: RunOptions) -> None:
    """Raise ``UserError`` if --set names a part that no comparison has, or that could be more than one."""
    tasks = {name: registry.tasks.get(name) for name in options.task}
    presets = [_preset(task, options.preset) for task in tasks.values()]
    variants = _variants(options)
    methods = {name for preset in presets for name in _method_names(options, preset)}
    methods |= {name for each in variants for name in (each.name, each.method)}
    parts = ["backbone", "task", "protocol", *options.backbone, *tasks, *sorted(methods)]
    for name in assigned:
        if name not in parts:
            raise UserError(f"--set {name}...: this comparison has no {name!r}{did_you_mean(name, parts)}")
        if parts.count(name) > 1:
            raise UserError(f"--set {name}...: more than one part is called {name!r}; write backbone. or task.")


def _with(target: Any, names: Sequence[str], flags: Mapping[str, str | None], assigned: Assigned) -> Any:
    """Set fields of a part, by whichever of its names, from flags and from --set; each field at most once."""
    values = {field: value for field, value in flags.items() if value is not None}
    for name in names:
        for field, value in assigned.get(name, {}).items():
            if field in values:
                raise UserError(f"{name}.{field} is set twice; keep one")
            values[field] = value
    return override(target, values, names[-1])


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        seeds = ()
    if "," not in text and len(seeds) == 1:
        seeds = tuple(range(min(seeds[0], MOST_SEEDS + 1)))
    if not seeds or len(seeds) > MOST_SEEDS:
        raise UserError(f"--seeds {text[:20]}: give a number of seeds, such as 3, or a list, such as 0,1,7")
    if not 0 <= min(seeds) <= max(seeds) < SEEDS:
        raise UserError(f"--seeds {text[:40]}: a seed is a number from 0 to {SEEDS - 1}")
    return tuple(dict.fromkeys(seeds))
