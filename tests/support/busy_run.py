"""A run of many units that another process works on, with so many changes a second, in the runner's order.

``python busy_run.py STORE --events 1000 --seconds 20`` is that process; it prints as JSON how many changes a
second it made, and the times at which units finished.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from line_neurons.tools.store.activity import Activity, report_activity
from line_neurons.tools.store.leases import acquire, lease_unit
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore

RUN = "resnet50-layer4-1"
NODES = ("init", "propose", "synthesize", "activate", "score", "update")
STEPS = 10
IN_FLIGHT = 24


def build(store: Path, units: int, *, finished: float = 0.5, failed: float = 0.01) -> None:
    """A run of so many units, part of them finished and some failed."""
    draw = random.Random(0)

    def unit(index: int) -> Unit:
        if draw.random() > finished:
            return Unit(RUN, index, index)
        if draw.random() < failed:
            return Unit(RUN, index, index, "failed", error="the generator gave nothing")
        return Unit(RUN, index, index, "finished", **_label(draw))

    with closing(RunStore(store)) as runs:
        settings = {"iterations": STEPS - 1, "summary": True, "images": 10}
        run = Run(RUN, "torchvision:resnet50", "layer4", 0, "running", time.time(), settings, {}, {})
        rows = [unit(index) for index in range(units)]
        runs.add_run(run, rows)
        runs.put_steps([step for row in rows[:200] if row.label for step in _history(row.unit, draw)])


def worker(store: Path, events: int, seconds: float) -> subprocess.Popen[str]:
    """The process that works on it."""
    command = [sys.executable, __file__, store, "--events", events, "--seconds", seconds]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)


def work(store: Path, events: int, seconds: float) -> tuple[float, list[float]]:
    """Change the run so many times a second; gives how many it were, and the times at which units finished."""
    ended, began, written = [], time.monotonic(), 0
    with closing(RunStore(store)) as runs, acquire(runs, [RUN]):
        waiting = iter([unit.unit for unit in runs.units(RUN) if unit.status == "pending"])
        in_flight = [_unit(runs, unit, ended) for unit, _ in zip(waiting, range(IN_FLIGHT), strict=False)]
        # On a busy machine longer, until a unit has finished: what is measured are finished units.
        while in_flight and (time.monotonic() - began < seconds or not ended):
            searching = in_flight.pop(0)
            if next(searching, None) is not None:
                in_flight.append(searching)
            elif (unit := next(waiting, None)) is not None:
                in_flight.append(_unit(runs, unit, ended))
            written += 1
            time.sleep(max(began + written / events - time.monotonic(), 0))
        # As where a run is drained: each unit in flight gives up its lease.
        in_flight.clear()
    return written / (time.monotonic() - began), ended


def _unit(runs: RunStore, unit: int, ended: list[float]) -> Iterator[bool]:
    draw = random.Random(unit)
    with lease_unit(runs, RUN, unit):
        runs.update_unit(RUN, unit, status="running")
        yield True
        history = _history(unit, draw)
        best = ("", None)
        for entry in history:
            for node in NODES:
                doing = Activity(
                    unit, node, entry.kind, entry.step, STEPS, 0, entry.concept or "", *best, time.time()
                )
                report_activity(runs, RUN, doing, generated=unit * 10, reused=unit, measured=unit * 10)
                yield True
            runs.put_step(entry)
            best = (entry.concept or "", entry.score)
            yield True
        runs.update_unit(RUN, unit, status="finished", **_label(draw))
        ended.append(time.time())


def _history(unit: int, draw: random.Random) -> list[Step]:
    kinds = ["initial", *["iteration"] * (STEPS - 1), "summary"]
    return [
        Step(RUN, unit, step, 0, kind, "scored", f"concept {draw.randrange(3000)}", draw.random() * (step + 3))
        for step, kind in enumerate(kinds)
    ]


def _label(draw: random.Random) -> dict[str, object]:
    score = draw.gammavariate(6, 1)
    origin = draw.choice(["predefined", "proposed", "proposed", "summary"])
    return {
        "label": f"concept {draw.randrange(3000)}",
        "score": score,
        "origin": origin,
        "label_step": draw.randrange(1, STEPS),
        "discovered": origin != "predefined",
        "initial_label": f"class {draw.randrange(1000)}",
        "initial_score": score * draw.random(),
        "auc": draw.betavariate(9, 1),
        "mad": draw.random() * 9,
        "seconds": draw.random() * 90,
        "steps": STEPS,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    sys.stdout.write(json.dumps(work(given.store, given.events, given.seconds)))
