"""``zipeft recipes``: the published results that there are recipes for, and what they take."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.commands.recipe_file import predicted, recipes
from zipeft.formatting import DASH

EXAMPLES = """\
examples:
  zipeft recipes
  python -m zipeft.run --recipe llama-adapter --dry-run
      what it takes, from where its weights and data come, and the numbers to be met
  python -m zipeft.run --recipe llama-adapter --data-dir ~/alpaca
"""

HEADERS = ("recipe", "what", "hardware", "method", "memory", "time")


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status."""
    from tabulate import tabulate

    options = _parser().parse_args(argv)
    print(tabulate(rows(), headers=HEADERS, tablefmt=options.format, disable_numparse=True))
    return 0


def rows() -> list[list[str]]:
    """Return a row for each method of each recipe; of a recipe without a prediction, one."""
    found, known = [], predicted()
    for recipe in recipes().values():
        methods = known.get(recipe.name) or {DASH: {"memory": DASH, "time": DASH}}
        for index, (method, costs) in enumerate(methods.items()):
            first = [recipe.name, recipe.title, recipe.hardware] if not index else ["", "", ""]
            found.append([*first, method, costs["memory"], costs["time"]])
    return found


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft recipes",
        "List recipes: sweep files for published results, with the hardware, the predicted memory of each device and "
        "the predicted time of one training of each method.",
        EXAMPLES,
    )
    parser.add_argument("--format", default="simple", choices=("simple", "github"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
