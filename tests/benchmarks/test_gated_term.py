"""What the gated term costs, as a ratio to the same term with its gate on the output and the batch folded into queries.

Run with ``pytest -m slow tests/benchmarks/test_gated_term.py``; OMP_NUM_THREADS sets the threads. The two forms take
turns, forward and backward, so that they see the same state of a busy machine, and the ratio is that of the
medians of their CPU times. Nothing is asserted of time; what is asserted is that both give the same term and gradients.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt

pytestmark = pytest.mark.slow

ROUNDS = 30

SHAPES = {  # batch, heads, key-value heads, queries, head dim
    "llama (SmolLM2-135M) 4 x 128": (4, 9, 3, 128, 64),
    "roberta (MiniLM) 16 x 128": (16, 12, 12, 128, 32),
    "vit (DINOv2-S, 112 px) 16 x 65": (16, 6, 6, 65, 64),
    "llama (7B) 1 x 512": (1, 32, 32, 512, 128),
}

Term = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def gate_on_the_output(query: Tensor, key: Tensor, value: Tensor, gate: Tensor) -> Tensor:
    """Return the term, every query copied so that keys need not be expanded over the batch."""
    batch, heads, queries, _ = query.shape
    grouped = query.unflatten(1, (len(key), heads // len(key)))
    folded = grouped.transpose(0, 1).flatten(1, 3)[None]
    out = functional.scaled_dot_product_attention(folded, key[None], value[None])[0]
    out = out.unflatten(1, (batch, grouped.shape[2], queries)).transpose(0, 1).flatten(1, 2)
    return gate.tanh().view(-1, 1, 1) * out


def module(heads: int) -> Term:
    prompt = ZeroGatedPrompt(1, heads, 1)
    del prompt.gate

    def term(query: Tensor, key: Tensor, value: Tensor, gate: Tensor) -> Tensor:
        prompt.gate = gate
        return prompt(query, lambda _: (key, value), query.shape[-1] ** -0.5)

    return term


@pytest.mark.parametrize("length", [10, 50])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_term_as_a_ratio_to_one_with_its_gate_on_the_output(capsys, shape, length):
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    torch.manual_seed(0)
    batch, heads, key_heads, queries, dim = SHAPES[shape]
    # As layers give them: the heads of a token lie side by side.
    query = torch.randn(batch, queries, heads, dim).transpose(1, 2).requires_grad_()
    key, value = torch.randn(2, key_heads, length, dim).unbind()
    inputs = (query, key.requires_grad_(), value.requires_grad_(), torch.randn(heads).requires_grad_())
    grad = torch.randn(batch, queries, heads, dim).transpose(1, 2)
    forms = {"gate on the output": gate_on_the_output, "module": module(heads)}
    times: dict[str, list[float]] = {name: [] for name in forms}
    found = {}
    for _ in range(ROUNDS):
        for name, form in forms.items():
            start = time.process_time()
            term = form(*inputs)
            gradients = torch.autograd.grad(term, inputs, grad)
            times[name].append(time.process_time() - start)
            found[name] = (term, *gradients)
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    before, now = map(median, times.values())
    with capsys.disabled():
        print(f"\n{shape}, K={length}: {now / before:.2f} of {1000 * before:.1f} ms with the gate on the output")
