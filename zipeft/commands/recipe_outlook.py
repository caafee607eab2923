"""``python -m zipeft.run --recipe NAME --dry-run``: all that a recipe comes to, without its data and its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tabulate import tabulate

from zipeft.api.learner import Learner, build_learner
from zipeft.commands.recipe_file import Recipe
from zipeft.experiments.comparison import Comparison, Contender
from zipeft.experiments.options import RunOptions
from zipeft.formatting import DASH, count, counted, duration, listing, size
from zipeft.objectives.default import default_objective
from zipeft.prediction.devices import device_named
from zipeft.prediction.step import StepCost
from zipeft.prediction.training import Devices, Prediction

HEADERS = ("method", "trains", "trainings", "memory", "fits", "time of one", "to be met")


def outlook(recipe: Recipe, plan: Sequence[Comparison], options: RunOptions) -> str:
    """Return what to print of a recipe that has come to a plan."""
    return "\n\n".join([_words(recipe), *(_table(recipe, comparison, options) for comparison in plan)])


def predictions(recipe: Recipe, comparison: Comparison, options: RunOptions) -> Iterator[tuple[Contender, Prediction]]:
    """Yield what each method of a comparison is predicted to take; nothing where the recipe names no device."""
    if not recipe.gpu:
        return
    backbone = replace(comparison.backbone.plugin, pretrained=False)
    devices = Devices(device_named(recipe.gpu), recipe.devices, recipe.sharded)
    asked = options.micro_batch or ""
    at_once = int(asked) if asked.isdigit() else None

    def batch(examples: int) -> Any:
        return backbone.random_batch(examples, image_size=recipe.image_size, length=recipe.length)

    def build(contender: Contender) -> Learner:
        method = contender.method
        objective = method.objective(default_objective(backbone))
        model = backbone.load()
        return build_learner(method.adapt, backbone, model, objective, ["one class", "another"])

    for contender in comparison.contenders:
        yield (
            contender,
            Prediction(partial(build, contender), batch, contender.method, comparison.protocol, devices, at_once),
        )


def costs(recipe: Recipe, prediction: Prediction) -> dict[str, str]:
    """Return the predicted "memory" of a device and "time" of a training, in words: with checkpointing where it does
    not fit without."""
    if prediction.fits(prediction.plain):
        return in_words(recipe, prediction, prediction.plain)
    found = in_words(recipe, prediction, prediction.checkpointed)
    return {**found, "memory": f"{found['memory']}, checkpointed"}


def in_words(recipe: Recipe, prediction: Prediction, cost: StepCost) -> dict[str, str]:
    """Return what a prediction makes of the cost of a step, in words."""
    hours = prediction.hours(cost, recipe.examples)
    return {
        "memory": size(prediction.peak(cost)),
        "time": duration(3600 * hours) if cost.gradients else DASH,
        "fits": "yes" if prediction.fits(cost) else "no",
        "trains": count(cost.trainables // 4),
    }


def targets(recipe: Recipe, comparison: Comparison, method: str) -> str:
    """Return the numbers that a method is to meet, by their columns, from the task's published tables."""
    row = recipe.targets.get(method, "")
    tables = [table for table in comparison.task.plugin.published if row in table.rows]
    cells = [
        f"{column} {value}" for table in tables for column, value in zip(table.columns, table.rows[row], strict=True)
    ]
    return ", ".join(cells)


def _words(recipe: Recipe) -> str:
    lines = [
        f"{recipe.name}: {recipe.title}",
        f"  source: {recipe.source}",
        f"  unsaid, and chosen: {' '.join(recipe.unsaid.split())}",
        f"  data: {recipe.data}",
        f"  weights: {recipe.weights}",
        f"  hardware: {recipe.hardware}",
    ]
    return "\n".join(lines)


def _table(recipe: Recipe, comparison: Comparison, options: RunOptions) -> str:
    protocol, seeds = comparison.protocol, list(map(str, comparison.seeds))
    at_once = f", {options.micro_batch} at once" if options.micro_batch else ""
    heading = (
        f"{comparison.backbone.name} on {comparison.task.name}: {counted(protocol.epochs, 'epoch')} in batches of "
        f"{protocol.batch_size}{at_once}, {protocol.precision}, {protocol.optimizer}; "
        f"{counted(protocol.trials, 'trial')} a method, then seeds {listing(seeds)}"
    )
    known = {each.label: costs(recipe, prediction) for each, prediction in predictions(recipe, comparison, options)}
    rows, met = [], []
    for contender in comparison.contenders:
        found = known.get(contender.label, dict.fromkeys(("trains", "memory", "fits", "time"), DASH))
        row = recipe.targets.get(contender.name, DASH)
        trainings = str(comparison.trainings)
        rows.append([contender.label, found["trains"], trainings, found["memory"], found["fits"], found["time"], row])
        if numbers := targets(recipe, comparison, contender.name):
            met.append(f"  {contender.name} is to meet {row}: {numbers}")
    table = tabulate(rows, headers=HEADERS, disable_numparse=True)
    return "\n".join([heading, table, *met])
