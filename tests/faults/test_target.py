"""A target that raises, runs out of memory or gives no numbers, and activations that are harmed in the store."""

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import torch

from line_neurons.agent.errors import BackendError
from line_neurons.graphs.runs.lifecycle import retry, start, work
from line_neurons.tools.batching import BatchedTarget
from line_neurons.tools.cache.validation import activate
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, events, outcome, said_by, scripted_components

SEARCH = {"iterations": 2, "images": 3, "top": 2, "random": 2, "max_consecutive_failures": 3}


def components_for(store, target=None, **options):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}")
    return scripted_components(store, model, target=target, **SEARCH | options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    components = components_for(tmp_path_factory.mktemp("undisturbed"))
    return outcome(components, work(components, start(components, LAYER, ["0-2"])).id)


@pytest.fixture(scope="module")
def shown(undisturbed):
    """What unit 1 and no other unit is shown first, and the ids of its images."""
    return next((row[5], row[7]) for row in undisturbed[1] if row[0] == 1 and row[3] == "iteration")


class Faulty(ScriptedTarget):
    """Does something else where it is shown a concept."""

    def __init__(self, concept, fault):
        super().__init__()
        self.concept, self.fault = concept, fault

    def activate(self, images, layers, progress=None):
        measured = super().activate(images, layers)
        concepts = [said_by(image)[0] for image in images]
        return self.fault(measured, concepts.index(self.concept)) if self.concept in concepts else measured


def raising(error):
    def fault(measured, place):
        raise error

    return fault


def putting(value):
    def fault(measured, place):
        rows = measured[LAYER].copy()
        rows[place, 2] = value
        return {LAYER: rows}

    return fault


NOT_FINITE = "image {image}: the target gave values that are not finite at head"
FAULTS = {
    "NaN": (putting(np.nan), NOT_FINITE),
    "infinity": (putting(-np.inf), NOT_FINITE),
    "too few rows": (lambda measured, _: {LAYER: measured[LAYER][1:]}, "[2, 3] at head, not [3 images, units]"),
    "no units": (lambda measured, _: {LAYER: measured[LAYER][:, :0]}, "the target gave [3, 0] at head"),
    "a map": (lambda measured, _: {LAYER: measured[LAYER][..., None]}, "the target gave [3, 3, 1] at head"),
    "another layer": (lambda measured, _: {"tail": measured[LAYER]}, "the target gave [0] at head"),
    "raises": (raising(IndexError("odd")), "the target failed: odd (--debug shows where)"),
    "memory": (raising(torch.OutOfMemoryError("CUDA out of memory")), "the target ran out of memory: CUDA"),
}  # fmt: skip


def vectors(store):
    with sqlite3.connect(store / "bank.db") as db:
        return [np.frombuffer(row, "<f4") for (row,) in db.execute("SELECT vector FROM activations")]


@pytest.mark.parametrize(
    ("fault", "in_flight"), [*((fault, 1) for fault in FAULTS), ("NaN", 3), ("another layer", 3), ("raises", 3)]
)
def test_a_fault_fails_the_unit_with_its_reason_and_after_mending_all_is_as_undisturbed(
    tmp_path, undisturbed, shown, fault, in_flight
):
    do, said = FAULTS[fault]
    concept, images = shown
    components = components_for(tmp_path, Faulty(concept, do), max_concurrent_units=in_flight)
    run = work(components, start(components, LAYER, ["0-2"]))
    units = components.runs.units(run.id)
    assert (run.status, [unit.status for unit in units]) == ("failed", ["finished", "failed", "finished"])
    assert any(said.format(image=image[:12]) in units[1].error for image in images)
    assert all(vector.shape == (3,) and np.isfinite(vector).all() for vector in vectors(tmp_path))
    again = components_for(tmp_path, max_concurrent_units=in_flight)
    assert retry(again.runs, run) == 1
    assert work(again, again.runs.run(run.id)).status == "finished"
    assert outcome(again, run.id) == undisturbed
    # The images were there.
    assert not [one for one in again.generator.drawn if one.concept == concept]


def test_control_activations_that_are_not_finite_stop_the_run_and_are_not_kept(tmp_path, undisturbed):
    class Nan(ScriptedTarget):
        def activate(self, images, layers, progress=None):
            return {layer: rows * np.nan for layer, rows in super().activate(images, layers).items()}

    components = components_for(tmp_path, Nan())
    run = start(components, LAYER, ["0-2"])
    with pytest.raises(
        BackendError, match="of the control set: the target gave values that are not finite at head"
    ):
        work(components, run)
    assert not [*tmp_path.rglob("*.npz")]
    again = components_for(tmp_path)
    assert work(again, run).status == "finished"
    assert outcome(again, run.id) == undisturbed


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("substr(vector, 1, 4)", "not 3 numbers"),
        ("vector || vector", "not 3 numbers"),
        ("substr(vector, 1, 11)", "not 3 numbers"),
        ("'text of 12 b'", "not 3 numbers"),
        ("NULL", "not 3 numbers"),
        ("x'0000c07f0000c07f0000c07f'", "not all finite"),
        ("x'0000803f0000803f000080ff'", "not all finite"),
    ],
)
def test_a_vector_harmed_in_the_store_is_measured_anew_and_told(tmp_path, undisturbed, caplog, harm, reason):
    components = components_for(tmp_path)
    work(components, start(components, LAYER, ["0"]))
    components.cache.close()
    label = undisturbed[0][0][6]
    with sqlite3.connect(tmp_path / "bank.db") as db:
        statement = f"UPDATE activations SET vector = {harm} WHERE image IN (?, ?)"
        assert db.execute(statement, label[:2]).rowcount == 2
    again = components_for(tmp_path)
    run = work(again, start(again, LAYER, ["0-2"]))
    assert outcome(again, run.id) == undisturbed
    told = events(again, run.id, "vector measured anew")
    assert {one["picture"] for one in told} == set(label[:2])
    assert all(one["layer"] == LAYER and reason in one["reason"] for one in told)
    assert again.cache.stats.recomputed == 2
    assert f"the activations of image {told[0]['picture'][:12]} at head are damaged: {reason}" in caplog.text


def test_a_revisit_measures_harmed_vectors_anew(tmp_path, undisturbed):
    components = components_for(tmp_path, revisit=True)
    run = work(components, start(components, LAYER, ["0-2"]))
    first = outcome(components, run.id)
    with sqlite3.connect(tmp_path / "bank.db") as db:
        db.execute("UPDATE activations SET vector = x'0000c07f' WHERE rowid % 3 = 0")
    again = components_for(tmp_path, revisit=True)
    again.runs.update_run(run.id, status="interrupted", finished=None)
    assert work(again, run).status == "finished"
    assert outcome(again, run.id) == first
    assert again.cache.stats.recomputed > 3


class Inverse(torch.nn.Module):
    """The inverse of the brightness, which is infinite for a black image."""

    def __init__(self):
        super().__init__()
        self.pool = torch.nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        return self.pool(1 / images.sum((1, 2, 3), keepdim=True).expand(-1, 4, 2, 2))


def small(image):
    return torch.from_numpy(np.array(image.resize((4, 4)), np.float32)).permute(2, 0, 1)


def test_a_hooked_target_tells_which_image_it_cannot_measure_also_among_those_of_other_callers():
    target = HookedTarget(ModelBundle("own:net", "0", "0", small, Inverse), device="cpu", batch_size=4)
    bright = [np.full((4, 4, 3), level, np.uint8) for level in (10, 20, 30, 40, 50)]
    dark = np.zeros((4, 4, 3), np.uint8)
    with (
        closing(BatchedTarget(target, callers=lambda: 2, wait=5, check=lambda: None)) as batched,
        ThreadPoolExecutor(2) as threads,
    ):
        good = threads.submit(activate, batched, bright[:2], "ab", ["pool"])
        bad = threads.submit(activate, batched, [*bright, dark], "cdefgh", ["pool"])
        assert good.result(30)["pool"].shape == (2, 4)
        with pytest.raises(BackendError, match=r"^h: own:net gave values that are not finite at pool$"):
            bad.result(30)


def test_memory_that_runs_out_in_a_forward_pass_names_what_helps():
    class Large(torch.nn.Module):
        def forward(self, images):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    for batch, remedy in ((4, "try a --batch-size below 4"), (1, "try a smaller model, or --device cpu")):
        target = HookedTarget(ModelBundle("own:net", "0", "0", small, Large), device="cpu", batch_size=batch)
        with pytest.raises(BackendError, match=re.escape(f"({remedy})")):
            target.layers()
