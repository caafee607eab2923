"""How many parameters the methods of peft train: by the formulas of docs/methods.md, on toys and at real sizes."""

from __future__ import annotations

import re
from math import ceil, floor

import pytest
import torch

from support import ROOT
from support.injected import DECODER, INJECTED, NO_MERGE, OFFERED, frozen, trainable
from support.method_cases import slow
from support.toys import ToyEncoder, ToyViT
from zipeft import registry
from zipeft.backbones.llama.backbone import Llama
from zipeft.backbones.roberta.backbone import Roberta
from zipeft.backbones.vit.backbone import ViT
from zipeft.methods.injected import _peft_name
from zipeft.modules.projected_attention import targeted


def page() -> dict[str, list[str]]:
    """The rows of the page's table by method: source, formulas of a layer and of the model, settings, refusals."""
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    table = text.partition("<!-- formulas -->")[2].partition("<!-- end -->")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" |")] for line in table.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in rows}


def least_factor(size: int) -> int:
    """The largest divisor of a size that is no larger than its root."""
    return max(factor for factor in range(1, floor(size**0.5) + 1) if size % factor == 0)


def documented(name, backbone, model, **settings):
    """What the page says that a method trains on a model, before it is applied."""
    method = registry.methods.get(name)(**settings)
    config = method.config(backbone, model)
    _, each, once, letters, *_ = page()[name]
    value = {own: getattr(config, _peft_name(own, vars(config))) for own in method.own_settings()}
    known = {"ceil": ceil, "floor": floor, "min": min} | value
    known |= {letter: value[own] for letter, own in re.findall(r"(\w+) = (\w+)", letters) if own in value}
    changed = targeted(model, list(config.target_modules))
    known["kinds"] = len({key.rpartition(".")[2] for key in changed})
    total = 0
    for key, layer in changed.items():
        n, m = getattr(layer, "in_features", 1), getattr(layer, "out_features", 1)
        known |= {"n": n, "m": m, "a": least_factor(m), "c": least_factor(n)}
        known |= {
            "own": sum(p.numel() for p in layer.parameters()),
            "bias": int(layer.bias is not None) if n > 1 else 0,
        }
        known["ends_feed_forward"] = key in (getattr(config, "feedforward_modules", None) or ())
        total += eval(each.strip("`") or "0", known)  # noqa: S307  # of our own page
    return total + eval(once.strip("`") or "0", known)  # noqa: S307


def count(name, backbone, model, **settings):
    registry.methods.get(name)(**settings).adapt(backbone, model)
    return sum(parameter.numel() for parameter in trainable(model).values())


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        *((name, DECODER) for name in OFFERED),
        *slow((name, backbone) for name in OFFERED for backbone in (ToyViT(), ToyEncoder())),
    ],
)
def test_the_page_counts_what_trains(name, backbone):
    assert count(name, backbone, frozen(backbone).copy()) == documented(name, backbone, frozen(backbone).model)


def test_the_page_has_each_method_once_with_its_defaults_and_its_refusals():
    rows = page()
    assert sorted(rows) == sorted(INJECTED)
    for name, (_, _, _, letters, refusals) in rows.items():
        method = registry.methods.get(name)
        assert {dtype for dtype in ("int8", "nf4") if dtype in refusals} == {"int8", "nf4"} - {*method.quantised}, name
        assert ("merging" in refusals) == (name in NO_MERGE), name
        for setting, default in re.findall(r"(\w+) = ([\d.]+)", letters):
            if setting in method.own_settings():
                assert getattr(method(), setting) == float(default), (name, setting)


SIZES = {
    "vit": ViT("vit_base_patch16_224", False),
    "roberta": Roberta("roberta-large", False),
    "llama": Llama("llama-7b", False),
}
NOT_ON_META = {"frod", "shira", "unilora", "boft"}
"""Those that look at values when they start: without memory peft cannot make them."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OFFERED if name not in NOT_ON_META])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_counts_what_trains_at_real_sizes(name, size):
    backbone = SIZES[size]
    with torch.device("meta"):
        model = backbone.build().requires_grad_(False)
        expected = documented(name, backbone, model)
        assert count(name, backbone, model) == expected


ALL_BUT_OUTPUT = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")
PUBLISHED = [
    # arXiv 2310.11454, table 2: 0.043 and 0.061 million
    ("vera", Roberta("roberta-base", False), {"rank": 1024}, 43_008),
    ("vera", Roberta("roberta-large", False), {"rank": 256}, 61_440),
    # arXiv 2405.03003, tables 2 and 4: 0.024, 0.048 and 0.064 million
    ("fourierft", Roberta("roberta-base", False), {}, 24_000),
    ("fourierft", Roberta("roberta-large", False), {}, 48_000),
    ("fourierft", Llama("llama-7b", False), {}, 64_000),
    # arXiv 2402.09353, table 1: 0.84 % and 0.43 % of all parameters
    ("dora", Llama("llama-7b", False), {"rank": 32, "targets": ALL_BUT_OUTPUT}, 56_975_360),
    ("dora", Llama("llama-7b", False), {"rank": 16, "targets": ALL_BUT_OUTPUT}, 28_925_952),
    # arXiv 2404.02948: 320 million on the linear layers of LLaMA 2 7B, which has the sizes of LLaMA 7B
    (
        "pissa",
        Llama("llama-7b", False),
        {"rank": 128, "targets": (*ALL_BUT_OUTPUT, "o_proj", "gate_proj")},
        319_815_680,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone", "settings", "expected"), PUBLISHED)
def test_published_counts(name, backbone, settings, expected):
    with torch.device("meta"):
        model = backbone.build().requires_grad_(False)
        whole = sum(parameter.numel() for parameter in model.parameters())
        assert documented(name, backbone, model, **settings) == count(name, backbone, model, **settings) == expected
    if name == "dora":
        assert round(100 * expected / (whole + expected), 2) == {32: 0.84, 16: 0.43}[settings["rank"]]
