"""What follows a store that others write."""

import threading
from contextlib import closing

import pytest
from textual.app import App
from textual.screen import Screen

from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app import store_follower as following
from line_neurons.tui.app.store_follower import follow
from support.app_pilot import until
from support.store_factory import FAILED, INTERRUPTED

pytestmark = pytest.mark.anyio


class Watching(Screen):
    def __init__(self, store, read=RunStore.names):
        super().__init__()
        self.shown, self.told = [], []
        self._store, self._read = store, read

    def on_mount(self):
        follow(self, self._store, self._read, self.shown.append, self.told.append)


class Watcher(App):
    def __init__(self, screen):
        super().__init__()
        self.watching = screen

    def on_mount(self):
        self.push_screen(self.watching)


def change(store, status="pending"):
    with closing(RunStore(store)) as runs:
        runs.update_run(INTERRUPTED, status=status)


def status(runs):
    return runs.run(INTERRUPTED).status


async def test_what_changed_is_shown_and_what_did_not_is_not(store):
    screen = Watching(store, status)
    async with Watcher(screen).run_test() as pilot:
        await until(pilot, lambda: screen.shown == ["interrupted"])
        with closing(RunStore(store)) as runs:
            runs.update_run(FAILED, error="another run")
        change(store)
        await until(pilot, lambda: screen.shown == ["interrupted", "pending"])


async def test_a_screen_that_is_covered_waits_and_catches_up(store):
    reads = []
    screen = Watching(store, lambda runs: reads.append(1) or status(runs))
    async with Watcher(screen).run_test() as pilot:
        await until(pilot, lambda: screen.shown)
        pilot.app.push_screen(Screen())
        await pilot.pause(2 * following.POLL_SECONDS)
        before = len(reads)
        change(store)
        await pilot.pause(3 * following.POLL_SECONDS)
        assert (len(reads), screen.shown) == (before, ["interrupted"])
        pilot.app.pop_screen()
        await until(pilot, lambda: screen.shown == ["interrupted", "pending"])


async def test_what_is_wrong_is_told_once_and_reading_goes_on(store, monkeypatch):
    monkeypatch.setattr(following, "REREAD_SECONDS", 0.05)
    (store / "runs.db").rename(store / "away")
    screen = Watching(store)
    async with Watcher(screen).run_test() as pilot:
        await until(pilot, lambda: screen.told)
        await pilot.pause(0.3)
        assert [error.message for error in screen.told] == [f"there are no runs in {store} yet"]
        (store / "away").rename(store / "runs.db")
        await until(pilot, lambda: screen.shown)


async def test_a_mistake_in_reading_is_told_and_not_silence(store):
    screen = Watching(store, lambda runs: {}["nothing"])
    async with Watcher(screen).run_test() as pilot:
        await until(pilot, lambda: "KeyError" in str(screen.told[0]))


async def test_a_store_that_is_put_in_anothers_place_is_followed(store, monkeypatch):
    monkeypatch.setattr(following, "REREAD_SECONDS", 0.05)
    screen = Watching(store, lambda runs: runs.names()[0])
    async with Watcher(screen).run_test() as pilot:
        await until(pilot, lambda: screen.shown)
        for file in store.glob("runs.db*"):
            file.rename(store / f"away-{file.name}")
        with closing(RunStore(store / "new")):
            pass
        (store / "new" / "runs.db").rename(store / "runs.db")
        await until(pilot, lambda: "IndexError" in str(screen.told[-1]))


async def test_an_app_that_closes_while_the_store_is_read_ends(store):
    reading, go_on = threading.Event(), threading.Event()

    def read(runs):
        reading.set()
        go_on.wait(10)
        return 1

    screen = Watching(store, read)
    async with Watcher(screen).run_test() as pilot:
        await until(pilot, reading.is_set)
        threading.Timer(0.3, go_on.set).start()
    assert screen.shown == []


async def test_nothing_is_shown_on_a_screen_that_closes(store):
    screen = Watching(store)
    async with Watcher(screen).run_test() as pilot:
        await until(pilot, lambda: screen.shown)
        shown = []
        latest = following._Latest(screen, shown.append)
        latest.put("before")
        latest._deliver()
        latest.put("while it closes")
        removal = screen.remove()
        assert screen.is_attached
        latest._deliver()
        await removal
        assert shown == ["before"]
