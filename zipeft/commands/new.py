"""``zipeft new``: a package with a plug-in to start from, which is one of the examples under names of your own."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zipeft import registry
from zipeft.commands.common import ArgumentParser, exit_status
from zipeft.errors import CannotWrite, UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

KINDS = {kind: f"zipeft.{kind}s" for kind in ("backbone", "task", "method", "splice")}
"""What a package can hold, and the group of its entry point."""

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")


class Names(NamedTuple):
    """The names of a package with one plug-in."""

    distribution: str
    module: str
    plugin: str
    cls: str


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 for a mistake in the input."""
    options = _parser().parse_args(argv)
    folder, names = write_package(options.kind, options.name, options.out)
    print(f"wrote {folder}; it works as it is, so try it, then edit {folder / names.module}.py:")
    print(f"  pip install -e {shlex.quote(str(folder))}\n  zipeft ls {options.kind}s {names.plugin}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="zipeft new", description="Write a package with a plug-in of your own to start from.")
    parser.add_argument("kind", choices=KINDS, help="what the plug-in is")
    parser.add_argument("name", metavar="NAME", help="what it is called on the command line, such as my_method")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to make its folder, zipeft-NAME")
    return parser


def write_package(kind: str, name: str, out: Path) -> tuple[Path, Names]:
    """Write the example of a kind of plug-in under another name, and return its folder and names.

    Raises ``UserError`` for a name that is taken or cannot be one, and for a folder that is there or cannot be written.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot be a name: take small letters, digits and underscores, such as my_{kind}")
    plugin = name.replace("-", "_")
    if plugin in getattr(registry, f"{kind}s").names():
        raise UserError(f"there is a {kind} {plugin} already: take another name (zipeft ls {kind}s lists all)")
    example, old = _example(kind)
    cls = "".join(word.capitalize() for word in plugin.split("_"))
    if old.cls.endswith(kind.capitalize()):  # beside the class that it is for
        cls = cls.removesuffix(kind.capitalize()) + kind.capitalize()
    new = Names(f"zipeft-{plugin.replace('_', '-')}", f"zipeft_{plugin}", plugin, cls)
    folder = out / new.distribution
    changes = dict(zip(old, new, strict=True))
    written = ["pyproject.toml", "README.md", f"{old.module}.py"]
    texts = {_renamed(each, changes): _renamed((example / each).read_text("utf-8"), changes) for each in written}
    try:
        folder.mkdir(parents=True)
        for file, text in texts.items():
            (folder / file).write_text(text, "utf-8")
    except FileExistsError:
        raise UserError(f"{folder} is there already: take another name, or another --out") from None
    except OSError as error:
        raise CannotWrite(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder, new


def _example(kind: str) -> tuple[Traversable, Names]:
    """Return the example with a plug-in of a kind, and its names."""
    for folder in files("zipeft.examples").iterdir():
        if (folder / "pyproject.toml").is_file():
            project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
            for plugin, value in project["entry-points"].get(KINDS[kind], {}).items():
                module, _, cls = value.partition(":")
                return folder, Names(project["name"], module, plugin, cls)
    raise UserError(f"this installation has no example of a {kind}; install zipeft again")


def _renamed(text: str, changes: Mapping[str, str]) -> str:
    """Return a text with names changed where they stand as words, the longest first."""
    names = "|".join(re.escape(name) for name in sorted(changes, key=len, reverse=True))
    text = re.sub(rf"(?<!\w)({names})(?![A-Za-z0-9])", lambda found: changes[found[0]], text)
    return text.replace("./examples/", "./")


if __name__ == "__main__":
    sys.exit(main())
