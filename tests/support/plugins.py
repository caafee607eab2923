"""Packages with plug-ins, such as the examples, and quick ways to have them installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from support import ROOT

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))


def project_of(package: Path) -> dict:
    """Return the project table of a package's ``pyproject.toml``."""
    return tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]


def entry_points_of(package: Path) -> dict[str, dict[str, str]]:
    """Return what a package names, by kind: {"backbone": {"hf_vit": "zipeft_hf_vit:HFViT"}}."""
    groups = project_of(package)["entry-points"].items()
    return {group.removeprefix("zipeft.").removesuffix("s"): named for group, named in groups}


def put(package: Path, site: Path) -> None:
    """Lay out a package in a folder as pip would, in no time: its modules, and the metadata that zipeft reads."""
    project = project_of(package)
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, named in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in named.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module in package.glob("*.py"):
        shutil.copy(module, site)


def install(packages: list[Path], folder: Path) -> Path:
    """Install packages for real, and return the folder to put on the path to have them."""
    target = folder / "site-packages"
    sources = [shutil.copytree(package, folder / "source" / package.name) for package in packages]  # builds leave files
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", target, *sources], check=True)
    return target
