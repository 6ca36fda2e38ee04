"""Phases: how far work for no unit is, and how long it still takes."""

from contextlib import closing

import pytest

from line_neurons.tools.store.activity import next_phase, phases, report_phase
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore


@pytest.mark.parametrize(
    ("reports", "now", "left"),
    [
        ([(0, 10)], 5, None),
        # What was done before is no measure of the pace.
        ([(6, 10)], 5, None),
        ([(6, 0), (8, 10)], 10, 10),
        ([(0, 0), (1, 10)], 10, 90),
        # Between reports the time runs down, but the current piece is not done before its report.
        ([(0, 0), (1, 10)], 16, 84),
        ([(0, 0), (1, 10)], 60, 80),
        ([(0, 0), (1, 10), (1, 15)], 16, 84),
        ([(0, 0), (10, 10)], 10, 0),
    ],
)
def test_the_time_left_of_a_phase_follows_from_its_pace(reports, now, left):
    phase = None
    for done, at in reports:
        phase = next_phase(phase, "control set", done, 10, at)
    assert phase.seconds_left(now) == left


def test_a_phase_is_read_as_it_was_recorded_and_another_one_starts_anew(tmp_path):
    with closing(RunStore(tmp_path)) as runs:
        runs.add_run(Run("run-1", "module:net", "fc", 0, "pending", 1.0, {}, {}, {}, "line explain"), [])
        with acquire(runs, ["run-1"]):
            first = next_phase(None, "control set", 2, 10, 100.0)
            second = next_phase(first, "control set", 4, 10, 110.0)
            report_phase(runs, "run-1", second)
            assert phases(runs) == {"run-1": second}
            assert next_phase(second, "revisit", 0, 3, 120.0).since == 120.0
            report_phase(runs, "run-1", None)
            assert phases(runs) == {}
