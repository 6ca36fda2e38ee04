import sqlite3
from contextlib import closing

import pytest

from line_neurons.graphs.runs.lifecycle import work
from support.whole_runs import NEEDED, begun, closed, outcome, stopped_after


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """What the run of ``whole_runs`` finds when nothing disturbs it."""
    components, run = begun(tmp_path_factory.mktemp("undisturbed"))
    work(components, run)
    return outcome(components, run)


@pytest.fixture(scope="session")
def half_done(tmp_path_factory):
    """A store whose run was stopped half way, with everything in its databases and nothing in their logs."""
    store = tmp_path_factory.mktemp("half")
    components, run = begun(store)
    assert stopped_after(components, run, "update").status == "interrupted"
    closed(components)
    components.language_model._cache._replies._cache.engine.dispose()
    for name in [*NEEDED, "replies.db"]:
        with closing(sqlite3.connect(store / name)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return store, run
