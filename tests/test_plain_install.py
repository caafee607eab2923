"""An install without extras, made of what is here: the wheel of this checkout, and links to what it requires."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support import ROOT
from support.pictures import save_noisy

pytestmark = pytest.mark.slow

BUILT = ("pyproject.toml", "README.md", "LICENSE", "zipeft", "backbones", "tasks", "examples", "recipes")


def required(names):
    """Return the distributions that others require without extras, and these require, by their names."""
    found, waiting = {}, [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        wanted = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if wanted in found:
            continue
        try:
            found[wanted] = owner = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # a part of CUDA, say, that this machine has in another form
        for line in map(Requirement, owner.requires or ()):
            if line.marker is None or any(line.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                waiting.append(line)
    return found.values()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return a function that runs Python with the modules of a plain install, away from the checkout."""
    folder = tmp_path_factory.mktemp("plain")
    source = folder / "source"
    source.mkdir()
    for name in BUILT:
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    site = folder / "site-packages"
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", site, source], check=True)
    core = [line for line in distribution("zipeft").requires if "extra ==" not in line]
    for owner in required(core):
        for top in {file.parts[0] for file in owner.files if file.parts[0] != ".."}:
            if top not in ("bin", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(owner.locate_file(top))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*arguments, cwd=folder):
        # -S: no other site-packages, and no checkout that is installed there.
        command = [sys.executable, "-S", *arguments]
        return subprocess.run(
            command, cwd=cwd, env={**environment, "PYTHONPATH": str(site)}, capture_output=True, text=True
        )

    run.site = site
    return run


def test_nothing_of_the_extras_or_the_checkout_is_there(plain):
    program = "import importlib.util as u, zipeft; print(zipeft.__file__, *map(u.find_spec, ['gguf', 'matplotlib']))"
    assert plain("-c", program).stdout == f"{plain.site}/zipeft/__init__.py None None\n"


def test_attach_joins_a_vit(plain):
    program = """
import timm, torch
from zipeft import attach, detach
model = timm.create_model("vit_tiny_patch16_224").eval().requires_grad_(False)
images = torch.randn(1, 3, 224, 224)
frozen = model(images)
print(len(attach(model, length=10, layers=4)), torch.equal(model(images), frozen))
"""
    done = plain("-c", program)
    assert done.stdout == "4 True\n", done.stderr


def test_all_is_listed_with_what_is_missing(plain):
    done = plain("-m", "zipeft", "ls")
    assert done.returncode == 0, done.stderr
    assert "BROKEN" not in done.stdout
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "pip install 'zipeft[llm]'" in lines["llama"]
    assert "pip install 'zipeft[clip]'" in lines["clip"]
    assert not [name for name in ("vit", "fgvc", "vtab", "folder", "lora") if "pip install" in lines[name]]


def test_every_method_runs_on_a_vit(plain, tmp_path):
    for label in ("red", "green"):
        for index in range(10):
            save_noisy(tmp_path / "pictures" / label / f"{index}.png", label, size=(32 + index, 32))
    command = ["-m", "zipeft.run", "--backbone", "vit", "--checkpoint", "vit_tiny_patch16_224", "--no-pretrained"]
    options = ["--task", "folder", "--data-dir", "pictures", "--method", "all", "--seeds", "1", "--steps", "1"]
    done = plain(*command, *options, "--device", "cpu", "--set", "task.image_size=32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lora" in done.stdout
    assert plain("-m", "zipeft", "leaderboard", "results", "--format", "tex", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", "--backbone", "llama", "--task", "folder"], "the backbone llama needs the extra llm"),
        (["run", "--backbone", "clip", "--task", "fewshot"], "the backbone clip needs the extra clip"),
        (["run", "--backbone", "roberta", "--task", "glue"], "the task glue needs the extra text"),
    ],
)
def test_what_needs_an_extra_says_which(plain, arguments, reason):
    done = plain("-m", "zipeft", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"zipeft: error: {reason} (")


def test_new_writes_a_package(plain, tmp_path):
    done = plain("-m", "zipeft", "new", "method", "mine", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "zipeft-mine/zipeft_mine.py").is_file()
