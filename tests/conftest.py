"""What all tests share: fast ones see no network, no cache of the user's, one thread and fixed seeds."""

from __future__ import annotations

import errno
import os
import random
import shutil
import socket
import subprocess
import sys

import hypothesis
import pytest

from support import ROOT

# How long one example may take says more about what else the machine does than about the code.
hypothesis.settings.register_profile("zipeft", deadline=None)
hypothesis.settings.load_profile("zipeft")

LOOPBACK = ("127.0.0.1", "::1", "localhost", None)


@pytest.fixture(autouse=True)
def surroundings(request, monkeypatch, tmp_path):
    """Cut a fast test off from the network and the user's cache; a slow one has both. Seed either."""
    fast = request.node.get_closest_marker("slow") is None
    if fast:
        monkeypatch.setenv("ZIPEFT_CACHE", str(tmp_path / "zipeft-cache"))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        # Without a network the hub's client would try again for a minute. The first is for this process, where it may
        # be imported already, the second for those that a test starts.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        cut_network(monkeypatch)
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    # Where torch is not imported yet it is left so: many tests never need it, and it starts from a fixed seed anyway.
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(0)
        torch.set_num_threads(1 if fast else os.cpu_count() or 1)


def cut_network(monkeypatch):
    """Let only loopback addresses be reached, as on a machine without a network."""

    def guard(reach):
        def guarded(sock, address):
            if sock.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
                raise OSError(errno.ENETUNREACH, f"fast tests have no network (to reach {address}, mark the test slow)")
            return reach(sock, address)

        return guarded

    def getaddrinfo(host, *args, resolve=socket.getaddrinfo, **kwargs):
        if host not in LOOPBACK:
            raise socket.gaierror(socket.EAI_FAIL, f"fast tests have no network (to reach {host}, mark the test slow)")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guard(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guard(socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture(scope="session")
def example_plugin(tmp_path_factory):
    """Install the example distribution for real, and return the folder to put on the path to have it."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(ROOT / "examples/zipeft-hf-vit", folder / "source")  # builds leave files in their source
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    target = folder / "site-packages"
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", target, source], check=True)
    return target
