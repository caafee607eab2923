"""Extras: what a plain install lacks is named in one line, and nothing that it has imports what it lacks."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, entry_points, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.modules import modules
from zipeft import extras, registry
from zipeft.commands import main
from zipeft.commands.common import exit_status
from zipeft.errors import UserError
from zipeft.registry import Registry

ZIPEFT = distribution("zipeft")
BY_MODULE = packages_distributions()
OPTIONAL = [extra for extra in ZIPEFT.metadata.get_all("Provides-Extra") if extra not in ("all", "test")]


def brought(extra: str) -> list[str]:
    """Return what an extra names itself, without the extras that it includes."""
    found = [Requirement(line) for line in ZIPEFT.requires]
    return [
        each.name for each in found if each.marker and each.marker.evaluate({"extra": extra}) and each.name != "zipeft"
    ]


CORE = {
    canonicalize_name(each.name) for each in map(Requirement, ZIPEFT.requires) if "extra" not in str(each.marker or "")
}


# --- what is missing is named -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", OPTIONAL)
def test_the_modules_that_an_extra_brings_are_known_as_its(extra):
    names = {canonicalize_name(name) for name in brought(extra)}
    modules_of_extra = [
        module
        for module, owners in BY_MODULE.items()
        if names & set(map(canonicalize_name, owners)) and not module.startswith("_") and module not in ("tests",)
    ]
    if not modules_of_extra:
        pytest.skip(f"{extra} is not installed")
    told = {module: extras.needed_for(f"{module}.part") for module in modules_of_extra}
    assert any(f"pip install 'zipeft[{extra}]'" in (words or "") for words in told.values())


def test_a_module_of_no_extra_is_nobodys():
    assert extras.needed_for("no_such_module") is None
    assert extras.needed_for("torch") is None  # of every install


def test_a_command_that_needs_an_extra_says_so_in_one_line(capsys):
    @exit_status
    def command() -> int:
        raise ModuleNotFoundError("No module named 'matplotlib.pyplot'", name="matplotlib.pyplot")

    assert command() == 2
    assert capsys.readouterr().err == (
        "zipeft: error: this needs matplotlib.pyplot, which the extra plots brings: pip install 'zipeft[plots]'\n"
    )


def test_a_library_that_no_extra_brings_is_a_defect():
    @exit_status
    def command() -> int:
        raise ModuleNotFoundError("No module named 'nothing'", name="nothing")

    with pytest.raises(ModuleNotFoundError):
        command()


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A distribution whose two methods need an extra that is installed, and one that is not."""
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: Acme\nVersion: 1.0\n"
        "Provides-Extra: there\nRequires-Dist: pytest; extra == 'there'\n"
        "Provides-Extra: more\nRequires-Dist: acme[there]; extra == 'more'\n"
        "Requires-Dist: no-such-one; extra == 'more'\n"
        "Requires-Dist: no-such-system; extra == 'there' and sys_platform == 'none'\n"
    )
    (info / "entry_points.txt").write_text("[zipeft.methods]\nfine = acme_m:M [there]\nlacks = acme_m:M [more]\n")
    (tmp_path / "acme_m.py").write_text(
        'from zipeft.api.method import Method\nclass M(Method):\n    """A method."""\n    def apply(self, b, m): ...\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry("method", registry.methods.base)
    sys.modules.pop("acme_m", None)


def test_a_plugin_that_needs_an_extra_says_so_in_one_line(acme):
    assert acme.get("fine").__name__ == "M"
    with pytest.raises(UserError) as raised:
        acme.get("lacks")
    assert str(raised.value) == "the method lacks needs the extra more (no-such-one): pip install 'Acme[more]'"
    row = next(row for row in acme.listing() if row.name == "lacks")
    assert row.error == row.summary == "needs the extra more (no-such-one): pip install 'Acme[more]'"


def test_a_backbone_without_its_extra_is_one_line_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != "gguf")
    assert main(["run", "--backbone", "llama", "--task", "instruct"]) == 2
    assert capsys.readouterr().err == (
        "zipeft: error: the backbone llama needs the extra llm (gguf): pip install 'zipeft[llm]'\n"
    )


def test_the_extras_of_plugins_are_there():
    named = {
        extra
        for kind in ("backbones", "tasks", "methods", "splices")
        for entry in entry_points(group=f"zipeft.{kind}")
        if entry.dist.metadata["Name"] == "zipeft"
        for extra in registry.needed_extras(entry)
    }
    assert {"text", "llm", "clip"} == named <= set(OPTIONAL)


# --- what is imported is declared -------------------------------------------------------------------------------------


def imported(tree: ast.AST, lazily: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the modules that a module imports to run, and whether only inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, lazily) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, lazily
            yield from ((f"{node.module}.{alias.name}", lazily) for alias in node.names)
        yield from imported(node, lazily or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


KNOWN = modules()
IMPORTS = {name: list(imported(ast.parse(path.read_text("utf-8")))) for name, path in KNOWN.items()}


def owners(module: str) -> set[str]:
    """Return the distributions that a module may be of; empty for the standard library and zipeft itself."""
    top = module.partition(".")[0]
    if top == "zipeft" or top in sys.stdlib_module_names:
        return set()
    return {canonicalize_name(name) for name in BY_MODULE.get(top, [top])}


def test_every_library_that_is_imported_is_declared():
    declared = CORE | {canonicalize_name(name) for extra in OPTIONAL for name in brought(extra)}
    undeclared = {
        (name, module)
        for name, found in IMPORTS.items()
        for module, _ in found
        if (names := owners(module)) and not names & declared
    }
    assert not undeclared


def test_what_a_plain_install_runs_imports_what_it_brings():
    """From the commands and the plug-ins that need no extra, along what is imported outside functions."""
    plugins = [
        entry.module
        for kind in ("backbones", "tasks", "methods", "splices")
        for entry in entry_points(group=f"zipeft.{kind}")
        if entry.dist.metadata["Name"] == "zipeft" and not registry.needed_extras(entry)
    ]
    waiting = [*plugins, "zipeft.splices", "zipeft.adapters.saved", "zipeft.experiments.experiment"]
    waiting += [name for name in KNOWN if name.startswith("zipeft.commands.")]
    seen: set[str] = set()
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            waiting += [module for module, lazily in IMPORTS[name] if not lazily and module in KNOWN]
    assert "zipeft.splices.timm_attention" in seen
    lacking = {
        (name, module)
        for name in seen
        for module, lazily in IMPORTS[name]
        if not lazily and (names := owners(module)) and not names & CORE
    }
    assert not lacking


def test_every_core_requirement_is_imported():
    used = {owner for found in IMPORTS.values() for module, _ in found for owner in owners(module)}
    assert CORE - used == set()
