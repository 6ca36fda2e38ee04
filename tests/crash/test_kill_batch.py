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


def count(store, table, condition="1"):
    """How many rows a table of the runs has so far."""
    try:
        with closing(sqlite3.connect(f"file:{store}/runs.db?mode=ro", uri=True)) as runs:
            return runs.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


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
        # By steps and not by time: it may be faster than the undisturbed one.
        steps = int(count(whole, "steps") * (number + rng.uniform(0, 0.8)) / KILLS)
        while process.poll() is None and time.monotonic() < give_up:
            if count(killed, "events", "kind = 'work'") > number and count(killed, "steps") >= steps:
                break
            time.sleep(0.02)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not [one for one in store_check.check(killed, deep=True) if one.kind == "image damaged"]
    monkeypatch.setenv("LINE_STORE", str(killed))
    status, _, err = line("resume")
    assert status == 0, err
    assert evidence(killed) == evidence(whole)
    assert store_check.check(killed, deep=True) == []
