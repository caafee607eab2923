"""Write what is predicted of each recipe into ``recipes/predicted.json``; with names, of those. It takes minutes.

Of recipes for several devices it writes as well, into ``recipes/devices.json``, what they take on one of these, on all
with a whole model each, and on all with the model sharded: each with and without checkpointing of activations. The
table in docs/scale.md is made from that (``tests/fill_documents.py``).
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from zipeft.commands.recipe_file import PREDICTED, Recipe, recipes
from zipeft.commands.recipe_outlook import costs, in_words, predictions
from zipeft.commands.run import _parse
from zipeft.experiments.plan import make_plan
from zipeft.prediction.training import Prediction

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
DEVICES = "devices.json"


def predict(recipe: Recipe) -> tuple[dict[str, dict[str, str]], dict[str, list[dict[str, Any]]]]:
    """Return the predicted costs of a recipe's methods, and those on other devices where it is for several."""
    options = _parse(["--recipe", recipe.name])
    found, elsewhere = {}, {}
    for comparison in make_plan(options):
        for contender, prediction in predictions(recipe, comparison, options):
            name = contender.name
            found[name] = costs(recipe, prediction)
            if recipe.devices > 1:
                elsewhere[name] = list(on_devices(recipe, prediction))
            print(recipe.name, name, found[name], *elsewhere.get(name, ()), sep="\n  ", flush=True)
    return found, elsewhere


def on_devices(recipe: Recipe, prediction: Prediction) -> list[dict[str, Any]]:
    """Return what a training takes on one device and on all, which have the whole model or share it."""
    found = []
    for count, sharded in ((1, False), (recipe.devices, False), (recipe.devices, True)):
        own = replace(prediction, devices=replace(prediction.devices, count=count, sharded=sharded))
        ways = {"plain": own.plain, "checkpointed": own.checkpointed}
        words = {way: in_words(recipe, own, cost) for way, cost in ways.items()}
        found.append({"devices": count, "sharded": sharded, **words})
    return found


def main(names: list[str]) -> None:
    for name, recipe in recipes().items():
        if recipe.gpu and (not names or name in names):
            for file, content in zip((PREDICTED, DEVICES), predict(recipe), strict=True):
                path = FOLDER / file
                known = json.loads(path.read_text("utf-8")) if path.exists() else {}
                known |= {name: content} if content else {}
                path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
