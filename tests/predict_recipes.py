"""Write what is predicted of each recipe into ``recipes/predicted.json``; with names, of those. It takes minutes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zipeft.commands.recipe_file import PREDICTED, Recipe, recipes
from zipeft.commands.recipe_outlook import costs, predictions
from zipeft.commands.run import _parse
from zipeft.experiments.plan import make_plan

FILE = Path(__file__).resolve().parents[1] / "recipes" / PREDICTED


def predict(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Return the predicted costs of a recipe's methods."""
    options = _parse(["--recipe", recipe.name])
    plan = make_plan(options)
    found = {}
    for comparison in plan:
        for contender, prediction in predictions(recipe, comparison, options):
            found[contender.name] = costs(recipe, prediction)
            print(recipe.name, contender.name, found[contender.name], flush=True)
    return found


def main(names: list[str]) -> None:
    known = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    for name, recipe in recipes().items():
        if recipe.gpu and (not names or name in names):
            known[name] = predict(recipe)
            FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
