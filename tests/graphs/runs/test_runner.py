"""Many units in flight: the same results as one after another, failures that stay with their unit, draining."""

import multiprocessing
import os
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langgraph.runtime import RunControl

from line_neurons.agent.errors import BackendError, StoreError
from line_neurons.agent.ports import LayerInfo
from line_neurons.graphs.runs.lifecycle import retry, start, work
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, scripted_components

UNITS = 12


class WideTarget(ScriptedTarget):
    def layers(self):
        return [LayerInfo(LAYER, "Linear", (UNITS,), UNITS)]

    def activate(self, images, layers, progress=None):
        import numpy as np

        self.passes += len(images)
        values = np.array([self._value(image) for image in images], np.float32)
        rows = np.stack([values * (1 if unit % 2 else -1) + unit for unit in range(UNITS)], axis=1)
        return dict.fromkeys(layers, rows.reshape(len(images), UNITS))


def few_words(prompt, seed, temperature):
    """Units ask for the same concepts again and again, as a real model does."""
    return f"thing {seed % 40}"


def batch(store, script=few_words, **options):
    return scripted_components(
        store, ScriptedModel(script), target=WideTarget(),
        **{"max_concurrent_units": 6, "llm_parallel": 3, "iterations": 3, "max_consecutive_failures": 5,
           "batch_timeout": 0.01} | options,
    )  # fmt: skip


def outcome(components, run):
    units = [
        (u.unit, u.status, u.label, u.score, u.origin, u.second_label, u.found_by)
        for u in components.runs.units(run.id)
    ]
    steps = [
        (s.unit, s.step, s.attempt, s.kind, s.outcome, s.concept, s.score, s.images, s.board)
        for unit in units
        for s in components.runs.steps(run.id, unit[0])
    ]
    return units, steps


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    components = batch(tmp_path_factory.mktemp("one"), max_concurrent_units=1)
    return outcome(components, work(components, start(components, LAYER, ["all"])))


def test_units_in_flight_end_as_units_one_after_another(tmp_path, one_by_one):
    components = batch(tmp_path)
    run = work(components, start(components, LAYER, ["all"]))
    assert run.status == "finished"
    assert outcome(components, run) == one_by_one


def test_each_image_is_drawn_and_measured_once_for_all_units(tmp_path):
    components = batch(tmp_path)
    run = work(components, start(components, LAYER, ["all"]))
    drawn = [(request.prompt, request.seed) for request in components.generator.drawn]
    images = {
        image for unit in range(UNITS) for step in components.runs.steps(run.id, unit) for image in step.images
    }
    assert len(drawn) == len(set(drawn)) == len(images)
    control = len(components.control_set.classes())
    assert components.target.passes == len(images) + control
    assert components.cache.stats.reused > 0


def test_one_units_failure_is_recorded_on_the_unit_and_the_others_go_on(tmp_path, one_by_one):
    def broken_for_three(prompt, seed, temperature):
        if threading.current_thread().name in broken:
            raise BackendError("the model stumbled", "ask again")
        return few_words(prompt, seed, temperature)

    broken = set()
    components = batch(tmp_path, broken_for_three)

    def watch(progress):
        if progress.unit == 3 and progress.node == "init":
            broken.add(threading.current_thread().name)
        if progress.node in {"failed", "finished"}:
            broken.discard(threading.current_thread().name)

    run = work(components, start(components, LAYER, ["all"]), watch)
    units = {unit.unit: unit for unit in components.runs.units(run.id)}
    assert (run.status, run.error) == ("failed", "1 unit failed")
    assert (units[3].status, units[3].error) == ("failed", "the model stumbled (ask again)")
    assert {unit.status for unit in units.values() if unit.unit != 3} == {"finished"}
    # Resuming takes what is not finished; the failed unit is taken again only when that is asked for.
    asked = len(components.language_model.asked)
    assert work(components, run).status == "failed"
    assert len(components.language_model.asked) == asked
    assert retry(components.runs, run) == 1
    again = batch(tmp_path)
    assert work(again, components.runs.run(run.id)).status == "finished"
    assert outcome(again, run) == one_by_one


def test_a_run_whose_units_all_fail_stops_and_can_be_resumed(tmp_path, one_by_one):
    def gone(prompt, seed, temperature):
        raise BackendError("the server has gone", "start it")

    components = batch(tmp_path, gone)
    run = start(components, LAYER, ["all"])
    with pytest.raises(BackendError, match="5 units in a row failed, the last one: the server has gone"):
        work(components, run)
    assert components.runs.run(run.id).status == "failed"
    assert "failed" not in components.runs.states(run.id)
    mended = batch(tmp_path)
    assert work(mended, run).status == "finished"
    assert outcome(mended, run) == one_by_one


def test_a_store_that_fails_stops_the_run_at_once(tmp_path):
    class Full(ScriptedGenerator):
        def synthesize(self, requests, progress=None):
            raise StoreError("no space left", "make room")

    components = batch(tmp_path, generator=Full())
    run = start(components, LAYER, ["all"])
    with pytest.raises(StoreError, match="no space left"):
        work(components, run)
    assert not components.runs.states(run.id).keys() & {"failed", "finished", "running"}


@examples(max_examples=5)
@given(stops=st.lists(st.integers(1, 60), min_size=1, max_size=3))
def test_a_drained_run_ends_as_an_undisturbed_one_wherever_it_was_stopped(tmp_path_factory, one_by_one, stops):
    store = tmp_path_factory.mktemp("drained")
    run = start(batch(store), LAYER, ["all"])
    for stop in stops:
        drain, seen = RunControl(), 0

        def watch(progress, stop=stop, drain=drain):
            nonlocal seen
            seen += 1
            if seen == stop:
                drain.request_drain("enough")

        components = batch(store)
        after = work(components, run, watch, drain)
        if after.status == "finished":
            break
        assert after.status == "interrupted"
        assert not components.runs.states(run.id).keys() & {"failed", "running"}
    components = batch(store)
    assert work(components, run).status == "finished"
    assert outcome(components, run) == one_by_one


def killed_after(nodes, store, run):
    """Work on a run in a process that dies by SIGKILL after so many nodes of its units."""
    seen = 0

    def watch(progress):
        nonlocal seen
        seen += 1
        if seen == nodes:
            os.kill(os.getpid(), signal.SIGKILL)

    work(batch(store), run, watch)


@pytest.mark.parametrize("nodes", [3, 90, 170])
def test_a_killed_run_ends_as_an_undisturbed_one_with_no_image_drawn_twice(tmp_path, one_by_one, nodes):
    run = start(batch(tmp_path), LAYER, ["all"])
    process = multiprocessing.get_context("fork").Process(target=killed_after, args=(nodes, tmp_path, run))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    components = batch(tmp_path)
    before = {path.name for path in (tmp_path / "images").rglob("*.png")}
    assert work(components, run).status == "finished"
    assert outcome(components, run) == one_by_one
    drawn = len({path.name for path in (tmp_path / "images").rglob("*.png")} - before)
    # Files that were written when the process died, and whose rows were not, are drawn once more.
    assert (
        drawn
        <= components.cache.stats.generated
        <= drawn + components.settings.max_concurrent_units * components.settings.images
    )


def test_a_drained_run_asks_and_draws_nothing_more(tmp_path):
    drain = RunControl()
    components = batch(tmp_path)

    def watch(progress):
        drain.request_drain("enough")
        seen.append((len(components.language_model.asked), len(components.generator.drawn)))

    seen = []
    run = start(components, LAYER, ["all"])
    assert work(components, run, watch, drain).status == "interrupted"
    # What was in hand when it was asked may end; nothing new begins.
    assert len(components.language_model.asked) <= seen[0][0] + components.settings.max_concurrent_units
    assert components.runs.states(run.id).get("pending", 0) >= UNITS - components.settings.max_concurrent_units


def test_the_progress_counts_units_images_and_failures(tmp_path):
    components = batch(tmp_path)
    seen = []
    work(components, start(components, LAYER, ["all"]), seen.append)
    last = seen[-1]
    assert (last.finished, last.failed, last.units, last.node) == (UNITS, 0, UNITS, "finished")
    assert last.stats.generated == len(components.generator.drawn)
    assert sorted(progress.finished for progress in seen) == [progress.finished for progress in seen]


def test_an_interrupt_of_the_caller_stops_the_units_and_leaves_a_run_to_resume(tmp_path, one_by_one):
    def watch(progress):
        if progress.finished == 2:
            raise KeyboardInterrupt

    components = batch(tmp_path)
    run = start(components, LAYER, ["all"])
    with pytest.raises(KeyboardInterrupt):
        work(components, run, watch)
    assert components.runs.run(run.id).status == "interrupted"
    again = batch(tmp_path)
    work(again, run)
    assert outcome(again, run) == one_by_one
