"""What is written in two places agrees: lower bounds of dependencies, and the README's commands with those that run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import readme_commands
from packaging.requirements import Requirement

from support import ROOT
from support.modules import modules

README = """\
# A project

<!-- tests -->
```sh
echo "python is $(python -c 'import sys; print(sys.executable)')" > out
```

<!-- types -->
```sh
echo types >> out
```

<!-- a remark -->
text

<!-- main job -->

```
exit 3
echo too late > out
```
"""


ALL = ("text", "llm", "clip", "plots")
"""What the extra ``all`` stands for."""


def test_lowest_constraints_are_the_lower_bounds():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in ("all", "test", *ALL) for line in extras[extra])]
    bounds = [bound for bound in map(Requirement, lines) if bound.name != "zipeft"]
    lines = (ROOT / "tests/constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = {pin.name: pin for pin in (Requirement(line) for line in lines if line and not line.startswith("#"))}
    assert pins.keys() == {bound.name for bound in bounds}
    for bound in bounds:
        ((operator, lowest),) = [(part.operator, part.version) for part in bound.specifier]
        assert operator == ">="
        assert pins[bound.name].specifier.contains(lowest), f"{pins[bound.name]} is not the lower bound of {bound}"


def test_readme_commands_are_found_by_name():
    found = readme_commands.commands(README)
    assert list(found) == ["tests", "types", "main job"]
    assert found["tests"].startswith("echo")
    assert found["main job"] == "exit 3\necho too late > out"


def test_readme_command_runs_with_this_python_and_gives_its_status(tmp_path):
    found = readme_commands.commands(README)
    assert readme_commands.run(found["tests"], tmp_path) == 0
    assert (tmp_path / "out").read_text() == f"python is {sys.executable}\n"
    (tmp_path / "out").unlink()
    assert readme_commands.run(found["main job"], tmp_path) == 3
    assert not (tmp_path / "out").exists()


def test_ci_runs_the_readme_command(tmp_path):
    for name in (".ci/run", "tests/readme_commands.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "README.md").write_text(README.replace("echo ", "false && echo "))
    assert os.access(ROOT / ".ci/run", os.X_OK)
    run = ["bash", ".ci/run"]
    assert subprocess.run(run, cwd=tmp_path, capture_output=True).returncode == 1
    (tmp_path / "README.md").write_text(README)
    assert subprocess.run(run, cwd=tmp_path, capture_output=True).returncode == 0
    assert (tmp_path / "out").read_text().endswith("types\n")
    (tmp_path / "README.md").write_text("# Nothing")
    refused = subprocess.run(run, cwd=tmp_path, capture_output=True).stderr
    assert b"README.md and CONTRIBUTING.md have no command named tests" in refused


def test_readme_has_the_commands_that_tox_and_ci_run():
    found = readme_commands.commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"main job", "tests"} <= set(found)
    assert "pytest" in found["tests"]


def test_the_packages_that_are_installed_are_the_folders():
    """The list is kept by hand, for two of the folders lie beside the package."""
    tomllib = pytest.importorskip("tomllib")
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = set()
    for package, folder in tool["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join((package, *init.parent.relative_to(ROOT / folder).parts)))
    assert tool["packages"] == sorted(found)


def test_every_module_lies_in_a_package():
    """A folder without ``__init__.py`` is imported from a checkout, and is missing from an install."""
    for path in modules().values():
        assert (path.parent / "__init__.py").is_file(), path


def test_every_file_that_is_no_module_is_installed():
    tomllib = pytest.importorskip("tomllib")
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    data = [
        ROOT / name
        for name in tracked.split()
        if name.startswith(("zipeft/", "backbones/", "tasks/", "recipes/", "examples/zipeft-"))
    ]
    folders = {**tool["package-dir"]}
    installed = set()
    for package, patterns in tool["package-data"].items():
        base = max((name for name in folders if f"{package}.".startswith(f"{name}.")), key=len)
        folder = ROOT / folders[base] / Path(*package.removeprefix(base).strip(".").split("."))
        installed.update(path for pattern in patterns for path in folder.glob(pattern))
    assert [path for path in data if path.suffix != ".py" and path not in installed] == []


def test_the_extra_for_everything_names_what_the_lower_bounds_cover():
    tomllib = pytest.importorskip("tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert (everything.name, everything.extras) == ("zipeft", set(ALL))
