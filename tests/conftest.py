"""What all tests share: fast ones see no network, no cache of the user's, one thread and fixed seeds."""

from __future__ import annotations

import errno
import gc
import os
import random
import socket
import sys
from pathlib import Path

import hypothesis
import pytest

# How long one example may take says more about what else the machine does than about the code. The profile "thorough"
# is for tox's slow tests.
hypothesis.settings.register_profile("fast", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=300)
hypothesis.settings.load_profile("fast")

LOOPBACK = ("127.0.0.1", "::1", "localhost", None)


def pytest_configure(config):
    """Keep the tests of a file in one of several processes: they share what takes long to make."""
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadfile"


def pytest_collection_finish():
    """Let autograd begin while there is no device but the CPU. After a test with fake tensors, which stand for those
    of any device, its first step would start threads, and forks of the process could take no other."""
    if "torch" in sys.modules:
        sys.modules["torch"].ones(1, requires_grad=True).sum().backward()


class HiddenModules:
    """Modules that are out of the garbage collector's sight: each training collects twice, at up to half a second each
    time if all modules of PyTorch and others are gone through."""

    def __init__(self) -> None:
        self.number = 0

    def extend(self) -> None:
        """Hide what is imported by now, once it is much more than before."""
        if len(sys.modules) > self.number + 100:
            gc.collect()
            gc.freeze()
            self.number = len(sys.modules)


hidden_modules = HiddenModules()


class Surroundings:
    """What cuts fast tests off from the network and the user's cache; it stays from one to the next, for it takes
    longer to put up than most of them run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tests = folder, 0
        self.patches: pytest.MonkeyPatch | None = None

    def cut_off(self) -> None:
        """Cut a test off. Each has a cache of its own, in a folder that is made if it is used."""
        if self.patches is None:
            self.patches = pytest.MonkeyPatch()
            self.patches.setenv("OMP_NUM_THREADS", "1")
            # Without a network the hub's client would try again for a minute. The first is for this process, where it
            # may be imported already, the second for those that a test starts.
            self.patches.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
            self.patches.setenv("HF_HUB_OFFLINE", "1")
            self.patches.setenv("ZIPEFT_CACHE", "")
            cut_network(self.patches)
        self.tests += 1
        os.environ["ZIPEFT_CACHE"] = str(self.folder / f"cache-{self.tests}")

    def restore(self) -> None:
        if self.patches is not None:
            self.patches.undo()
            self.patches = None


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory):
    around = Surroundings(tmp_path_factory.mktemp("surroundings"))
    yield around
    around.restore()


@pytest.fixture(autouse=True)
def same_start(request, surroundings):
    """Cut a fast test off from the network and the user's cache; a slow one has both. Seed either."""
    fast = request.node.get_closest_marker("slow") is None
    if fast:
        surroundings.cut_off()
    else:
        surroundings.restore()
    hidden_modules.extend()
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    # Where torch is not imported yet it is left so: many tests never need it, and it starts from a fixed seed anyway.
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(0)
        torch.set_num_threads(1 if fast else os.cpu_count() or 1)


def cut_network(patches):
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

    patches.setattr(socket.socket, "connect", guard(socket.socket.connect))
    patches.setattr(socket.socket, "connect_ex", guard(socket.socket.connect_ex))
    patches.setattr(socket, "getaddrinfo", getaddrinfo)
