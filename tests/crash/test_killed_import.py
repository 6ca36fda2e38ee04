"""Imports of a bundle killed by SIGKILL: the same import is done again, and ends as an undisturbed one.

`make crash` kills 20 times; the number of kills is the variable LINE_KILLS.
"""

import os
import random
import signal
import sqlite3
import time
from contextlib import closing, suppress

from crash.campaign import evidence
from crash.kill_points import PLACES
from line_neurons.eval.exchange.export import export
from line_neurons.tools.doctor import store as store_check
from line_neurons.tools.store.runs import RunStore

KILLS = 20 if "LINE_KILLS" in os.environ else 2
ALONG_THE_WAY = [
    "image, half written",
    "image, before it is renamed",
    "image, before its row",
    "bank, in a transaction",
    "control set, half written",
    "control set, before its row",
    "run store, in a transaction",
]
# What the same import takes up, and a resume too.
_IN_HAND = {"leftover", "image without a row", "image kept", "control without a row",
            "checkpoint without its unit"}  # fmt: skip


def test_an_import_that_was_killed_is_done_again(nursery, tmp_path):
    assert set(ALONG_THE_WAY) <= set(PLACES)
    assert nursery.do(store=str(tmp_path / "old"), log=str(tmp_path / "log")) == 0
    with closing(RunStore(tmp_path / "old")) as runs:
        (run,) = runs.names()
    bundle = str(export(tmp_path / "old", run, "bundle", tmp_path / "run.zip").path)
    began = time.monotonic()
    assert nursery.do(store=str(tmp_path / "whole"), bundle=bundle) == 0
    seconds = time.monotonic() - began
    expected, rng, kills, number = evidence(tmp_path / "whole"), random.Random(0), 0, 0
    while kills < KILLS:
        number += 1
        store = tmp_path / str(number)
        for _ in range(rng.randint(1, 3)):
            if number % 2:
                place = ALONG_THE_WAY[(number // 2) % len(ALONG_THE_WAY)]
                status = nursery.do(store=str(store), bundle=bundle, place=place, call=rng.randint(1, 2))
            else:
                child = nursery.start(store=str(store), bundle=bundle)
                time.sleep(rng.uniform(0, seconds))
                # It may have ended by itself.
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                status = nursery.wait()
            assert status in {0, -signal.SIGKILL}
            kills += status != 0
            if store.exists():
                assert {problem.kind for problem in store_check.check(store, deep=True)} <= _IN_HAND
        assert nursery.do(store=str(store), bundle=bundle) == 0
        assert evidence(store) == expected
        assert store_check.check(store, deep=True) == []
    print(f"\nkilled while a bundle was imported: {kills} in {number} stores, 0 differences")  # noqa: T201


def test_an_empty_database_keeps_no_import_away(nursery, tmp_path):
    assert nursery.do(store=str(tmp_path / "old"), log=str(tmp_path / "log")) == 0
    with closing(RunStore(tmp_path / "old")) as runs:
        (run,) = runs.names()
    bundle = export(tmp_path / "old", run, "bundle", tmp_path / "run.zip").path
    (tmp_path / "new").mkdir()
    for name in store_check.DATABASES:
        (tmp_path / "new" / name).touch()
    assert nursery.do(store=str(tmp_path / "new"), bundle=str(bundle)) == 0
    with closing(sqlite3.connect(tmp_path / "new" / "runs.db")) as db:
        assert db.execute("SELECT id FROM runs").fetchall() == [(run,)]
