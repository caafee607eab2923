"""Random numbers that depend on what they are drawn for, and on nothing that was drawn before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawing(*key: int | str) -> Iterator[None]:
    """Let what is drawn from PyTorch's random numbers of the CPU be the key's own; afterwards they go on as before."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big"))  # torch.manual_seed would seed GPUs too
    try:
        yield
    finally:
        torch.set_rng_state(before)
