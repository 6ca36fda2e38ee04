"""The estimate of the time that a run still takes."""

import pytest

from line_neurons.tools.store.leases import acquire, lease_unit
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.time_left import time_left
from line_neurons.tui.cli.progress import AgeingEstimate

SETTINGS = {"iterations": 4, "summary": True, "restarts": 0, "max_concurrent_units": 1}


@pytest.fixture
def runs(tmp_path):
    return RunStore(tmp_path)


def run_of(runs, units, **settings):
    run = Run("run", "model", "layer", 0, "running", 0.0, SETTINGS | settings, {}, {})
    runs.add_run(run, [Unit("run", unit, unit) for unit in range(units)])
    return run


def began_at(runs, at, unit=None):
    with runs.atomic() as db:
        db.execute("UPDATE leases SET began = ? WHERE unit IS ?", [at, unit])


def piece(runs, unit, step, at):
    kind = "iteration" if step else "initial"
    runs.put_step(Step("run", unit, step, 0, kind, "scored", f"thing {step}", 1.0, created=at))


def test_nothing_is_estimated_before_a_step_was_measured(runs):
    run = run_of(runs, 2)
    assert time_left(runs, run, 100.0) is None
    with acquire(runs, ["run"]):
        began_at(runs, 0.0)
        assert time_left(runs, run, 100.0) is None
        piece(runs, 0, 0, 30.0)
        assert time_left(runs, run, 100.0) is None


def test_scoreboards_and_steps_are_counted_each_by_its_own_time_and_the_current_one_runs_down(runs):
    run = run_of(runs, 2)
    with acquire(runs, ["run"]), lease_unit(runs, "run", 0):
        began_at(runs, 0.0)
        began_at(runs, 0.0, 0)
        for step, at in enumerate((30.0, 40.0, 50.0)):
            piece(runs, 0, step, at)
        found = time_left(runs, run, 50.0)
        assert found.pace == (30.0, 10.0)
        # Three more steps of the first unit, and a board with five steps of the second.
        assert found.seconds == 30 + 80
        assert time_left(runs, run, 56.0).seconds == 104
        # A step that takes longer than the others raises the estimate.
        assert time_left(runs, run, 80.0).seconds > time_left(runs, run, 61.0).seconds


def test_units_at_once_share_the_time_and_ended_ones_have_none_left(runs):
    run = run_of(runs, 5, max_concurrent_units=4)
    with acquire(runs, ["run"]), lease_unit(runs, "run", 0):
        began_at(runs, 0.0)
        began_at(runs, 0.0, 0)
        for step, at in enumerate((30.0, 40.0)):
            piece(runs, 0, step, at)
        alone = time_left(runs, run, 40.0).seconds
        assert alone == (40 + 4 * 80) / 4
        for unit in range(1, 5):
            runs.update_unit("run", unit, status="finished")
        assert time_left(runs, run, 40.0).seconds == 40
        runs.update_unit("run", 0, status="finished")


def test_the_work_of_an_earlier_process_says_nothing_of_the_pace(runs):
    run = run_of(runs, 1)
    piece(runs, 0, 0, 10.0)
    piece(runs, 0, 1, 1000.0)
    with acquire(runs, ["run"]), lease_unit(runs, "run", 0):
        began_at(runs, 5000.0)
        began_at(runs, 5000.0, 0)
        assert time_left(runs, run, 5001.0) is None
        piece(runs, 0, 2, 5010.0)
        piece(runs, 0, 3, 5020.0)
        assert time_left(runs, run, 5020.0).seconds == 20


def test_an_estimate_runs_down_between_two_readings():
    now, estimates = [0.0], iter((100.0, 90.0))
    left = AgeingEstimate(lambda: next(estimates), lambda: now[0])
    assert left() == 100
    now[0] = 1.5
    assert left() == 98.5
    now[0] = 2.5
    assert left() == 90
    now[0] = 4.0
    assert left() == 88.5
