"""Text at its real size: a training step of RoBERTa-large on SQuAD's windows, at random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zipeft.commands.run import main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "parameters"), [("zero_gated", 246_144), ("prefix", 786_432), ("full", 354_310_144)]
)
def test_roberta_large_takes_a_step_on_windows_of_squad(method, parameters, tmp_path):
    arguments = ["--backbone", "roberta", "--checkpoint", "roberta-large", "--no-pretrained", "--task", "squad"]
    arguments += ["--method", method, "--seeds", "1", "--steps", "1", "--batch-size", "2", "--device", "cpu"]
    few = {"max_length": 384, "stride": 128, "shifted": "nyt"}
    few |= {f"{split}_questions": 2 for split in ("train", "validation", "test", "shifted")}
    for name, value in few.items():
        arguments += ["--set", f"squad.{name}={value}"]
    assert main([*arguments, "--results", str(tmp_path)]) == 0
    (path,) = Path(tmp_path).rglob("*.json")
    cost = json.loads(path.read_text())["cost"]
    assert cost["trainable_parameters"] == parameters
    assert cost["head_parameters"] == 2 * 1024 + 2
    assert cost["steps"] == 1
