"""Workers as actors of a Ray cluster, which these tests start and end."""

import os
import signal
import socket
import sys
import threading
import time
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.engines import ray_cluster
from line_neurons.tools.engines.ray_cluster import RayCluster, connect
from support.fakes import LAYER, events, outcome
from support.workers import ScriptedRecipe, in_process, with_workers

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """A cluster on this machine, with GPUs that are only counted."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        # Ray writes its token into the home folder; workers import what the tests do.
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "typings"), str(ROOT / "tests")]))
        patch.setattr(sys, "stdout", sys.stdout)
        handler = signal.getsignal(signal.SIGTERM)
        import ray

        ray.init(
            address="local", num_cpus=8, num_gpus=4, _memory=20_000_000_000, object_store_memory=150 << 20,
            include_dashboard=False, log_to_driver=False,
        )  # fmt: skip
        yield ray
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler)


def settings(**options):
    return Settings(init="model", control="none", ray="local", **{"worker_gpus": 0, **options})


def finished(components):
    with closing(components):
        run = work(components, start(components, LAYER, ["all"]))
        return run.status, outcome(components, run.id)


def wait_until(what):
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


def test_the_store_is_that_of_a_single_process_while_actors_are_killed(ray, tmp_path, capsys):
    recipe = ScriptedRecipe(seconds=0.02)
    make = partial(RayCluster, recipe, settings(workers=2))
    components = with_workers(tmp_path / "ray", 2, cluster=make)
    ended = threading.Event()

    def kill():
        killed = set()
        while len(killed) < 2 and not ended.is_set():
            time.sleep(0.1)
            # Before the first image a worker may be lost while no run listens yet: that is logged, not recorded.
            places = {status.place for status in components.engine.status() if status.images} - killed
            if places:
                killed.add(place := places.pop())
                os.kill(int(place.partition("process ")[2].rstrip(")")), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        given = finished(components)
    finally:
        ended.set()
        killer.join()
    assert given == finished(in_process(tmp_path / "plain"))
    lost = events(components, components.runs.runs()[0].id, "worker lost")
    assert lost and all(socket.gethostname() in event["place"] for event in lost)
    # What Ray itself says of its dead workers would break the lines of --json.
    assert capsys.readouterr().out == ""


def test_errors_arrive_as_themselves_and_name_the_machine(ray, tmp_path):
    make = partial(RayCluster, ScriptedRecipe(error="there are no weights here"), settings(workers=1))
    components = with_workers(tmp_path, 1, cluster=make)
    with closing(components), pytest.raises(MissingPartError) as told:
        start(components, LAYER, ["all"])
    assert f"the worker on {socket.gethostname()} (process" in str(told.value)
    assert str(told.value).endswith("cannot start: there are no weights here (install it)")


@pytest.mark.parametrize(
    ("gpus", "cpus", "memory", "workers"),
    [(1, 1, 0, 4), (0.5, 1, 0, 8), (0.5, 2, 0, 4), (0, 4, 0, 2), (2, 1, 0, 2), (1, 1, 8, 2), (0, 1, 2.5, 8)],
)
def test_as_many_workers_as_there_is_room_for(ray, gpus, cpus, memory, workers):
    share = settings(worker_gpus=gpus, worker_cpus=cpus, worker_memory=memory)
    assert RayCluster(ScriptedRecipe(), share).wanted() == workers


def test_a_worker_waits_where_the_memory_of_others_leaves_too_little(ray):
    cluster = RayCluster(ScriptedRecipe(), settings(worker_memory=12))
    first, second = cluster.start(), cluster.start()
    try:
        assert first.begin().result(60).place
        later = second.begin()
        with pytest.raises(TimeoutError):
            later.result(3)
        assert "a worker takes 0 GPU, 1 CPU, 12 GB of memory" in cluster.waits_for()
        first.stop()
        assert later.result(60).place
    finally:
        first.stop()
        second.stop()


def test_a_worker_that_fits_nowhere_is_refused(ray):
    with pytest.raises(
        UsageError,
        match="this machine has no room for a worker: it has 4 GPU, 8 CPU, 20 GB of memory, and one takes 5",
    ):
        RayCluster(ScriptedRecipe(), settings(worker_gpus=5))
    with pytest.raises(UsageError, match="this machine has no room for 3 workers"):
        RayCluster(ScriptedRecipe(), settings(worker_cpus=4, workers=3))
    with pytest.raises(UsageError, match="and one takes 0 GPU, 1 CPU, 30 GB of memory"):
        RayCluster(ScriptedRecipe(), settings(worker_memory=30))


def test_a_cluster_with_a_token_refuses_those_who_have_none(ray):
    assert ray_cluster._probe(ray.get_runtime_context().gcs_address) == "refused"


def test_what_ray_prints_stays_off_standard_output(capsys):
    stream = ray_cluster._WithoutRay(sys.stdout)
    stream.write("{}")
    thread = threading.Thread(target=stream.write, args=("a worker died",), name="ray_listen_error_messages")
    thread.start()
    thread.join()
    assert capsys.readouterr().out == "{}"


@pytest.fixture
def unconnected(monkeypatch):
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "")
    monkeypatch.delenv("RAY_AUTH_MODE")


def test_an_address_that_does_not_answer_is_refused(unconnected):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"no Ray cluster answers at {address}"):
        connect(address, trusted=False)


def test_something_else_at_the_address_is_given_up_after_a_while(unconnected, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no Ray cluster answers at {address}"):
            connect(address, trusted=False)


def test_a_cluster_without_a_token_is_refused_unless_it_is_trusted(unconnected, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_probe", lambda address: "connected")
    with pytest.raises(UsageError, match=r"auto has no token authentication: anyone .* \(.*--trust-network\)"):
        connect("auto", trusted=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPartError, match="ray, which is not installed"):
        connect("auto", trusted=True)


def test_without_ray_installed_one_line_says_how_to_get_it(unconnected, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPartError, match=r"ray, which is not installed \(pip install .*ray"):
        connect("local", trusted=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ray": "ray://head:10001"}, "ray:// (Ray Client) is not meant for long work"),
        ({"ray": "head"}, "neither local, auto nor HOST:PORT"),
        ({"ray": "local", "devices": "cpu"}, "devices and ray exclude each other"),
        ({"devices": "cuda:0,cuda"}, "the GPU 'cuda:0' is named twice"),
        ({"devices": "all,cpu"}, "all stands for every GPU"),
        ({"devices": "cuda:1,cuda:01"}, "the GPU 'cuda:1' is named twice"),
        ({"devices": ","}, "are not devices separated by commas"),
        ({"devices": "cpu,banana"}, "are not devices separated by commas"),
        ({"devices": "cpu,,cpu"}, "are not devices separated by commas"),
        ({"workers": 2}, "workers is for workers on Ray; name a cluster with ray"),
        ({"worker_gpus": 0.5, "devices": "cpu"}, "worker_gpus is for workers on Ray"),
        ({"devices": "cpu", "target_device": "cpu"}, "target_device is for a single process"),
        ({"workers": 0}, "workers"),
        ({"worker_gpus": 1.5}, "a whole number, or a part of one GPU"),
        ({"worker_cpus": float("inf")}, "worker_cpus"),
    ],
)
def test_settings_of_workers_that_do_not_fit_are_refused(given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as told:
        load_settings(**given)
    assert said in str(told.value)


def test_the_cpu_may_be_named_several_times():
    assert load_settings(devices="cpu, cpu").devices == "cpu,cpu"
