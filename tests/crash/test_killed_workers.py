"""Batches with workers, which are killed with their driver or alone: the store of a single process."""

import os

from crash.killed_workers import campaign

KILLS = int(os.environ.get("LINE_KILLS", "6"))


def test_killed_workers_and_drivers_change_nothing(tmp_path):
    workers, drivers = campaign(tmp_path, KILLS, drivers=0.4 if KILLS < 50 else 0.1)
    assert workers + drivers == KILLS and drivers
