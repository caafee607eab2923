"""Fill the generated parts of the documents: tables of results and of plug-ins, and the picture of the packages.

A part lies between a comment that names it, such as ``<!-- table: vit-fgvc -->``, and ``<!-- end -->``. Tables of
results are those of the pages in leaderboards/, which come from the committed results. With ``--check`` nothing is
written, and the exit status is 1 if a part is not up to date.
"""

from __future__ import annotations

import argparse
import ast
import html
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from support import ROOT, attention_table, rooms, step_times, variants_table
from support.modules import modules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BOARDS = ROOT / "leaderboards"
NONE = "\N{EN DASH}"
PART = re.compile(
    r"^(?P<start><!-- (?P<kind>table|picture): (?P<name>[^\n]+?) -->\n).*?^(?P<end><!-- end -->)$", re.M | re.S
)


def documents() -> list[Path]:
    """Return the documents whose parts are generated."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str, document: Path) -> str:
    """Return a document's text with its generated parts made again. Raises ``ValueError`` for an unknown part."""
    return PART.sub(
        lambda part: f"{part['start']}\n{_content(part['kind'], part['name'], document)}\n\n{part['end']}", text
    )


def _content(kind: str, name: str, document: Path) -> str:
    if (kind, name) == ("table", "boards"):
        return boards_table(document.parent)
    if (kind, name) == ("table", "rooms"):
        return rooms.table()
    if (kind, name) == ("picture", "rooms"):
        return rooms.picture()
    if kind == "table" and name.startswith("attention"):
        return attention_table.table(name)
    if kind == "table" and name.startswith("trials, "):
        return variants_table.table(name.removeprefix("trials, "))
    if kind == "table" and name in ("backbones", "tasks", "methods", "splices"):
        return plugins_table(name, document.parent)
    if (kind, name) == ("table", "step times"):
        return step_times.table()
    if (kind, name) == ("table", "LLaMA-7B on A100s"):
        return devices_table("llama-")
    board, _, heading = name.partition(", ")
    page = BOARDS / f"{board}.md"
    if kind != "table" or not page.is_file():
        raise ValueError(f"{document.name}: there is no {kind} {name!r}")
    return "\n".join(table_under(page.read_text(encoding="utf-8"), heading or "Results"))


def table_under(page: str, heading: str) -> list[str]:
    """Return the lines of the first table under a heading. Raises ``ValueError`` if there is none."""
    found = re.search(rf"^#+ {re.escape(heading)}\n.*?\n((?:\|[^\n]*\n)+)", page, re.M | re.S)
    if not found:
        raise ValueError(f"a page has no table under {heading!r}")
    return found[1].splitlines()


def boards_table(folder: Path) -> str:
    """Return a table of methods by boards: the ranked mean and the rank, linked from ``folder`` to the board's page."""
    cells: dict[str, dict[str, str]] = {}
    names = [page.stem for page in sorted(BOARDS.glob("*.md"))]
    for board in names:
        link = os.path.relpath(ROOT / "docs" / "results" / f"{board}.md", folder)
        for method, rank, mean in _ranked(board):
            cells.setdefault(method, {})[board] = f"[{mean} ({rank})]({link})"
    titles = [board.replace("-", " on ") for board in names]
    lines = [_row("method", *titles), _row(":--", *[":-:"] * len(names))]
    rows = sorted(cells.items(), key=lambda item: (-len(item[1]), item[0]))
    return "\n".join([*lines, *(_row(method, *(row.get(board, NONE) for board in names)) for method, row in rows)])


def _ranked(board: str) -> Iterator[tuple[str, str, str]]:
    """Return method, rank and ranked mean of every row of a board that has a rank."""
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table_under((BOARDS / f"{board}.md").read_text(encoding="utf-8"), "Results")
    )
    mean = header.index("trainable parameters") - 1
    for row in rows:
        if row[1] != NONE:
            yield row[0], row[1], row[mean].strip("≈ ").partition(" ")[0]


def plugins_table(kind: str, folder: Path) -> str:
    """Return a table of the built-in plug-ins of a kind: what each is, and a link from ``folder`` to its class."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = []
    for name, entry in sorted(project["entry-points"][f"zipeft.{kind}"].items()):
        package, _, class_name = entry.partition(" ")[0].partition(":")
        path, doc = _class(package, class_name)
        rows.append(
            _row(f"[`{name}`]({os.path.relpath(path, folder)})", html.escape(doc.partition("\n")[0], quote=False))
        )
    return "\n".join([_row(kind.removesuffix("s"), "what it is"), _row(":--", ":--"), *rows])


def devices_table(prefix: str) -> str:
    """Return a table of what recipes are predicted to take on one device and on all, as recipes/devices.json has it."""
    known = json.loads((ROOT / "recipes" / "devices.json").read_text(encoding="utf-8"))
    lines = [_row("recipe", "method", "GPUs", "memory", "time", "checkpointed", "time")]
    lines.append(_row(":--", ":--", ":--", "--:", "--:", "--:", "--:"))
    for name, methods in known.items():
        for method, ways in methods.items() if name.startswith(prefix) else ():
            for way in ways:
                cells = [cell for each in ("plain", "checkpointed") for cell in _device_cells(way[each])]
                lines.append(_row(f"`{name}`", method, f"{way['devices']}{', sharded' * way['sharded']}", *cells))
    return "\n".join(lines)


def _device_cells(costs: dict[str, str]) -> tuple[str, str]:
    fits = costs["fits"] == "yes"
    return costs["memory"] if fits else f"{costs['memory']}: does not fit", costs["time"] if fits else NONE


def _class(package: str, name: str) -> tuple[Path, str]:
    """Return the file and the docstring of a class of a module, or of one of a package's modules."""
    for module, path in sorted(modules().items()):
        if module == package or module.startswith(f"{package}."):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    return path, ast.get_docstring(node) or ""
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                    return path, _longest_text(node.value)
    raise ValueError(f"there is no class {name} in {package}")


def _longest_text(made: ast.expr) -> str:
    """Return the description of a class that a function makes: the longest text among what the function is given."""
    texts = [part.value for part in ast.walk(made) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return max(texts, key=len, default="")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a part is not up to date")
    check = parser.parse_args().check
    status = 0
    for document in documents():
        before = document.read_text(encoding="utf-8")
        if (after := filled(before, document)) != before:
            status = 1 if check else 0
            done = "differs: run python tests/fill_documents.py" if check else "written"
            print(document.relative_to(ROOT), done)
            if not check:
                document.write_text(after, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
