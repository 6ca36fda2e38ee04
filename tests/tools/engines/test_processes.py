"""Workers as processes: the store of the single process, bit for bit, whoever is killed."""

import os
import pickle
import random
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from line_neurons.agent.errors import BackendError, MissingPartError, NotDrawableError, UsageError
from line_neurons.agent.ports import ImageRequest
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.engines.hands import Hands, Recipe, recipe_of
from line_neurons.tools.engines.processes import DeviceCluster, ProcessWorker, _pickled, local_devices
from line_neurons.tools.targets.base import ModelBundle
from support.fakes import LAYER, events, outcome
from support.thread_cluster import wait_until
from support.workers import ScriptedRecipe, in_process, with_workers, worker_processes


def finished(components):
    """What a batch ends with: status, units, histories, and the cache without the order of its rows."""
    with closing(components):
        run = work(components, start(components, LAYER, ["all"]))
        return run.status, outcome(components, run.id), cached(components.store)


def cached(store):
    with closing(sqlite3.connect(store / "bank.db")) as db:
        images = db.execute("SELECT generator, prompt, seed, image, size FROM draws ORDER BY 1, 2, 3").fetchall()
        vectors = db.execute("SELECT image, target, layer, vector FROM activations ORDER BY 1, 2, 3").fetchall()
    return images, vectors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return finished(in_process(tmp_path_factory.mktemp("undisturbed")))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_store_is_that_of_a_single_process(tmp_path, undisturbed, count):
    assert finished(with_workers(tmp_path, count)) == undisturbed


def test_workers_that_are_killed_change_nothing(tmp_path, undisturbed):
    components = with_workers(tmp_path, 2, ScriptedRecipe(seconds=0.02))
    chance, ended, kills = random.Random(0), threading.Event(), 5

    def kill():
        for _ in range(kills):
            while not ended.is_set() and (components.engine._pool is None or components.engine._pool.size < 2):
                time.sleep(0.02)
            time.sleep(chance.random() / 5)
            with suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(worker_processes(components)), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert finished(components) == undisturbed
    finally:
        ended.set()
        killer.join()
    lost = events(components, components.runs.runs()[0].id, "worker lost")
    assert lost and all("SIGKILL" in event["reason"] for event in lost)


def test_a_concept_that_kills_workers_fails_its_unit_alone(tmp_path):
    def script(prompt, seed, temperature):
        return "poison" if seed % 30 == 7 else f"thing {seed % 40}"

    components = with_workers(tmp_path, 2, script=script, max_consecutive_failures=12)
    status, (units, _), _ = finished(components)
    assert status == "failed"
    failed = [unit for unit in components.runs.units(components.runs.runs()[0].id) if unit.status == "failed"]
    assert 0 < len(failed) < len(units)
    assert all("3 workers in a row were lost over the same work" in unit.error for unit in failed)


def test_workers_end_with_their_driver(tmp_path):
    worker = DeviceCluster(ScriptedRecipe(), ["cpu"]).start()
    worker.begin().result(60)
    # As when the driver is killed: its end of the socket closes.
    socket.socket(fileno=os.dup(worker._connection.fileno())).shutdown(socket.SHUT_RDWR)
    assert worker._process.wait(10) in {0, -signal.SIGKILL}


def test_a_worker_that_cannot_load_its_weights_ends_the_run_in_one_line(tmp_path):
    components = with_workers(tmp_path, 2, ScriptedRecipe(error="there are no weights of sdxl here"))
    with closing(components), pytest.raises(MissingPartError) as told:
        start(components, LAYER, ["all"])
    said = "cannot start: there are no weights of sdxl here (install it)"
    assert str(told.value) in {f"the worker on cpu ({number}) {said}" for number in (1, 2)}
    assert components.runs.runs() == []


def test_a_program_that_ends_at_once_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("line_neurons.tools.engines.processes._PROGRAM", "line_neurons.no_such_module")
    worker = ProcessWorker(b"", "cpu")
    with pytest.raises(BackendError, match=r"ended with status 1: .*no_such_module"):
        worker.begin().result(60)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="'cuda:77' cannot be used"):
        local_devices("cuda:77")


def test_images_are_checked_and_measured_by_the_worker():
    hands = Hands()
    description = hands.begin(ScriptedRecipe(), "here")
    request = ImageRequest("fox", "", "", 1, "{concept}")
    (image,) = hands.generate([request], [LAYER])
    assert (description.place, image.colour, image.measured[LAYER].shape) == ("here", "", (12,))
    assert image.drawn(lambda layer: f"print of {layer}").measured.keys() == {(f"print of {LAYER}", LAYER)}
    hands._generator.unknown = frozenset({"fox"})
    with pytest.raises(NotDrawableError):
        hands.generate([request], [LAYER])


def test_a_control_set_is_measured_by_all_workers(tmp_path):
    components = with_workers(tmp_path, 2)
    with closing(components):
        components.target  # noqa: B018 - opens the workers
        wait_until(lambda: components.engine._pool.size == 2)
        control = components.control(LAYER)
        measured = {status.place: status.images for status in components.engine.status()}
    assert sum(measured.values()) == len(control.labels) == 12
    assert all(measured.values())
    np.testing.assert_array_equal(control.activations, in_process(tmp_path / "plain").control(LAYER).activations)


def recipe(build):
    bundle = ModelBundle("own", "w", "p", prepare=lambda image: image, build=build)
    return Recipe("own", {"device": "auto"}, Path("assets"), Path("store"), bundle)


def test_a_model_in_memory_goes_to_workers_by_value():
    weights = [1.0, 2.0]
    sent = pickle.loads(_pickled(recipe(lambda: weights).on("cuda:1")))
    assert (sent.bundle.build(), sent.settings["device"]) == (weights, "cuda:1")


def test_a_model_in_memory_that_cannot_be_sent_is_refused():
    lock = threading.Lock()
    with pytest.raises(MissingPartError, match=r"the model in memory cannot be sent to a worker: .*lock"):
        _pickled(recipe(lambda: lock))


def test_no_secret_goes_to_workers(tmp_path):
    settings = Settings(init="model", control="none", base_url="http://key@host/v1", langchain={"api_key": "hush"})
    sent = recipe_of(settings, "torchvision:mobilenet_v2", None, assets=tmp_path, store=tmp_path)
    assert not {"base_url", "ollama", "langchain"} & sent.settings.keys()
    assert "hush" not in str(sent) and "key@" not in str(sent)
