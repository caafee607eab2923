"""Sweeps on a Ray cluster: the same outcomes as here, on every machine, whatever dies; and each refusal in a line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import psutil
import pytest
import torch

from support import TESTS, experiments
from support.method_cases import methods_for
from support.sweeps import TOY, outcomes, records
from support.toys import ToyTask, registered
from zipeft import registry
from zipeft.api.method import Method
from zipeft.api.search import Space
from zipeft.commands.devices import accelerator
from zipeft.commands.run import _cluster, main
from zipeft.errors import UserError
from zipeft.experiments.adapter_store import AdapterStore
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.options import RunOptions
from zipeft.results import Failure, Result

HERE = os.pathsep.join((str(TESTS), str(Path(__file__).parent)))
"""Where the classes of this module, and the toys, are found by other processes."""

TRACES = Path("traces")


@dataclass(frozen=True)
class Traced(ToyTask):
    """Leaves a file for every training on the cluster, named after the machine and the process."""

    def head(self, classes, width):
        import ray

        if ray.is_initialized():
            TRACES.mkdir(exist_ok=True)  # in the working directory, which is that of the command
            node = ray.get_runtime_context().get_node_id()
            (TRACES / f"{node} {os.getpid()} {uuid.uuid4()}").touch()
        return super().head(classes, width)


@dataclass(frozen=True)
class Deadly(Method):
    """Kills the process that trains it, as the system does where memory runs out."""

    space: ClassVar[Space] = {}

    def apply(self, backbone, model):
        (TRACES / f"deadly {os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Different(ToyTask):
    """Holds other data in every process."""

    def load(self, dataset):
        return replace(super().load(dataset), checksum=str(os.getpid()))


@dataclass(frozen=True)
class Missing(ToyTask):
    """Has its data in one process alone."""

    here: int = 0

    def load(self, dataset):
        if os.getpid() != self.here:
            raise UserError("--data-dir pictures\nis not a folder")
        return super().load(dataset)


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    torch.set_num_threads(1)  # as the cluster's processes have: more add in another order
    tasks = {"traced": Traced, "different": Different, "missing": Missing}
    with registered():
        for name, task in tasks.items():
            registry.tasks.register(name, task)
        yield
        for name in tasks:
            registry.tasks.unregister(name)


@pytest.fixture
def ray_executor():
    """Return the module, which cannot be imported without Ray."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'zipeft[ray]'")
    from zipeft.experiments import ray_executor

    return ray_executor


@pytest.fixture
def ray_cluster(ray_executor):
    """Return the module, which cannot be imported without Ray either."""
    from zipeft.experiments import ray_cluster

    return ray_cluster


@pytest.fixture
def cluster(ray_executor, monkeypatch):
    """Start a cluster of two machines with a CPU each, as far as Ray can tell."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.second = cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def sweep(*arguments, task="traced") -> int:
    return main([*TOY[:3], task, *TOY[4:], *arguments])


def traces() -> list[list[str]]:
    """Return machine and process of every training so far."""
    return [path.name.split()[:2] for path in TRACES.glob("*")]


@pytest.mark.slow
def test_a_cluster_gives_what_this_process_gives_and_all_its_machines_work(cluster):
    assert sweep("--method", "all", "--ray", cluster.address, "--save-adapters", "adapters") == 0
    trainings = Counter(node for node, _ in traces())
    assert len(trainings) == 2
    assert trainings.total() == 4 * len(methods_for("image"))
    assert len(set(map(tuple, traces()))) == 2, "weights and data are loaded once by each machine"
    sweep("--method", "all", "--results", "alone", "--save-adapters", "adapters-alone")
    assert outcomes(Path("results")) == outcomes(Path("alone"))
    assert contents("adapters") == contents("adapters-alone")
    assert {result.environment.device for result in records()[Result]} == {"cpu"}


def contents(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_machine_that_dies_costs_no_result(cluster):
    arguments = ["--method", "linear", "zero_gated", "lora", "--epochs", "10"]

    def kill():
        while len({node for node, _ in traces()}) < 2:
            time.sleep(0.1)
        cluster.remove_node(cluster.second, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert sweep(*arguments, "--ray", cluster.address) == 0
    killer.join(timeout=1)
    assert not killer.is_alive(), "the machine was killed while the sweep went on"
    assert len(traces()) > 12, "what the machine was at was done again"
    sweep(*arguments, "--results", "alone")
    assert outcomes(Path("results")) == outcomes(Path("alone"))


@pytest.mark.slow
def test_a_run_whose_process_always_dies_is_a_failure_and_the_others_go_on(cluster, ray_executor, capsys):
    registry.methods.register("deadly", Deadly)
    try:
        assert sweep("--method", "deadly", "linear", "--trials", "0", "--ray", cluster.address) == 1
    finally:
        registry.methods.unregister("deadly")
    failures = records()[Failure]
    assert {(failure.method.name, failure.seed) for failure in failures} == {("deadly", 0), ("deadly", 1)}
    for failure in failures:
        assert failure.reason.startswith("its process on the cluster died 4 times; the last: ")
        assert failure.details
    assert len(list(TRACES.glob("deadly *"))) == 2 * ray_executor.TRIES
    assert {result.method.name for result in records()[Result]} == {"linear"}
    assert "colours, deadly, run of seed 0: its process on the cluster died" in capsys.readouterr().err


@pytest.mark.slow
def test_a_machine_with_other_data_or_none_gives_failures_that_say_so(cluster):
    arguments = ["--method", "linear", "--trials", "0", "--ray", cluster.address]
    assert sweep(*arguments, task="different") == 1
    assert {failure.reason for failure in records()[Failure]} == {
        "the machine that did it has another version of zipeft, other weights or other data than this one"
    }
    here = ["--set", f"missing.here={os.getpid()}", "--results", "other"]
    assert sweep(*arguments, *here, task="missing") == 1
    assert {failure.reason for failure in records("other")[Failure]} == {
        f"on {socket.gethostname()}: --data-dir pictures is not a folder"
    }


@contextmanager
def endless_sweep(address):
    """Start a sweep that does not end by itself as a process of its own, with Ctrl-C heeded."""
    script = f"""
import signal, sys
import test_ray
from support import toys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may be told to ignore it
from zipeft import registry
with toys.registered():
    registry.tasks.register("traced", test_ray.Traced)
    sys.exit(test_ray.sweep("--method", "zero_gated", "--epochs", "100000", "--ray", {address!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: traces() or process.poll() is not None, 120)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.slow
def test_ctrl_c_ends_what_runs_on_the_cluster(cluster):
    with endless_sweep(cluster.address) as process:
        wait_until(lambda: len(traces()) == 2, 120)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1].endswith("zipeft: interrupted\n")
    assert process.returncode == 130
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for _, pid in traces()), 30)


def connections(process: psutil.Process) -> list:
    """Return them by psutil before 6 as well."""
    ask = process.net_connections if hasattr(process, "net_connections") else process.connections
    return ask("inet")


@pytest.mark.slow
def test_a_cluster_for_one_command_listens_to_this_machine_alone(ray_executor, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
    with endless_sweep("local") as process:
        started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        ends = [(one.name(), end) for one in started if one.is_running() for end in connections(one)]
        listening = {(name, end.laddr.ip) for name, end in ends if end.status == psutil.CONN_LISTEN}
        environment = psutil.Process(process.pid).children()[0].environ()
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {ip.removeprefix("::ffff:") for _, ip in listening} <= {"127.0.0.1", "::1"}
    assert environment["RAY_AUTH_MODE"] == "token"
    assert len(environment["RAY_AUTH_TOKEN"]) == 64


def test_a_cluster_for_one_command_that_would_be_open_is_not_used(ray_cluster, monkeypatch, capsys):
    """As where something imported Ray before it was told to stay on this machine."""
    down = []
    monkeypatch.setattr(ray_cluster.ray, "init", lambda address, **settings: None)
    monkeypatch.setattr(ray_cluster.ray, "shutdown", lambda: down.append(True))
    monkeypatch.setattr(ray_cluster.ray.util, "get_node_ip_address", lambda: "192.0.2.1")
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")  # so that what the command sets is undone
    assert "--ray local would open ports to the network" in refused(capsys, "--ray", "local")
    assert down


def wait_until(holds, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


@pytest.fixture
def remote(ray_executor):
    """What runs on a machine, in this process."""
    on_cpu = partial(accelerator, "cpu", "fp32")
    return ray_executor.RemoteProcess(on_cpu, threads=1, folder=os.getcwd(), keeps=True)


def experiment(task) -> Experiment:
    return Experiment(experiments.comparison(task=task, epochs=1), accelerator("cpu", "fp32"), "a command")


RUN = experiments.run("colours", "linear")


def test_a_machine_answers_with_the_record_and_what_was_learnt(remote, ray_executor):
    from ray import cloudpickle

    asked = experiment(ToyTask())
    answer = remote.measure(ray_executor._parts(asked), cloudpickle.dumps(RUN))
    assert answer.record.id == asked.id(RUN)
    assert answer.record.environment.command == "a command"
    folder = "toy-toy/colours/linear-seed0"
    assert sorted(answer.files) == [f"{folder}/adapter.json", f"{folder}/adapter.safetensors"]


def test_what_cannot_be_kept_here_costs_no_result(remote, ray_executor, tmp_path, caplog):
    from ray import cloudpickle

    asked = experiment(ToyTask())
    answer = remote.measure(ray_executor._parts(asked), cloudpickle.dumps(RUN))
    (tmp_path / "kept").write_text("a file")
    here = object.__new__(ray_executor.RayExecutor)
    here.adapters = AdapterStore(tmp_path / "kept")
    assert here._checked(answer, asked, RUN) == answer.record
    assert "learnt is not kept: cannot write" in caplog.text


def test_a_machine_without_the_data_or_the_plug_in_says_so(remote, ray_executor):
    from ray import cloudpickle

    run = cloudpickle.dumps(RUN)
    answer = remote.measure(ray_executor._parts(experiment(Missing())), run)
    assert answer.reason == f"on {socket.gethostname()}: --data-dir pictures is not a folder"
    answer = remote.measure(b"cnowhere\nMethod\n.", run)
    assert answer.reason == f"on {socket.gethostname()}: ModuleNotFoundError: No module named 'nowhere'"
    assert "Traceback" in answer.details
    assert answer.record is None


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "device", "slot", "slots"),
    [
        ([{"CPU": 1.0}, {"CPU": 1.0}], None, None, "auto", (1, 0), 2),
        ([{"CPU": 2.0}, {"CPU": 64.0}, {"memory": 1.0}], None, None, "auto", (2, 0), 33),
        ([{"CPU": 64.0}], None, None, "cpu", (4, 0), 16),
        ([{"CPU": 64.0}], 10, None, "auto", (10, 0), 6),
        ([{"CPU": 64.0}, {"CPU": 16.0, "GPU": 8.0}], None, None, "auto", (2, 1), 8),
        ([{"CPU": 64.0, "GPU": 2.0}], None, None, "cuda", (4, 1), 2),
        ([{"CPU": 64.0, "GPU": 2.0}], None, 0.1, "cuda", (3, 0.1), 20),
        ([{"CPU": 64.0, "GPU": 2.0}], None, None, "cpu", (4, 0), 16),
        ([{"CPU": 4.0, "GPU": 8.0}], None, None, "auto", (1, 1), 4),
        ([{"CPU": 2.0}], 3, None, "auto", (3, 0), 0),
        ([], None, None, "auto", (4, 0), 0),
    ],
)
def test_a_training_gets_a_slot_that_suits_the_cluster(ray_cluster, machines, cpus, gpus, device, slot, slots):
    found = ray_cluster.slot_for(machines, cpus, gpus, device)
    assert found == ray_cluster.Slot(*slot)
    assert sum(map(found.on, machines)) == slots


def test_slots_are_named(ray_cluster):
    assert str(ray_cluster.Slot(1, 0)) == "1 CPU"
    assert str(ray_cluster.Slot(2, 0.5)) == "2 CPUs and 0.5 GPU"


def refused(capsys, *arguments) -> str:
    assert sweep("--method", "linear", *arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err.strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ray-cpus", "2"], "--ray-cpus and --ray-gpus go with --ray"),
        (["--ray", "--ray-cpus", "0"], "--ray-cpus 0: give each training 1 or more"),
        (["--ray", "--ray-gpus", "2"], "--ray-gpus 2: a training takes 1, or a part of one such as 0.5"),
        (["--ray", "--ray-gpus", "nan"], "--ray-gpus nan: a training takes 1"),
        (["--ray", "--ray-cpus", "many"], "--ray-cpus: invalid int value: 'many'"),
        (["--ray", "nonsense"], "zipeft: error: --ray nonsense: "),
        (["--ray", "127.0.0.1:9"], "--ray 127.0.0.1:9: no Ray cluster answers there (Connection refused)"),
    ],
)
def test_a_wrong_option_ends_in_one_line(ray_executor, arguments, message, capsys):
    assert message in refused(capsys, *arguments)


def test_without_a_cluster_it_says_how_to_start_one(ray_cluster, monkeypatch, capsys):
    def init(address, **settings):
        assert address == "auto"
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray_cluster.ray, "init", init)
    assert "no Ray cluster answers: start one with `ray start --head`, or" in refused(capsys, "--ray")


def test_a_gpu_that_the_cluster_lacks_is_refused(ray_cluster):
    with pytest.raises(UserError, match="--device cuda: no machine of the cluster has a GPU"):
        ray_cluster.slot_for([{"CPU": 4.0}], None, None, "cuda")


def test_processes_that_train_together_do_not_go_with_a_cluster():
    together = SimpleNamespace(accelerator=SimpleNamespace(num_processes=2))
    options = RunOptions(ray="auto")
    with pytest.raises(UserError, match="leave out --ray"):
        _cluster(together, options, None)


def test_without_ray_only_its_option_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("ray_executor", "ray_cluster"):
        monkeypatch.delitem(sys.modules, f"zipeft.experiments.{name}", raising=False)
    assert "this needs ray, which the extra ray brings: pip install 'zipeft[ray]'" in refused(capsys, "--ray")
    assert main([*TOY, "--method", "linear", "--trials", "0"]) == 0
