"""The device: its driver, the build of torch, what it computes in, and the memory that is free."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil
import torch

from zipeft.doctor.check import Check
from zipeft.formatting import counted, listing, size

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(wanted: str) -> torch.device:
    """Return the device that a run with ``--device`` so would take, whether it is there or not."""
    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def nvidia_driver() -> str:
    """Return the version of NVIDIA's driver, "" where there is none."""
    if not (program := shutil.which("nvidia-smi")):
        return ""
    ask = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=5, check=False)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else ""


def build() -> Check:
    """Say what torch was built for, and whether it goes with the driver and the GPUs."""
    made_for = (torch.version.cuda and f"CUDA {torch.version.cuda}") or (
        torch.version.hip and f"ROCm {torch.version.hip}"
    )
    found = f"torch {torch.__version__}, built for {made_for or 'the CPU alone'}"
    driver = nvidia_driver()
    if driver:
        found += f"; NVIDIA driver {driver}"
    if driver and not made_for:
        return Check("torch", found, "broken", "there is a GPU: install a torch that is built for CUDA (pytorch.org)")
    if driver and not torch.cuda.is_available():
        advice = "torch cannot use the GPU: update the driver, or install a torch for an older CUDA (pytorch.org)"
        return Check("torch", found, "broken", advice)
    if torch.version.cuda and torch.cuda.is_available() and (odd := _too_new()):
        return Check("torch", found, "broken", f"it has no kernels for {odd}: install a newer torch (pytorch.org)")
    return Check("torch", found)


def _too_new() -> str:
    """Return the compute capability of a GPU for which this torch has no kernels; "" where there is none."""
    built = [
        int(name.removeprefix("sm_").rstrip("af")) for name in torch.cuda.get_arch_list() if name.startswith("sm_")
    ]
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        if not any(known // 10 == major and known % 10 <= minor for known in built):
            return f"compute capability {major}.{minor}"
    return ""


def device(wanted: torch.device) -> Check:
    """Name the device, and the others of its kind."""
    if wanted.type == "cuda":
        if not torch.cuda.is_available():
            return Check("device", "no CUDA device", "broken", "leave out --device, or see the check of torch")
        cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Check("device", listing([f"cuda:{i} {card.name}" for i, card in enumerate(cards)]))
    if wanted.type == "mps":
        there = torch.backends.mps.is_available()
        return Check("device", "mps") if there else Check("device", "no MPS device", "broken", "leave out --device")
    return Check("device", "the CPU: there is no GPU that torch can use", "note", "small models train on it")


def dtypes(where: torch.device) -> Check:
    """Say which precisions the device multiplies matrices in, and whether bfloat16 is its own."""
    known = []
    for name, dtype in DTYPES.items():
        try:
            ones = torch.ones(8, 8, device=where, dtype=dtype)
            if (ones @ ones).float().eq(8).all():
                known.append(name)
        except RuntimeError:  # how torch says that a device has no kernel for it
            continue
    slow = where.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    note = " (bf16 is emulated: take fp16)" if slow else ""
    if "fp32" not in known:
        return Check("precision", listing(known) or "none", "broken", "the device does not compute in fp32")
    return Check("precision", listing(known) + note)


def memory(where: torch.device, results: Path, cache: Path) -> Check:
    """Say how much memory is free on the device, the host, and the disks of results and cache."""
    parts = []
    if where.type == "cuda":
        free, total = torch.cuda.mem_get_info(where)
        parts.append(f"device {size(free)} of {size(total)}")
    host = psutil.virtual_memory()
    parts.append(f"host {size(host.available)} of {size(host.total)}")
    disks = {
        name: shutil.disk_usage(_existing(folder)).free for name, folder in (("results", results), ("cache", cache))
    }
    parts += [f"disk of {name} {size(free)}" for name, free in disks.items()]
    low = [name for name, free in disks.items() if free < 1e9]
    advice = f"make room on the disk of {listing(low)}" if low else ""
    return Check("free memory", ", ".join(parts), "note" if low else "ok", advice)


def threads() -> Check:
    """Say how many CPU threads torch computes with."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{counted(torch.get_num_threads(), 'thread')} of torch on {counted(usable, 'core')}"
    if torch.get_num_threads() > usable:
        return Check("CPU", found, "note", f"set OMP_NUM_THREADS={usable}: more threads than cores slow each other")
    return Check("CPU", found)


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
