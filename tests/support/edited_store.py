"""Edits of a unit's images in a store, as an evaluation leaves them."""

from __future__ import annotations

from contextlib import closing

from line_neurons.tools.store.results.edits import EditArm, EditedUnit, EditEvaluation, EditResults
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tools.store.runs import RunStore


def add_edits(store, run, unit, *, how="remove", name="grass <b>"):
    """Record two edits with images that the unit's history has: a verified one and a failed one."""
    with closing(RunStore(store, read_only=True)) as runs:
        record = runs.run(run)
        images = [image for step in runs.steps(record.id, unit) for image in step.images][:3]
    evaluation = EditEvaluation(
        "line", record.id, record.model, record.layer, "composed", "known", "label", how, 2, 0
    )
    arms = []
    for place, verdict in enumerate(["ok", "still there"]):
        base = EditArm(unit, place, "original", "00", f"{name} {place}", image=images[0], activation=9.0)
        arms += [
            base,
            EditArm(unit, place, "concept", "00", f"{name} {place}", how, "grass", image=images[1], activation=1.5,
                    verdict=verdict, detail="registered" if place else ""),
            EditArm(unit, place, "elsewhere", "00", f"{name} {place}", "elsewhere", "grass", image=images[2],
                    activation=8.5),
        ]  # fmt: skip
    numbers = {
        "pictures": 2,
        "ok": 1,
        "effect": 7.0,
        "low": None,
        "high": None,
        "p": 0.03125,
        "rank": 2,
        "units": 40,
    }
    with closing(Evaluations(store)) as opened:
        results = EditResults(opened)
        results.put(evaluation, arms)
        results.put_unit(evaluation, EditedUnit(unit, "grass", numbers))
    return record.id
