"""Joining a Ray cluster, and how many trainings its machines have room for."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import ray

from zipeft.errors import UserError
from zipeft.formatting import counted

THREADS = 4
"""The CPUs of a training, where its machine has as many: twice as many do not make it twice as fast."""


@dataclass(frozen=True)
class Slot:
    """What a training gets of a machine. ``gpus`` is at most 1; with 0.5, two trainings share one."""

    cpus: int
    gpus: float

    def __str__(self) -> str:
        cpus = counted(self.cpus, "CPU")
        return f"{cpus} and {self.gpus:g} GPU" if self.gpus else cpus

    def on(self, machine: Mapping[str, float]) -> int:
        """Return how many of it a machine with these resources has."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return int(min(machine.get(name, 0) / each + 1e-9 for name, each in wanted.items() if each))


def alive() -> list[dict[str, float]]:
    """Return the resources of each machine that is there now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_slot(cpus: int | None, gpus: float | None) -> None:
    """Raise ``UserError`` for a number that no training can get."""
    if cpus is not None and cpus < 1:
        raise UserError(f"--ray-cpus {cpus}: give each training 1 or more")
    if gpus is not None and not 0 <= gpus <= 1:
        raise UserError(f"--ray-gpus {gpus:g}: a training takes 1, or a part of one such as 0.5, or 0 for the CPU")


def slot_for(machines: list[dict[str, float]], cpus: int | None, gpus: float | None, device: str) -> Slot:
    """Return the slot of a training: a GPU where there are any, and an equal part of its machine's CPUs."""
    if gpus is None:
        gpus = float(device in ("auto", "cuda") and any(machine.get("GPU") for machine in machines))
    if device == "cuda" and not gpus:
        raise UserError("--device cuda: no machine of the cluster has a GPU, or --ray-gpus is 0")
    if cpus is None:
        suited = [machine for machine in machines if machine.get("CPU") and (not gpus or machine.get("GPU"))]
        parts = [machine["CPU"] * (gpus / machine["GPU"] if gpus else 1) for machine in suited]
        cpus = max(1, int(min([THREADS, *parts])))
    return Slot(cpus, gpus)


def join(address: str) -> None:
    """Connect to a cluster. Raises ``UserError`` if there is none at this address."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    _reach(address)
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", include_dashboard=_dashboard(address))
    except ConnectionError as error:
        message = "no Ray cluster answers: start one with `ray start --head`, or write --ray local for this machine"
        raise UserError(message) from error
    except Exception as error:  # a malformed address, another version of Ray, a start that took too long: of any class
        raise UserError(f"--ray {address}: {' '.join(str(error).split())}") from error
    if address == "local" and not ip_address(ray.util.get_node_ip_address()).is_loopback:
        ray.shutdown()
        raise UserError(
            "--ray local would open ports to the network, because something imported Ray before: start a cluster of "
            "your own with `ray start --head`, and give --ray"
        )


def _reach(address: str) -> None:
    """Raise ``UserError`` if nothing answers at host:port, of which Ray itself convinces itself for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise UserError(f"--ray {address}: no Ray cluster answers there ({error.strerror or error})") from error


def _dashboard(address: str) -> bool | None:
    """A cluster for one command needs no web page; of another one, this is not ours to say."""
    return False if address == "local" else None
