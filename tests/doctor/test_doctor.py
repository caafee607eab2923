"""``zipeft doctor``: it says what is wrong and what to do, and neither hangs nor fails itself."""

from __future__ import annotations

import json
import math
import time

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from zipeft import registry
from zipeft.commands import doctor
from zipeft.doctor import attention, machine, self_test, surroundings
from zipeft.doctor.check import Check, looked_at
from zipeft.doctor.toys import toys
from zipeft.modules import gated_attention


def run(capsys, *argv):
    status = doctor.main(["--quick", *argv])
    return status, capsys.readouterr().out


def test_without_gpu_and_network_all_is_well_and_said(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, out = run(capsys, "--json")
    report = json.loads(out)
    found = {check["name"]: check for check in report["checks"]}
    assert (status, report["healthy"]) == (0, True)
    assert "no GPU" in found["device"]["found"]
    assert [found[name]["status"] for name in ("package index", "hub")] == ["note", "note"]
    assert "HF_HUB_OFFLINE" in found["hub"]["found"]
    for name in ("package index", "hub", "device"):
        assert found[name]["advice"]


def test_a_line_is_a_check(capsys):
    status, out = run(capsys, "--device", "cpu")
    names = [line[7:].partition(":")[0] for line in out.splitlines()]
    assert names == [
        *("packages", "torch", "device", "precision", "attention", "free memory", "CPU", "cache"),
        *("package index", "hub"),
    ]
    assert status == 0


def test_what_is_broken_and_needed_is_status_1(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZIPEFT_CACHE", str(tmp_path / "file"))
    status, out = run(capsys)
    assert status == 1
    (line,) = [line for line in out.splitlines() if line.startswith("BROKEN")]
    assert "cache" in line
    assert "set ZIPEFT_CACHE" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_broken(capsys):
    status, out = run(capsys, "--device", "cuda")
    assert status == 1
    assert "BROKEN device: no CUDA device -> leave out --device" in out


@pytest.mark.parametrize(
    ("cuda", "there", "advice"),
    [(None, False, "built for CUDA"), ("13.0", False, "update the driver"), ("13.0", True, "no kernels for")],
)
def test_a_torch_that_does_not_go_with_the_gpu_is_broken(monkeypatch, cuda, there, advice):
    monkeypatch.setattr(machine, "nvidia_driver", lambda: "550.54")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90a", "compute_90"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (12, 0))
    check = machine.build()
    assert check.status == "broken"
    assert advice in check.advice
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 6))
    assert not there or machine.build().status == "ok"


def test_a_look_that_raises_or_hangs_is_a_broken_check():
    def fail():
        raise RuntimeError("CUDA error: no kernel image\nis available")

    assert looked_at("x", fail, 5).found == "RuntimeError: CUDA error: no kernel image is available"
    start = time.monotonic()
    check = looked_at("x", lambda: time.sleep(20), 0.05)
    assert check.status == "broken"
    assert time.monotonic() - start < 10
    assert looked_at("x", lambda: Check("x", "fine"), 5).status == "ok"


def test_kernels_are_those_that_run():
    query = torch.randn(1, 2, 8, 16)
    for backend, name in ((SDPBackend.FLASH_ATTENTION, "flash"), (SDPBackend.MATH, "plain")):
        with attention.recorded() as kernels, sdpa_kernel(backend):
            scaled_dot_product_attention(query, query, query)
        assert kernels == [name]
    with sdpa_kernel(SDPBackend.MATH):
        check = attention.attention(torch.device("cpu"))
    assert (check.status, check.found.count("plain")) == ("note", 9)


def test_a_missing_requirement_is_named(monkeypatch):
    monkeypatch.setattr("zipeft.extras._is_installed", lambda name: name != "timm")
    check = surroundings.packages()
    assert (check.status, check.found) == ("broken", "without timm")


@pytest.mark.parametrize("name", toys())
def test_a_training_that_goes_another_way_is_noticed(name, monkeypatch):
    backbone = toys()[name]
    method = registry.methods.make("zero_gated_random", {"learning_rate": 0.1, "head_learning_rate": 0.1}).plugin
    with self_test.accelerated(torch.device("cpu"), "fp32") as accelerator:
        first, again = (self_test.train(backbone, method, accelerator) for _ in range(2))
        assert first.distance(again) == 0
        attend = gated_attention.attend
        monkeypatch.setattr(gated_attention, "attend", lambda query, *rest: 0.8 * attend(query, *rest))
        other = self_test.train(backbone, method, accelerator)
    assert other.distance(first) > self_test.TOLERANCES["bf16"]


@pytest.mark.parametrize(
    ("value", "status"), [(0.01, "ok"), (0.03, "broken"), (math.nan, "broken"), ("lost", "broken")]
)
def test_the_verdict_on_what_is_apart(value, status):
    check = self_test._verdict({"fp32": {"ViT lora": 0.0, "ViT full": value}}, 0, "1 s")
    assert check.status == status
    assert status == "ok" or "fp32 ViT full: " in check.found


def test_the_verdict_says_for_how_many_trainings_there_was_no_time():
    assert "no time" not in self_test._verdict({"fp32": {"ViT lora": 0.0}}, 0, "1 s").found
    assert "1 training like the CPU's in 1 s, no time for 7 more;" in (
        self_test._verdict({"fp32": {"ViT lora": 0.0}}, 7, "1 s").found
    )


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("import time; time.sleep(60)", "no end in"),
        ("import os; os.abort()", "status -6"),
        ("raise RuntimeError('no kernel image')", "RuntimeError: no kernel image"),
    ],
)
def test_a_self_test_that_hangs_or_dies_is_broken(program, found, monkeypatch):
    own = self_test.subprocess.run

    def start(command, **options):
        return own([command[0], "-c", program], **options)

    monkeypatch.setattr(self_test.subprocess, "run", start)
    monkeypatch.setattr(self_test, "SECONDS", 3)
    check = self_test.self_test(torch.device("cpu"))
    assert check.status == "broken"
    assert check.found.startswith(found)


@pytest.mark.slow
def test_the_self_test_passes_on_the_cpu():
    check = self_test.self_test(torch.device("cpu"))
    assert check.status == "ok", check
