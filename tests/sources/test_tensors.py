"""Tensors in files of others: every format, no code run, and what is wrong with them said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from support.malicious import Malicious
from zipeft.errors import UserError
from zipeft.sources.tensors import mismatch, read_tensors

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}

WRITERS = {
    "x.safetensors": save_file,
    "x.pth": torch.save,
    "wrapped.pt": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "parallel.bin": lambda state, path: torch.save({f"module._orig_mod.{name}": t for name, t in state.items()}, path),
    "x.npz": lambda state, path: np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_tensors_that_were_saved(name, tmp_path):
    WRITERS[name](STATE, tmp_path / name)
    found = read_tensors(tmp_path / name)
    assert found.keys() == STATE.keys()
    for key, tensor in STATE.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_code_is_run(tmp_path):
    torch.save({"a": Malicious(tmp_path / "ran")}, tmp_path / "x.pth")
    assert "would run code when it is read: save the model's state_dict() alone" in refusal(tmp_path / "x.pth")
    np.savez(tmp_path / "x.npz", a=np.array([Malicious(tmp_path / "ran")], dtype=object))
    assert "x.npz' cannot be read (Object arrays" in refusal(tmp_path / "x.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 no zip", b"version https://git-lfs.github.com/spec/v1"])
def test_damaged_files_are_named(suffix, content, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 1}, {"model": {"a": "b"}}, torch.ones(3), {1: torch.ones(1)}])
def test_what_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    assert "holds no state dict: save the model's state_dict() alone" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"b": None}, "it lacks 'b'"),
        ({"b": torch.ones(3)}, "'b' is (3,), not (2,)"),
        ({"b": torch.ones(2, dtype=torch.int64)}, "'b' is of torch.int64, not torch.float16"),
        ({"b": torch.ones(2)}, ""),
        ({"c": torch.ones(1)}, "it has 'c', which the model has not"),
    ],
)
def test_mismatch_of_a_state_dict(change, said):
    state = {name: tensor for name, tensor in {**STATE, **change}.items() if tensor is not None}
    assert mismatch(state, STATE) == said
