"""LLaMA-Adapter's checkpoints become adapters, and adapters become those."""

from __future__ import annotations

import pytest
import torch

from support.gated_adapters import (
    DEPTH,
    HEADS,
    LAYERS,
    LENGTH,
    WIDTH,
    assert_same,
    frozen,
    logits,
    published,
    refusal,
)
from support.method_cases import slow
from zipeft.adapters.saved import load_adapter, read_record

KINDS = [
    # gate, activation of the adapter, that of the code that reads the checkpoint, whether numbers stay as they are
    ("head", "tanh", "tanh", True),
    ("head", "tanh", "none", False),
    ("head", "none", None, True),
    ("layer", "none", None, True),
    ("layer", "tanh", None, False),
]


@pytest.mark.parametrize(("gate", "gate_activation", "reader", "exactly"), KINDS)
@pytest.mark.parametrize("layers", [LAYERS, *slow([DEPTH])])
def test_to_llama_adapter_and_back(gate, gate_activation, reader, exactly, layers, work, capsys):
    source = work.adapter(gate=gate, gate_activation=gate_activation, layers=layers)
    out = work.convert(source, "--to", "llama-adapter", *(["--gate-activation", reader] if reader else []))
    state = torch.load(out / "adapter.pth", weights_only=True)
    assert state["adapter_query.weight"].shape == (layers * LENGTH, WIDTH)
    shape = (1, HEADS, 1, 1) if gate == "head" else (1,)
    assert [state[f"layers.{layer}.attention.gate"].shape for layer in range(DEPTH)] == [shape] * DEPTH
    assert len(state) == DEPTH + 1
    back = work.back(out / "adapter.pth", *(["--gate-activation", reader or "none"] if gate == "head" else []))
    assert f"{LENGTH} tokens in each of the top {layers} of {DEPTH} layers" in capsys.readouterr().out
    assert_same(source, back, exactly)


@pytest.mark.parametrize("shape", [(1, HEADS, 1, 1), (1,)])
@pytest.mark.parametrize("gate_activation", ["tanh", "none"])
def test_a_published_checkpoint_means_what_its_layout_says(shape, gate_activation, work):
    """The lowest prompt stands first, and head h of a gate is the model's head h: against the terms by formula."""
    path = work.folder / "published.pth"
    applied = torch.tanh if gate_activation == "tanh" else (lambda gate: gate)
    rows, gates = published(path, shape, applied)
    learner, record = load_adapter(work.back(path, "--gate-activation", gate_activation))
    assert record.method.settings["squash"] == gate_activation
    assert record.task.name == "instruct"
    assert record.origin == "llama-adapter: published.pth"
    model = learner.model
    seen = {}
    for layer in model.model.layers:
        attention = layer.self_attn
        attention.o_proj.register_forward_hook(lambda part, args, _: seen.update({part: args[0]}))
    logits(model)
    attention = model.model.layers[DEPTH - LAYERS].self_attn  # below it nothing differs from the frozen model
    spliced = seen[attention.o_proj]
    plain = frozen(work.checkpoint)
    plain_attention = plain.model.layers[DEPTH - LAYERS].self_attn
    inputs = {}
    plain_attention.register_forward_pre_hook(lambda _, args, kwargs: inputs.update(kwargs), with_kwargs=True)
    plain_attention.o_proj.register_forward_hook(lambda part, args, _: inputs.update(result=args[0]))
    logits(plain)
    term = gated_term(plain_attention, inputs, rows[0], gates[0])
    assert torch.allclose(spliced, inputs["result"] + term, rtol=0, atol=1e-5)
    assert term.abs().max() > 0.1


@torch.no_grad()
def gated_term(attention, inputs, prompt, gate):
    """The gated term of one layer of a LLaMA, head by head: gate * softmax(q k^T / sqrt(d)) v, before o_proj."""
    hidden, (cos, sin) = inputs["hidden_states"], inputs["position_embeddings"]
    width = attention.head_dim
    queries = attention.q_proj(hidden).unflatten(-1, (HEADS, width))
    keys, values = (part(prompt).unflatten(-1, (-1, width)) for part in (attention.k_proj, attention.v_proj))
    terms = []
    for head in range(HEADS):
        query, shared = queries[:, :, head], head // attention.num_key_value_groups
        left, right = query.chunk(2, dim=-1)
        query = query * cos + torch.cat([-right, left], dim=-1) * sin
        weights = torch.softmax(query @ keys[:, shared].T / width**0.5, dim=-1)
        terms.append(gate[head % len(gate)] * (weights @ values[:, shared]))
    return torch.cat(terms, dim=-1)


def test_one_gate_a_layer_goes_without_tanh_unless_it_is_asked_for(work):
    published(work.folder / "first.pth", (1,))
    assert read_record(work.back(work.folder / "first.pth")).method.settings["squash"] == "none"


def test_the_length_can_be_given_where_no_gate_tells_it(work, capsys):
    path = work.folder / "untrained.pth"
    published(path, (1,))
    state = torch.load(path, weights_only=True)
    torch.save({name: tensor * ("query" in name) for name, tensor in state.items()}, path)
    said = refusal(capsys, path, *work.backbone, "--out", work.folder / "back")
    assert "all gates are 0): give --length" in said
    assert load_adapter(work.back(path, "--length", "10"))[1].method.settings["layers"] == 1


def edit(change):
    """A damage to a checkpoint: a change of its state."""

    def damage(path):
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return damage


LOWEST, TOP = "layers.2.attention.gate", "layers.3.attention.gate"


QUERY = "adapter_query.weight"


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:700]), (), "published.pth' cannot be read"),
        (lambda path: path.write_bytes(b"text"), (), "cannot be read"),
        (lambda path: path.unlink(), (), "is no adapter"),
        (edit(lambda state: state.pop(QUERY)), (), "it has no table adapter_query.weight"),
        (edit(lambda state: state.update({QUERY: torch.zeros(LENGTH)})), (), "it has no table"),
        (edit(lambda state: [state.pop(name) for name in list(state) if "gate" in name]), (), "has no layers.N"),
        (edit(lambda state: state.pop(LOWEST)), (), "lacks layers.2.attention.gate"),
        (edit(lambda state: state.pop(TOP)), ("--length", LENGTH), "of layers 3; that of the backbone is 4"),
        (edit(lambda state: state.update(lora=torch.zeros(1))), (), "also holds 'lora', which would be lost"),
        (edit(lambda state: state.update({QUERY: torch.zeros(0, WIDTH)})), (), "it has no table"),
        (edit(lambda state: state.update({TOP.replace("3", "999999999"): state.pop(TOP)})), (), "also holds"),
        (edit(lambda state: state.update({TOP.replace("3", "9999"): state.pop(TOP)})), (), "lacks layers.3."),
        (edit(lambda state: state.update({TOP.replace("3", "03"): state[TOP]})), (), "also holds"),
        (edit(lambda state: state.update({TOP: state[TOP].double() * 1e300})), (), "are not finite in float32"),
        (edit(lambda state: state.update({QUERY: torch.ones(1).expand(10**12, WIDTH)})), (), "larger than the file"),
        (edit(lambda state: state.update({LOWEST: state[LOWEST] * 0})), (), "10 or 5 tokens fit, as gates of lower"),
        (edit(lambda state: state.update({TOP: torch.zeros(1)})), (), "more than one shape"),
        (edit(lambda state: state.update({TOP: torch.zeros(HEADS)})), (), "a gate is (1,) or (1, heads, 1, 1)"),
        (edit(lambda state: state.update({TOP: torch.full((1, HEADS, 1, 1), torch.nan)})), (), "are not finite"),
        (edit(lambda state: state.update(epoch=3)), (), "holds no state dict"),
        (lambda path: published(path, (1, 8, 1, 1)), (), "of heads 8; that of the backbone is 4"),
        (lambda path: published(path, (1, HEADS, 1, 1), depth=6), ("--length", LENGTH), "of layers 6; that of"),
        (edit(lambda state: state.update({QUERY: torch.zeros(10, 16)})), (), "of hidden width 16; that of"),
        (None, ("--length", 4), "prompts of 4 tokens do not fit"),
        (None, ("--length", 1), "prompts of 1 tokens do not fit"),
        (None, ("--length", 10), "a gate in layer 2, but prompts of 10 tokens reach down to layer 3"),
        (None, ("--length", 0), "--length is a number from 1"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_for_the_backbone_is_refused_in_one_line(damage, options, message, work, capsys):
    path = work.folder / "published.pth"
    published(path, (1, HEADS, 1, 1))
    if damage:
        damage(path)
    out = work.folder / "back"
    assert message in refusal(capsys, path, *work.backbone, "--gate-activation", "tanh", "--out", out, *options)
    assert not out.exists()


class Shell:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_checkpoint_is_not_run(work, capsys):
    path, mark = work.folder / "evil.pth", work.folder / "was-run"
    torch.save({QUERY: Shell(str(mark))}, path)
    assert "would run code" in refusal(capsys, path, *work.backbone, "--out", work.folder / "back")
    assert not mark.exists()


def test_what_the_code_does_to_gates_has_to_be_said_where_it_is_not_known(work, capsys):
    path = work.folder / "published.pth"
    published(path, (1, HEADS, 1, 1))
    out = ("--out", work.folder / "back")
    assert "give --gate-activation tanh (the published training code), or --gate-activation none" in refusal(
        capsys, path, *work.backbone, *out
    )
    assert "give --gate-activation tanh" in refusal(capsys, work.adapter(), "--to", "llama-adapter", *out)
    without = work.adapter(gate_activation="none", gate="layer")
    assert "applies no tanh" in refusal(capsys, without, "--to", "llama-adapter", "--gate-activation", "tanh", *out)
