"""Standard streams that are closed, full or broken: the command does its work all the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from line_neurons.tools.store.runs import RunStore, has_runs

PROGRAM = Path(__file__).parents[1] / "support" / "fake_line.py"
BATCH = f"{sys.executable} {PROGRAM} batch model head --units all --llm random -N 1 -n 1 --top 2 --random 2"


def shell(script, **options):
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=300, check=False, **options
    )


@pytest.mark.parametrize(
    "streams", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", "2>&1 | head -c 1; exit ${PIPESTATUS[0]}"]
)
def test_a_batch_is_finished_whatever_becomes_of_its_standard_streams(tmp_path, streams):
    store = tmp_path / "store"
    done = shell(f"{BATCH} --store {store} {streams}")
    (run,) = RunStore(store, read_only=True).runs()
    assert run.status == "finished", done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if "|" not in streams:
        assert done.returncode == 0, done.stderr


def test_results_that_cannot_be_written_are_told_in_a_line(tmp_path):
    store = tmp_path / "store"
    assert shell(f"{BATCH} --store {store}").returncode == 0
    done = shell(f"{sys.executable} {PROGRAM} runs --store {store} > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "No space left" in done.stderr


@pytest.mark.parametrize("nohup", [False, True])
def test_a_terminal_that_hangs_up_stops_a_batch_as_ctrl_c_does_unless_nohup_keeps_it(tmp_path, nohup):
    store, hold = tmp_path / "store", tmp_path / "hold"
    hold.touch()
    process = subprocess.Popen(
        [*(["nohup"] if nohup else []), *BATCH.split(), "--store", str(store)],
        env={**os.environ, "LINE_TEST_HOLD": str(hold)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    give_up = time.monotonic() + 120
    while not has_runs(store) or not _works(store):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    hold.unlink()
    _, err = process.communicate(timeout=120)
    assert process.returncode == (0 if nohup else 130), err
    (run,) = RunStore(store, read_only=True).runs()
    assert run.status == ("finished" if nohup else "interrupted")


def _works(store):
    runs = RunStore(store, read_only=True)
    try:
        return [run.status for run in runs.runs()] == ["running"]
    finally:
        runs.close()
