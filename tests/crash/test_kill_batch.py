"""`line batch` on real parts, killed from outside again and again, and compared with an undisturbed one."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from crash.campaign import evidence
from line_neurons.tools.doctor import store as store_check

ARGUMENTS = [
    *(
        "batch",
        "torchvision:mobilenet_v2",
        "classifier.1",
        "--units",
        "0-1",
        "--llm",
        "random",
        "--generator",
        "bank",
    ),
    *("--max-concurrent-units", "2", "--control-images", "1", "--hints", "0", "--top", "2", "--random", "2"),
    *("-n", "2", "-N", "1", "--restarts", "1"),
]
KILLS = 5 if "LINE_KILLS" in os.environ else 1


def start(store, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", "from line_neurons.tui.cli.main import main; main()", *arguments],
        env={**os.environ, "LINE_STORE": str(store)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def times_begun(store):
    """How many processes came so far as to work on the run."""
    try:
        with closing(sqlite3.connect(f"file:{store}/runs.db?mode=ro", uri=True)) as runs:
            return runs.execute("SELECT count(*) FROM events WHERE kind = 'work'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def seconds_of_work(store):
    """How long an undisturbed process worked on the run."""
    with closing(sqlite3.connect(f"file:{store}/runs.db?mode=ro", uri=True)) as runs:
        times = dict(runs.execute("SELECT kind, created FROM events WHERE kind IN ('work', 'finished')"))
    return times["finished"] - times["work"]


@pytest.mark.e2e
def test_a_real_batch_killed_from_outside_ends_as_an_undisturbed_one(
    line, assets, few_control_images, tmp_path, monkeypatch
):
    whole, killed, rng = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    monkeypatch.setenv("LINE_STORE", str(whole))
    status, _, err = line(*ARGUMENTS)
    assert status == 0, err
    for number in range(KILLS):
        process = start(killed, *(["resume"] if number else ARGUMENTS))
        give_up = time.monotonic() + 120
        while times_begun(killed) == number and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.8) * seconds_of_work(whole) / KILLS)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not [one for one in store_check.check(killed, deep=True) if one.kind == "image damaged"]
    monkeypatch.setenv("LINE_STORE", str(killed))
    status, _, err = line("resume")
    assert status == 0, err
    assert evidence(killed) == evidence(whole)
    assert store_check.check(killed, deep=True) == []
