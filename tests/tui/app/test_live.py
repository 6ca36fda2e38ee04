"""The app watches runs of other processes, stops them, resumes them, and leaves them alone when it ends."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app import external
from line_neurons.tui.app.runs.screen import RunsScreen
from support.app_pilot import opened, sees, until

pytestmark = pytest.mark.anyio

UNITS = 3
RUN = "tiny-head-1"
PROGRAM = Path(__file__).parents[2] / "support" / "fake_line.py"


@pytest.fixture
def hold(tmp_path, monkeypatch, scripted_line):
    """A file; while it is there, a process that works on a run goes no further than to its next image."""
    path = tmp_path / "hold"
    path.touch()
    monkeypatch.setenv("LINE_TEST_HOLD", str(path))
    yield path
    # What a failed test left behind comes to its end.
    path.unlink(missing_ok=True)


@pytest.fixture
def batch(tmp_path, monkeypatch, hold):
    """Starts ``line batch`` as from another shell."""
    begun = []

    def begin():
        monkeypatch.chdir(tmp_path)
        arguments = ["batch", "torchvision:tiny", "head", "--units", "0-2", "--iterations", "3", "--no-revisit",
                     "--max-concurrent-units", "2", "--store", "store"]  # fmt: skip
        with Path("batch.log").open("wb") as log:
            process = subprocess.Popen([*external.COMMAND, *arguments], stdout=log, stderr=log)
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def state(store=Path("store")):
    with closing(RunStore(store, read_only=True)) as runs:
        return runs.run(RUN).status, runs.progress(RUN)[0], lease_status(runs, check_liveness=False).get(RUN)


async def test_a_batch_is_watched_stopped_resumed_and_watched_to_its_end(batch, hold):
    process = batch()
    async with opened(Path("store"), size=(160, 48)) as pilot:
        await sees(pilot, "No runs here yet.")
        await sees(pilot, RUN, "● running", f"process {process.pid} on")
        # Before that the process would stop at once.
        await until(pilot, hold.with_suffix(".reached").exists)
        await pilot.press("x")
        await sees(pilot, "◐ stopping")
        # With each beat a process reads what it is asked for: two later it has acted on it.
        beats = state()[2].holder.beats
        await until(pilot, lambda: state()[2].holder.beats > beats + 1)
        hold.unlink()
        await sees(pilot, "‖ interrupted", "r resumes")
        assert process.wait(60) == 130
        status, finished, held = state()
        assert (status, held) == ("interrupted", None)
        assert finished < UNITS
        await pilot.press("r")
        await sees(pilot, "◌ starting")
        await sees(pilot, "✓ finished", f"{UNITS}/{UNITS}")
    assert state() == ("finished", UNITS, None)


async def test_the_end_and_the_death_of_the_app_leave_a_run_alone(batch, hold):
    process = batch()
    async with opened(Path("store")) as pilot:
        await sees(pilot, "● running")
    watching = (
        f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r}); import anyio, app_pilot\n"
        "from pathlib import Path\n"
        "async def watch():\n"
        "    async with app_pilot.opened(Path('store')) as pilot:\n"
        "        await app_pilot.sees(pilot, 'running')\n"
        "        print('sees', flush=True)\n"
        "        await anyio.sleep(60)\n"
        "anyio.run(watch)"
    )
    viewer = subprocess.Popen([sys.executable, "-c", watching], stdout=subprocess.PIPE)
    assert viewer.stdout.readline() == b"sees\n"
    viewer.kill()
    viewer.wait()
    assert process.poll() is None
    hold.unlink()
    assert process.wait(120) == 0
    assert state() == ("finished", UNITS, None)


async def test_a_run_that_the_app_began_outlives_it(tmp_path, hold):
    store = tmp_path / "store"
    launched = external.launch(store, ["batch", "torchvision:tiny", "head", "--units", "0-2", "--iterations", "1"])
    assert os.getsid(launched.pid) == launched.pid
    async with opened(store) as pilot:
        await sees(pilot, "● running")
        assert isinstance(pilot.app.screen, RunsScreen)
    assert launched.poll() is None
    hold.unlink()
    assert launched.process.wait(120) == 0
    assert state(store)[:2] == ("finished", UNITS)


@pytest.mark.e2e
async def test_a_real_batch_is_watched_to_its_end(assets, few_control_images, tmp_path):
    store = tmp_path / "store"
    arguments = ["batch", "torchvision:mobilenet_v2", "classifier.1", "--units", "483,889", "--llm", "random",
                 "--generator", "bank", "--iterations", "1", "--images", "2", "--control-images", "1"]  # fmt: skip
    launched = external.launch(store, arguments)
    give_up = time.monotonic() + 300
    async with opened(store, size=(160, 48)) as pilot:
        seen = set()
        while launched.poll() is None and time.monotonic() < give_up:
            await asyncio.sleep(0.05)
            seen |= {row.state for row in getattr(pilot.app.screen, "_rows", [])}
        await until(pilot, lambda: "running" in seen)
        await sees(pilot, "✓ finished", "2/2")
    assert launched.poll() == 0, launched.last_message()
