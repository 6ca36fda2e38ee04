"""The engine of a run: when workers start and stop, what they say of themselves, and hints to use more."""

import json
from contextlib import closing

import pytest
import torch

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.devices import idle_gpus
from line_neurons.tools.engines.engine import Engine, worker_count
from line_neurons.tools.engines.pool import Description
from line_neurons.tools.store.activity import WorkerStatus, work_counts
from line_neurons.tools.store.leases import acquire
from line_neurons.tui.cli.jobs import batch_settings
from line_neurons.tui.formatting import workers_text
from support.fakes import LAYER, events
from support.thread_cluster import Threads
from support.workers import in_process, with_workers


def settings(**options):
    return Settings(init="model", control="none", **options)


def engine(cluster):
    cluster.begin = lambda number: Description(f"machine {number}", {}, details=None)
    return Engine(lambda: cluster, set(), 5, lambda event: None)


def test_the_workers_of_another_engine_stop_when_this_one_is_used():
    first, second = Threads(2), Threads(1)
    one, two = engine(first), engine(second)
    with closing_engine(one), closing_engine(two):
        assert one._call("double", [1]) == [2]
        assert two._call("double", [2]) == [4]
        assert all(worker.stopped for worker in first.started)
        assert one._call("double", [3]) == [6]
        assert len(first.started) > 2 and all(worker.stopped for worker in second.started)
        one._calls = 1
        with pytest.raises(UsageError, match="another run of this process uses its workers"):
            two._call("double", [1])
        one._calls = 0


def closing_engine(engine):
    engine.close = engine.stop
    return closing(engine)


def test_more_workers_than_units_are_said(tmp_path):
    cluster = Threads(8)
    found = engine(cluster)
    with closing_engine(found):
        assert "8 workers, and 1 unit at the same time: --max-concurrent-units 32" in found.remark(1)
        assert found.remark(8) == ""


def test_what_workers_do_is_recorded_while_they_work_and_shown(tmp_path, line, monkeypatch):
    components = with_workers(tmp_path / "store", 2)
    seen = []

    def watch(progress):
        if len(seen) < 40 and (counts := work_counts(components.runs)):
            seen.extend(counts.values())
        if len(seen) == 40:
            seen.append(json.loads(line("runs", "--json")[1])[0]["holder"]["workers"])
            seen.append(line("show", progress.run)[1])

    with closing(components):
        run = start(components, LAYER, ["all"])
        work(components, run, watch)
    *_, listed, shown = [entry for entry in seen if entry]
    assert {worker["place"] for worker in listed} <= {"cpu (1)", "cpu (2)"}
    assert "busy" in shown and "images/s:" in shown and "  cpu (" in shown
    assert work_counts(components.runs) == {}
    (environment,) = events(components, run.id, "worked with")
    assert environment["worker"]["cores"]


def test_a_damaged_record_of_workers_is_none(tmp_path):
    components = in_process(tmp_path)
    run = start(components, LAYER, ["0"])
    with acquire(components.runs, [run.id]), components.runs.atomic(run.id) as db:
        db.execute("UPDATE leases SET drawn = 1, reused = 1, measured = 1, concept = '[[1]]'")
        assert work_counts(components.runs)[run.id].workers == ()


def test_workers_are_described_in_a_few_words():
    assert workers_text([]) == ""
    both = [WorkerStatus("cuda:0", 1.0, 30, 1.5), WorkerStatus("cuda:1", 0.9, 20, 1.25)]
    assert workers_text(both) == "2 workers, 95% busy, 2.8 images/s"


@pytest.mark.parametrize(
    ("count", "options", "said"),
    [
        (8, {}, "7 of 8 GPUs are not used; --devices all uses them"),
        (2, {"target_device": "cuda:1", "generator_device": "cuda:0"}, ""),
        (3, {"target_device": "cuda:1"}, "1 of 3 GPUs are not used; --devices all uses them"),
        (8, {"device": "cpu"}, ""),
        (8, {"devices": "all"}, ""),
        (1, {}, ""),
    ],
)
def test_gpus_that_nobody_uses_are_said(monkeypatch, count, options, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert idle_gpus(settings(**options)) == said


def test_a_batch_has_four_units_for_each_worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"llm": "random", "init": "model", "control": "none"}
    assert batch_settings(load_settings(**given)).max_concurrent_units == 16
    many = load_settings(**given, ray="auto", workers=20)
    assert (worker_count(many), batch_settings(many).max_concurrent_units) == (20, 81)
    assert batch_settings(load_settings(**given, ray="auto", workers=500)).max_concurrent_units == 512
    assert batch_settings(load_settings(**given, ray="auto", max_concurrent_units=3)).max_concurrent_units == 3
    assert worker_count(load_settings(**given, devices="cpu,cpu")) == 2


def test_all_devices_of_a_machine_without_a_gpu_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="no GPU is visible here"):
        worker_count(settings(devices="all"))


def test_a_run_says_nothing_of_its_workers_and_goes_on_without_them(tmp_path):
    components = with_workers(tmp_path, 2)
    with closing(components):
        run = start(components, LAYER, ["all"])
        assert not {"devices", "ray", "workers", "worker_gpus"} & run.settings.keys()
    plain = in_process(tmp_path)
    assert work(plain, plain.runs.run(run.id)).status == "finished"
    assert events(plain, run.id, "settings changed") == []
