"""PyTorch's own attention with projections that are layers computes the same, and they can be adapted."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from support.model_zoo import ordinary_path
from zipeft.errors import UserError
from zipeft.modules.projected_attention import ProjectedAttention, project_attention

WIDTH, HEADS, TOKENS, BATCH = 8, 2, 5, 3


def attention(**settings) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(WIDTH, HEADS, **settings).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def inputs(kind: str, batch_first: bool) -> list[torch.Tensor]:
    torch.manual_seed(1)
    shape = (
        (TOKENS, WIDTH) if kind == "unbatched" else (BATCH, TOKENS, WIDTH) if batch_first else (TOKENS, BATCH, WIDTH)
    )
    query, key, value = torch.randn(3, *shape)
    return [query, key, value] if kind == "crossed" else [query, query, query]


def masks(kind: str, name: str) -> dict:
    upper = torch.ones(TOKENS, TOKENS).triu(1).bool()
    padding = torch.arange(TOKENS) >= torch.tensor([[5], [3], [4]])
    return {
        "none": {},
        "causal": {"attn_mask": upper, "is_causal": True},
        "added": {"attn_mask": torch.randn(TOKENS, TOKENS)},
        "padding": {"key_padding_mask": padding[1] if kind == "unbatched" else padding},
        "both": {"attn_mask": upper, "key_padding_mask": padding[1] if kind == "unbatched" else padding},
    }[name]


@pytest.mark.parametrize("mask", ["none", "causal", "added", "padding", "both"])
@pytest.mark.parametrize("kind", ["self", "crossed", "unbatched"])
@pytest.mark.parametrize("settings", [{}, {"batch_first": True}, {"batch_first": True, "bias": False}], ids=repr)
def test_it_computes_what_pytorch_does(settings, kind, mask):
    known, x = attention(**settings), inputs(kind, settings.get("batch_first", False))
    found, options = ProjectedAttention(copy.deepcopy(known)), masks(kind, mask)
    for weights in ({"need_weights": False}, {"average_attn_weights": True}, {"average_attn_weights": False}):
        with ordinary_path():
            expected, of_known = known(*x, **options, **weights)
        output, of_found = found(*x, **options, **weights)
        torch.testing.assert_close(output, expected)
        assert (of_found is None) == (of_known is None)
        if of_known is not None:
            torch.testing.assert_close(of_found, of_known)
    assert {p.data_ptr() for p in ProjectedAttention(known).parameters()} == {p.data_ptr() for p in known.parameters()}


def test_without_weights_it_equals_pytorch_to_the_last_bit():
    known, (x, _, _) = attention(batch_first=True), inputs("self", True)
    with ordinary_path():
        assert torch.equal(
            ProjectedAttention(known)(x, x, x, need_weights=False)[0], known(x, x, x, need_weights=False)[0]
        )


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = attention(batch_first=True), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.attn(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (["attn"], ["0.attn.in_proj", "0.attn.out_proj", "1.attn.in_proj", "1.attn.out_proj"]),
        (["1.attn", "mlp"], ["1.attn.in_proj", "1.attn.out_proj", "mlp"]),
        (["out_proj"], ["out_proj"]),
        (["mlp"], ["mlp"]),
    ],
)
def test_updates_of_lora_are_those_of_its_formula_and_leave_the_weights(targets, layers):
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block()).requires_grad_(False)
    merged, x = copy.deepcopy(model).double(), torch.randn(2, TOKENS, WIDTH).double()
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert project_attention(model, targets) == layers
    inject_adapter_in_model(LoraConfig(r=2, target_modules=layers, init_lora_weights=False), model)
    output = model.double()(x)
    output.square().sum().backward()
    frozen = dict(merged.named_parameters())
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            a, b = (each["default"].weight for each in (module.lora_A, module.lora_B))
            weight = frozen[f"{name.replace('in_proj', 'in_proj_weight')}" + ("" if "in_proj" in name else ".weight")]
            weight.data += module.scaling["default"] * (b @ a).detach()
            assert a.grad.abs().max() > 0 < b.grad.abs().max()
    torch.testing.assert_close(output, merged(x))
    own = {name.replace("base_layer.", ""): p for name, p in model.named_parameters() if "lora_" not in name}
    for name, value in before.items():
        assert torch.equal(own.get(name, own.get(name.replace("in_proj_", "in_proj."))), value.double()), name


def test_pytorchs_encoder_layers_take_no_path_past_it():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, dropout=0.0, batch_first=True).eval()
    encoder, x = nn.TransformerEncoder(layer, 2), torch.randn(BATCH, TOKENS, WIDTH)
    padding = torch.arange(TOKENS) >= torch.tensor([[5], [3], [4]])
    with torch.no_grad():
        known = encoder(x, src_key_padding_mask=padding)
        project_attention(encoder, ["self_attn"])
        for module in encoder.modules():
            if isinstance(module, ProjectedAttention):
                module.in_proj.weight = nn.Parameter(module.in_proj.weight * 2)
        changed = encoder(x, src_key_padding_mask=padding)
        assert not torch.allclose(known[~padding], changed[~padding])


@pytest.mark.parametrize("settings", [{"kdim": 4}, {"add_bias_kv": True}, {"add_zero_attn": True}], ids=repr)
def test_attention_of_other_forms_is_refused(settings):
    with pytest.raises(UserError, match="the projections of 0 cannot be adapted"):
        project_attention(nn.Sequential(attention(**settings)), ["0"])
