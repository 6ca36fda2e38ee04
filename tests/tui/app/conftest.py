"""A store that runs wrote, and snapshots of the screens that show it.

A test of a screen reads::

    @pytest.mark.anyio
    async def test_a_failed_unit_says_why(store):
        async with opened(store, FAILED) as pilot:
            await sees(pilot, REASON)

    @pytest.mark.anyio
    async def test_how_it_looks(store, view, snapshot_svg):
        async with opened(store, FAILED, **view) as pilot:
            await sees(pilot, "striped animal")
            assert await drawn(pilot) == snapshot_svg

``pytest --snapshot-update`` writes the snapshots of the tests that run.
"""

import shutil
import sys
import time
from itertools import product
from pathlib import Path

import pytest
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from line_neurons.tui.app import external, store_follower, store_screen
from line_neurons.tui.app.runs import new_run, unit_list
from line_neurons.tui.app.runs import screen as runs_screen
from line_neurons.tui.app.unit import maps, steering
from support import store_factory as recorded_store
from support.app_pilot import SIZES, THEMES


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def real_store(tmp_path_factory):
    """The store of ``recorded_store``; to be looked at only."""
    store = tmp_path_factory.mktemp("recorded") / "store"
    recorded_store.build(store)
    return store


@pytest.fixture
def store(real_store, tmp_path, monkeypatch):
    """A copy of it, which may be written to, as a path from the working folder, which is the same anywhere."""
    shutil.copytree(real_store, tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINE_STORE", "store")
    return Path("store")


@pytest.fixture(autouse=True)
def _the_same_anywhere(monkeypatch):
    """No colours switched off, no time zone, no other store and no models of this machine."""
    for name in ("NO_COLOR", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    # A port where nobody listens.
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    """The app looks at the store and at its child processes more often than for people."""
    monkeypatch.setattr(store_follower, "POLL_SECONDS", 0.1)
    for module in (maps, new_run, runs_screen, steering, store_screen, unit_list):
        monkeypatch.setattr(module, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(new_run, "_DEBOUNCE", 0.2)


@pytest.fixture(
    params=list(product(SIZES, THEMES)),
    ids=lambda given: f"{given[0][0]}x{given[0][1]}-{given[1].removeprefix('line-')}",
)
def view(request):
    """The sizes and themes that each screen is drawn in, as arguments of ``opened``."""
    size, theme = request.param
    return {"size": size, "theme": theme}


@pytest.fixture
def scripted_line(monkeypatch):
    """What the app starts as `line` works with scripted engines; see ``scripted_line``."""
    program = Path(__file__).parents[2] / "support" / "fake_line.py"
    monkeypatch.setattr(external, "COMMAND", [sys.executable, str(program)])


class _Svg(SingleFileSnapshotExtension):
    file_extension = "svg"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def snapshot_svg(snapshot):
    return snapshot.use_extension(_Svg)
