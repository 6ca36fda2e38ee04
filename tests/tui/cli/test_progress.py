import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.progress import Progress

from line_neurons.graphs.runs.runner import Progress as RunProgress
from line_neurons.tools.cache.activation_cache import CacheStats
from line_neurons.tools.store.activity import next_phase
from line_neurons.tui.cli import progress
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.formatting import phase_text

# A first board, ten iterations and the summary.
LAST, EACH = 11, 12


def at(unit, node, step=0, *, finished=0, failed=0, drawn=0, reused=0, error="", units=4):
    return RunProgress(
        run="run", unit=unit, name=None, finished=finished, failed=failed, units=units, node=node,
        kind="iteration", step=step, steps=LAST, concept="", best=("fox", 1.5),
        stats=CacheStats(generated=drawn, reused=reused), error=error,
    )  # fmt: skip


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def many(clock, units=4):
    reporter = ProgressReporter(clock)
    reporter.many = True
    reporter.steps_in_all = units * LAST
    return reporter


def test_a_step_of_a_single_unit_is_a_line(capsys):
    clock = Clock()
    reporter = ProgressReporter(clock)
    reporter.steps_in_all = 2 * LAST
    for node, step in (("", 0), ("init", 1), ("propose", 1), ("update", 2)):
        clock.now += 10
        reporter.seconds_left = lambda: 420.0 if clock.now > 30 else None
        reporter.report(at(7, node, step))
    assert capsys.readouterr().err.splitlines() == [
        "unit 7: 0/22 steps, best fox 1.5",
        "unit 7: 1/22 steps, best fox 1.5, about 7 min left",
    ]


def test_many_units_are_told_of_every_quarter_of_a_minute(capsys):
    clock = Clock()
    reporter = many(clock)
    for second in range(61):
        clock.now = second
        reporter.report(at(second % 4, "update", 1 + second // 8))
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_units_images_and_the_time_left_are_those_of_the_whole_run(capsys):
    clock = Clock()
    reporter = many(clock)
    for unit in (1, 2):
        reporter.report(at(unit, ""))
    clock.now = 20
    reporter.seconds_left = lambda: 60.0
    reporter.report(at(1, "finished", EACH, finished=1, drawn=60, reused=20))
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "1/4 units, 11/44 steps, 3.0 images/s, 25% reused, about 60 s left"


def test_units_in_flight_count_by_the_steps_they_have_done(capsys):
    clock = Clock()
    reporter = many(clock)
    reporter.report(at(1, ""))
    clock.now = 20
    reporter.report(at(1, "init", 1))
    clock.now = 40
    reporter.report(at(2, "update", 2))
    # The initial scoreboard is no step.
    assert capsys.readouterr().err.splitlines()[-1] == "0/4 units, 1/44 steps, 0.0 images/s, 0% reused"


@pytest.mark.parametrize(("step", "done"), [(0, 0), (1, 0), (2, 1), (12, 11), (13, 11), (24, 22)])
def test_the_scoreboard_of_a_restart_is_no_step(step, done):
    restarted = replace(at(1, "update", step), steps=23, boards=2)
    assert (restarted.steps_done, restarted.steps_of_unit) == (done, 22)


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_stays_a_bar_and_the_description_gives_way(width):
    reporter = ProgressReporter()
    reporter.seconds_left = lambda: 3 * 3600.0
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    bars = Progress(*progress._columns(reporter, width), console=console, expand=True)
    description = "unit 483 (castle) · step 3/11 · best stone wall 16.4 · prompting for a concept"
    bars.add_task(description, total=66, completed=33, steps=True)
    with console.capture() as captured:
        console.print(bars.get_renderable())
    (text,) = captured.get().splitlines()
    assert len(text.rstrip()) <= width
    # Half of the narrow bar is full.
    assert text.count("━") >= 6
    assert "33/66 steps" in text
    assert "about 3.0 h left" in text
    assert text.startswith("unit 483 (castle) · step 3/11")


def test_a_preparation_of_unknown_length_is_told_once(capsys):
    reporter = ProgressReporter(Clock())
    reporter.report_preparation("loading language model", 0, 0)
    assert capsys.readouterr().err == "loading language model\n"


def test_a_failed_unit_is_told_at_once_with_its_reason_and_counted(capsys):
    clock = Clock()
    reporter = many(clock)
    reporter.report(at(1, ""))
    reporter.report(at(3, "failed", 2, failed=1, error="the server [red]fell\x1b[31m over"))
    clock.now = 15
    reporter.report(at(1, "init", 1, failed=1))
    told = capsys.readouterr().err.splitlines()
    assert told[1] == "unit 3 failed: the server [red]fell [31m over"
    assert "1/4 units (1 failed)" in told[2]


def test_the_last_unit_is_told_whenever_it_ends(capsys):
    clock = Clock()
    reporter = many(clock)
    reporter.report(at(1, ""))
    clock.now = 1
    reporter.report(at(1, "finished", EACH, finished=4))
    assert capsys.readouterr().err.splitlines()[-1].startswith("4/4 units")


def test_the_images_of_single_concepts_are_not_told_where_many_are_drawn_at_once(capsys):
    clock = Clock()
    reporter = many(clock)
    clock.now = 1000
    reporter.report_preparation("generating images", 1, 5)
    assert capsys.readouterr().err == ""
    reporter.report_preparation("control set", 1, 5)
    assert "control set: 1 of 5" in capsys.readouterr().err


def test_a_long_preparation_is_told_of_at_its_ends_and_every_minute_between(capsys):
    clock = Clock()
    reporter = ProgressReporter(clock)
    for done in range(1, 11):
        clock.now += 25
        reporter.report_preparation("units", done, 10)
    told = [
        "units: 1 of 10", "units: 4 of 10, about 2 min left", "units: 7 of 10, about 75 s left", "units: 10 of 10",
    ]  # fmt: skip
    assert capsys.readouterr().err.splitlines() == told


def test_the_bar_of_a_preparation_has_the_time_left_that_the_app_shows(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "err", Console(force_terminal=True, width=80, file=io.StringIO()))
    reporter = ProgressReporter(clock)
    phase = None
    for done in (1, 2, 3):
        clock.now = 10 * done
        phase = next_phase(phase, "control set", done, 15, clock.now)
        reporter.report_preparation("control set", done, 15)
    clock.now += 4
    assert phase_text(phase, clock.now) == "control set 3/15, for 24 s, about 2 min left"
    (task,) = reporter._bars.tasks
    assert str(progress._Left(reporter).render(task)) == "for 24 s, about 2 min left"
