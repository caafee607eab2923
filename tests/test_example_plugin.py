"""The example packages: each is listed, keeps its contract and runs, as does what ``zipeft new`` makes of it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from support import ROOT, TESTS
from support.plugins import EXAMPLES, entry_points_of, install, project_of, put
from zipeft import registry
from zipeft.commands import main
from zipeft.commands.new import KINDS
from zipeft.errors import UserError
from zipeft.registry import Registry

BY_KIND = {kind: package for package in EXAMPLES for kind in entry_points_of(package)}


def named(package):
    """Return kind, name, module and class of a package's one plug-in."""
    ((kind, plugins),) = entry_points_of(package).items()
    ((name, value),) = plugins.items()
    module, _, cls = value.partition(":")
    return kind, name, module, cls


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """The examples, and one package of each kind as ``zipeft new`` writes it."""
    out = tmp_path_factory.mktemp("new")
    for kind in KINDS:
        assert main(["new", kind, f"my_{kind}", "--out", str(out)]) == 0
    return [*EXAMPLES, *sorted(out.iterdir())]


@pytest.fixture(scope="session")
def site(packages, tmp_path_factory):
    """The folder to put on the path to have all packages."""
    folder = tmp_path_factory.mktemp("plugins")
    for package in packages:
        put(package, folder)
    return folder


@pytest.fixture(params=["example", "new"])
def origin(request):
    return request.param


@pytest.fixture
def plugin(site, packages, monkeypatch, origin):
    """Return a function from a kind to the class and the name of a package's plug-in, as the registry finds it."""
    monkeypatch.syspath_prepend(str(site))

    def get(kind):
        package = BY_KIND[kind] if origin == "example" else next(p for p in packages if p.name == f"zipeft-my-{kind}")
        _, name, _, _ = named(package)
        return Registry(kind, getattr(registry, f"{kind}s").base).get(name), name

    return get


@pytest.fixture
def hf_vit(plugin):
    return plugin("backbone")[0]


# --- what an example shows --------------------------------------------------------------------------------------------


def test_there_is_an_example_of_every_kind():
    assert set(BY_KIND) == set(KINDS)


@pytest.mark.parametrize("package", EXAMPLES, ids=lambda package: package.name)
def test_an_example_is_a_page_of_code_that_imports_from_zipeft_alone(package):
    (module,) = package.glob("*.py")
    assert len(module.read_text("utf-8").splitlines()) <= 100
    imported = {
        node.module
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "zipeft"
    }
    assert imported == {"zipeft"}


@pytest.mark.parametrize("package", EXAMPLES, ids=lambda package: package.name)
def test_an_example_is_named_after_its_plugin(package):
    """The names are what ``zipeft new`` changes."""
    _, name, module, _ = named(package)
    assert (package.name, module) == (f"zipeft-{name.replace('_', '-')}", f"zipeft_{name}")
    assert project_of(package)["name"] == package.name
    readme = (package / "README.md").read_text("utf-8")
    assert f"pip install ./examples/{package.name}" in readme
    assert f"`{module}.py`" in readme


def test_all_are_listed_by_name(site, packages, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    listed = {}
    for kinds in ([], ["splices"]):
        command = [sys.executable, "-m", "zipeft", "ls", *kinds]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        listed |= {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    for package in packages:
        _, name, _, _ = named(package)
        assert listed[name].endswith(f"{package.name} 0.1.0")
        assert "BROKEN" not in listed[name]


@pytest.mark.slow
def test_pip_installs_what_the_fast_tests_lay_out(site, packages, tmp_path):
    installed = install(packages, tmp_path)
    for package in packages:
        _, _, module, _ = named(package)
        (info,) = installed.glob(f"{module}-*.dist-info")
        (quick,) = site.glob(f"{module}-*.dist-info")
        assert (info / "entry_points.txt").read_text().split() == (quick / "entry_points.txt").read_text().split()
        assert (installed / f"{module}.py").read_bytes() == (site / f"{module}.py").read_bytes()


@pytest.mark.slow
def test_they_pass_the_tests_that_run_over_all_plugins(site, packages):
    """What a contributor runs: the tests of this checkout on what is installed, chosen by its name."""
    names = [named(package)[1] for package in packages]
    files = ["test_registry.py", "api/test_search.py", "backbones/test_backbones.py", "methods/test_methods.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", " or ".join(names)]
    done = subprocess.run(
        [*command, *(str(TESTS / file) for file in files)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize(
    "methods",
    [["norm_tuning", "zero_gated"], pytest.param(["all"], marks=pytest.mark.slow)],
    ids=["two", "all"],
)
def test_they_run_together_from_the_command_line(methods, site, tmp_path):
    """What a third party gets for a page of code: the whole comparison, by name, in a process of its own."""
    command = [sys.executable, "-m", "zipeft.run", "--backbone", "hf_vit", "--no-pretrained", "--task"]
    options = ["sklearn_digits", "--method", *methods, "--seeds", "1", "--steps", "1", "--device", "cpu"]
    done = subprocess.run(
        [*command, *options, "--set", "task.image_size=32"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    trained = {path.name.partition("-seed")[0] for path in (tmp_path / "results").rglob("*.json")}
    everything = {"norm_tuning", "my_method", "zero_gated", "prompt", "deep_prompt", "lora", "full", "linear"}
    assert trained >= (everything if methods == ["all"] else set(methods))


# --- zipeft new -------------------------------------------------------------------------------------------------------


def test_new_says_what_to_do_next(tmp_path, capsys):
    assert main(["new", "method", "my-method", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "zipeft-my-method"
    said = capsys.readouterr().out
    assert f"pip install -e {folder}\n" in said
    assert "zipeft ls methods my_method" in said
    assert str(folder / "zipeft_my_method.py") in said
    assert "class MyMethod(Method)" in (folder / "zipeft_my_method.py").read_text()


def test_nothing_of_the_examples_names_is_left(packages):
    for package in packages[len(EXAMPLES) :]:
        (kind,) = entry_points_of(package)
        _, name, module, cls = named(BY_KIND[kind])
        for file in package.iterdir():
            text = file.read_text("utf-8")
            assert not [old for old in (name, module, cls, BY_KIND[kind].name, "examples/") if old in text]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["method", "lora"], "there is a method lora already: take another name (zipeft ls methods lists all)"),
        (["method", "My Method"], "'My Method' cannot be a name: take small letters, digits and underscores"),
        (["method", "there"], "is there already: take another name, or another --out"),
        (["method"], "the following arguments are required: NAME (see zipeft new --help)"),
        (["mehtod", "mine"], "invalid choice: 'mehtod'"),
        (["method", "mine", "--out", "file"], "cannot be written: Not a directory"),
    ],
)
def test_what_cannot_be_new_is_one_line(arguments, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zipeft-there").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(["new", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("zipeft: error: ")
    assert error.count("\n") == 1
    assert reason in error
    assert sorted(tmp_path.rglob("*")) == before


# --- the task ---------------------------------------------------------------------------------------------------------


def test_the_task_splits_its_data_by_class_and_seed(plugin):
    from support.toys import split_of

    task, name = plugin("task")
    data = task().load(*task().datasets())
    parts = {split: split_of(data, split) for split in ("train", "validation", "test")}
    assert (data.name, len(data.classes)) == (name, 10)
    assert [len(part) for part in parts.values()] == [1293, 144, 360]
    assert sum(map(len, parts.values())) == len({name for part in parts.values() for name in part.names})
    for part in parts.values():
        counts = Counter(part.targets)
        assert set(counts) == set(range(10))
        assert max(counts.values()) <= 1.2 * min(counts.values())
    again, other = task().load(name), task(split_seed=1).load(name)
    assert list(again.train.names) == list(data.train.names) != list(other.train.names)
    assert again.checksum == data.checksum == other.checksum
    assert parts["train"].examples[0].size == (8, 8)


def test_the_task_refuses_what_it_does_not_have(plugin, tmp_path):
    task, _ = plugin("task")
    with pytest.raises(UserError, match="drop --data-dir"):
        task(data_dir=tmp_path).datasets()
    with pytest.raises(UserError, match="there is no data set 'letters', only"):
        task().load("letters")


# --- the method -------------------------------------------------------------------------------------------------------


def test_the_method_lets_the_normalisation_layers_train_in_float32(plugin):
    import torch

    from support.toys import ToyViT

    method, name = plugin("method")
    backbone = ToyViT()
    model = backbone.build().requires_grad_(False).bfloat16()
    method().apply(backbone, model)
    trained = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(trained) == {key for key, _ in model.named_parameters() if "norm" in key}
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    with pytest.raises(UserError, match=f"^{name}: Linear has no normalisation layer"):
        method().apply(backbone, torch.nn.Linear(2, 2))


# --- the splice -------------------------------------------------------------------------------------------------------


def test_the_splice_joins_its_attention_by_equation_7(plugin):
    import torch
    from torch import nn

    from support.model_zoo import randomise_prompts
    from zipeft import attach, detach

    splice, _ = plugin("splice")
    layer = importlib.import_module(splice.__module__).PlainAttention
    torch.manual_seed(0)
    model = nn.Sequential(layer(12, 3), layer(12, 3)).double().requires_grad_(False)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    frozen = model(x)
    prompts = attach(model, length=4, splices=[splice])
    assert len(prompts) == 2
    assert torch.equal(model(x), frozen)
    randomise_prompts(prompts)
    expected = x
    for attention, prompt in zip(model, prompts, strict=True):
        expected = reference(attention, prompt, expected)
    torch.testing.assert_close(model(x), expected, atol=1e-12, rtol=1e-12)
    detach(model)
    assert torch.equal(model(x), frozen)


def reference(attention, prompt, x):
    """Two softmaxes, of which the prompt's one is gated, head by head."""
    import torch
    from torch.nn.functional import linear

    def project(layer, x):
        return linear(x, layer.weight, layer.bias)  # the layer itself has hooks

    width = x.shape[-1] // attention.heads
    results = []
    for head in range(attention.heads):
        part = slice(head * width, (head + 1) * width)
        query = project(attention.query, x)[..., part]
        result = torch.zeros_like(query)
        for source, gate in ((x, 1.0), (prompt.prompt.double(), prompt.gate[head].tanh().double())):
            key, value = (project(layer, source)[..., part] for layer in (attention.key, attention.value))
            scores = query @ key.transpose(-1, -2) / width**0.5
            result = result + gate * torch.softmax(scores, -1) @ value
        results.append(result)
    return project(attention.output, torch.cat(results, -1))


def test_attach_finds_the_splice_by_itself(plugin, monkeypatch):
    from zipeft import attach

    splice, _ = plugin("splice")
    layer = importlib.import_module(splice.__module__).PlainAttention
    monkeypatch.setattr(registry, "splices", Registry("splice", "zipeft.api.splice:AttentionSplice"))
    assert len(attach(layer(8, 2))) == 1


# --- the backbone -----------------------------------------------------------------------------------------------------


def test_features_of_a_random_model(hf_vit):
    import torch

    backbone = hf_vit(pretrained=False)
    model = backbone.build()
    for size in (64, 96):  # the configuration's own size, and one that the position table is resized to
        features = backbone.features(model, torch.randn(2, 3, size, size))
        assert features.shape == (2, backbone.width(model))
        assert torch.isfinite(features).all()
        assert not torch.equal(features[0], features[1])
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (backbone.weights().source, backbone.weights().checksum) == ("random", "")


def test_random_weights_are_the_same_every_time(hf_vit):
    import torch

    first, second = (hf_vit(pretrained=False).build().state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_blocks_are_what_the_data_pass_in_order(hf_vit):
    import torch

    backbone = hf_vit(pretrained=False)
    model = backbone.build()
    blocks = list(backbone.blocks(model))
    passed = []
    for block in blocks:
        block.register_forward_hook(lambda block, inputs, output: passed.append((block, inputs[0].shape, output)))
    backbone.features(model, torch.randn(1, 3, 64, 64))
    assert [block for block, _, _ in passed] == blocks
    tokens = backbone.leading_tokens(model) + (64 // 16) ** 2
    assert {shape for _, shape, _ in passed} == {(1, tokens, backbone.width(model))}
    assert all(output.shape == (1, tokens, backbone.width(model)) for _, _, output in passed)


def test_lora_adapts_two_layers_a_block(hf_vit):
    from peft import LoraConfig, inject_adapter_in_model

    backbone = hf_vit(pretrained=False)
    model = backbone.build()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=list(backbone.lora_targets)), model)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 2 * len(backbone.blocks(model))


def test_image_transform_normalises(hf_vit):
    from PIL import Image

    transform = hf_vit(pretrained=False).image_transform(32)
    white = transform(Image.new("RGB", (32, 32), "white"))
    assert white.shape == (3, 32, 32)
    assert white.min() == white.max() == 1.0


def test_checkpoint_folder_is_loaded_and_recorded(hf_vit, tmp_path):
    import torch
    from transformers import ViTImageProcessor

    model = hf_vit(pretrained=False).build()
    with torch.no_grad():
        model.layernorm.bias.fill_(3.0)
    model.save_pretrained(tmp_path)
    ViTImageProcessor(image_mean=[0.0] * 3, image_std=[1.0] * 3).save_pretrained(tmp_path)
    backbone = hf_vit(checkpoint=str(tmp_path))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(backbone.features(backbone.build(), images), backbone.features(model, images))
    assert backbone.weights().source == "local folder"
    before = backbone.weights().checksum
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.5}))
    assert len(before) == 64
    assert backbone.weights().checksum != before
    shape_alone = hf_vit(checkpoint=str(tmp_path), pretrained=False).build()
    assert not torch.equal(shape_alone.layernorm.bias, model.layernorm.bias)


def test_checkpoint_that_cannot_be_had_is_one_line(hf_vit, tmp_path):
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    reasons = {"no/such-model": "cannot be loaded", "a/b/c": "cannot be loaded", str(tmp_path): "is a bert"}
    for checkpoint, reason in reasons.items():
        for act in (hf_vit(checkpoint=checkpoint).build, hf_vit(checkpoint=checkpoint, pretrained=False).weights):
            with pytest.raises(UserError, match=reason) as raised:
                act()
            assert repr(checkpoint) in str(raised.value)
            assert "\n" not in str(raised.value)
