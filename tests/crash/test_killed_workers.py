"""Batches with workers, which are killed with their driver or alone: the store of a single process."""

import os

from crash.killed_workers import campaign

KILLS = int(os.environ.get("LINE_KILLS", "4"))


def test_killed_workers_and_drivers_change_nothing(tmp_path):
    every = 2 if KILLS < 50 else 10
    assert campaign(tmp_path, KILLS, every=every) == (KILLS - KILLS // every, KILLS // every)
