"""Looking around is instant: what the commands show and what libraries read needs nothing that takes long to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    *("torch", "torchvision", "timm", "transformers", "open_clip", "peft", "onnx", "safetensors", "huggingface_hub"),
    *("numpy", "scipy", "sklearn", "pandas", "datasets", "evaluate", "unearth", "openai", "tenacity", "tqdm"),
}
COMMANDS = (
    "judge --help",
    "run --help",
    "generate --help",
    "demo --help",
    "leaderboard -h",
    "--help",
    "ls",
    "ls --verbose",
)
MODULES = (
    *("zipeft", "zipeft.metrics.answers", "zipeft.metrics.tags", "zipeft.objectives.classification"),
    *("zipeft.objectives.regression", "zipeft.objectives.sequence_labelling", "zipeft.results", "zipeft.leaderboard"),
    *("zipeft.backbones.vit", "zipeft.backbones.roberta", "zipeft.backbones.llama", "zipeft.backbones.clip"),
)
PROGRAM = f"""
import sys
from importlib import import_module

def imported(step):
    print(step, *(name for name in {sorted(HEAVY)} if name in sys.modules), sep="\\t", file=sys.stderr)

for module in {MODULES}:
    import_module(module)
    imported(module)

from zipeft import registry
for plugins in (registry.backbones, registry.tasks, registry.methods):
    assert plugins.names()
    plugins.listing()
imported("registry")

from zipeft.commands import main
for command in {COMMANDS}:
    try:
        status = main(command.split())
    except SystemExit as stopped:
        status = stopped.code
    assert not status, command
    imported(command)
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What is imported after each step of one process that takes them all, and what it has printed."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path_factory.mktemp("empty"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = (line.split("\t") for line in done.stderr.splitlines())
    return {step: set(heavy) for step, *heavy in steps}, done.stdout


@pytest.mark.parametrize("step", [*MODULES, "registry", *COMMANDS])
def test_nothing_heavy_is_imported_to_look_around(step, seen):
    """What an earlier step imported is seen in each later one: the first that fails is to blame."""
    assert seen[0][step] == set()


def test_help_has_examples_of_every_command_shown(seen):
    assert seen[1].count("examples:") >= 4
    assert "zipeft generate adapters/" in seen[1]


def test_heavy_libraries_are_called_what_they_are_called():
    """The names above would stop nothing if they were others."""
    from importlib.util import find_spec

    optional = {"openai", "tenacity"}
    assert {name for name in HEAVY - optional if find_spec(name) is None} == set()
