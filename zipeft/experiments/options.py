"""The options of a run, whether they come from a sweep file or from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """What ``python -m zipeft.run`` is asked for: each field is the option of its name. None stands for what the preset
    says, or for nothing. Numbers that a setting takes stay text until the setting is known."""

    backbone: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    method: tuple[str, ...] | None = None
    variant: tuple[str, ...] = ()
    checkpoint: str | None = None
    no_pretrained: bool = False
    data_dir: Path | None = None

    preset: str = "quick"
    trials: str | None = None
    seeds: str | None = None
    epochs: str | None = None
    batch_size: str | None = None
    steps: str | None = None
    device: str = "auto"
    precision: str | None = None
    micro_batch: str | None = None
    workers: int | None = None
    checkpoint_activations: bool = False
    sharding: bool = False
    set: tuple[str, ...] = ()
    dry_run: int | None = None
    validation_only: bool = False

    results: Path = Path("results")
    redo: bool = False
    retry_failed: bool = False
    save_adapters: Path | None = None

    recipe: str | None = None

    ray: str | None = None
    ray_cpus: int | None = None
    ray_gpus: float | None = None
