"""How fast the table of units is: python tests/tui/app/latency.py --units 10000 --events 1000

It opens the app on a run of so many units that another process changes so many times a second, presses keys, and
reports how long it takes from a key to the paint that shows its effect, and from a unit's end to the paint of it.
What a terminal then does with it is not in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import gc
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from textual import events as textual_events
from textual._compositor import CompositorUpdate

sys.path.insert(0, str(Path(__file__).parents[2]))

from line_neurons.tui.app.app import LineApp
from line_neurons.tui.app.units.header import RunHeader
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.app.units.table import UnitsTable
from support import busy_run


class Watched:
    """Notes when what was painted: once the characters for a terminal are made, which a headless app leaves out.

    ``painted`` has the time at which each sight (see ``sight``) was painted first since ``forget``; ``shown`` the
    number of finished units and the time of each reading that was shown.
    """

    def __init__(self) -> None:
        self.painted: dict[str, float] = {}
        self.shown: list[tuple[int, float]] = []
        self._drawn: set[str] = set()
        display, render_line, show = LineApp._display, UnitsTable.render_line, RunHeader.show

        def displayed(app, screen, renderable):
            display(app, screen, renderable)
            if isinstance(renderable, CompositorUpdate):
                renderable.render_segments(app.console)
                now = time.perf_counter()
                for what in self._drawn:
                    self.painted.setdefault(what, now)

        def line_rendered(table, y):
            strip = render_line(table, y)
            if table.current_line is not None and y == table._cursor - table.scroll_offset.y + 1:
                self._drawn.add(sight(table, table._cursor))
            return strip

        def run_shown(head, seen):
            show(head, seen)
            self.shown.append((seen.statistics.states.get("finished", 0), time.time()))

        LineApp._display, UnitsTable.render_line, RunHeader.show = displayed, line_rendered, run_shown

    def forget(self) -> None:
        self.painted.clear()
        self._drawn.clear()


async def key_to_paint(app: LineApp, watched: Watched, key: str, effect: str) -> float:
    """Seconds from the moment at which a key is handed to the app to the paint that shows its effect."""
    watched.forget()
    event = textual_events.Key(key, key if len(key) == 1 else None)
    event.set_sender(app)
    began = time.perf_counter()
    app._driver.send_message(event)
    while effect not in watched.painted and time.perf_counter() - began < 5:
        await asyncio.sleep(0.0005)
    return watched.painted[effect] - began


def sight(table: UnitsTable, cursor: int, *, descending=None, shown=None) -> str:
    descending = table.descending if descending is None else descending
    return f"{table.column.key} {descending} {len(table.lines) if shown is None else shown} {cursor}"


async def measure(store: Path, args: argparse.Namespace) -> None:
    began = time.perf_counter()
    watched = Watched()
    app = LineApp(store, busy_run.RUN)
    app.animation_level = "none"
    async with app.run_test(size=(args.width, args.height)) as pilot:
        while not (isinstance(app.screen, UnitsScreen) and watched.painted):
            await asyncio.sleep(0.001)
        print(
            f"open: {1000 * (time.perf_counter() - began):.0f} ms from the app's start to the first rows painted"
        )
        table = app.screen.query_one(UnitsTable)
        process = busy_run.worker(store, args.events, args.seconds) if args.events else None
        await pilot.pause(2.5 if process else 0.5)
        draw, times, cpu, since = random.Random(0), [], time.process_time(), time.perf_counter()
        while time.perf_counter() - since < args.seconds - 9:
            key = draw.choice(["down"] * 6 + ["up"] * 3 + ["pagedown"] * 3 + ["pageup", "end", "home"])
            last, page = len(table.lines) - 1, table._page_rows - 1
            cursor = table._cursor
            to = {"down": cursor + 1, "up": cursor - 1, "pagedown": cursor + page, "pageup": cursor - page,
                  "end": last, "home": 0}[key]  # fmt: skip
            to = min(max(to, 0), last)
            if to != cursor:
                times.append(await key_to_paint(app, watched, key, sight(table, to)))
            await asyncio.sleep(draw.uniform(0.02, 0.12))
        used = (time.process_time() - cpu) / (time.perf_counter() - since)
        report(f"key to paint ({len(times)} keys)", times)
        print(f"the app took {100 * used:.0f} % of one core")
        await orders_and_filters(app, watched, pilot, table)
        if process:
            changes, ended = json.loads(process.communicate()[0])
            print(f"the other process made {changes:.0f} changes a second")
            lag(ended, watched.shown)
        await asyncio.sleep(3)
        print(f"at the end {watched.shown[-1][0]} finished units are shown")


async def orders_and_filters(app: LineApp, watched: Watched, pilot, table: UnitsTable) -> None:
    from line_neurons.tui.app.units.columns import SORTABLE

    table.action_end(-1)
    flips, sorts = [], []
    for column in SORTABLE:
        began = time.perf_counter()
        table.sort(column, descending=False)
        sorts.append(time.perf_counter() - began)
        await pilot.pause(0.05)
    report("sort by each column, without the paint", sorts)
    table.sort(SORTABLE[0], descending=False)
    await pilot.pause(0.1)
    for _ in range(20):
        table.action_end(-1)
        await pilot.pause(0.05)
        # The cursor stays on its unit: at the first row before, on the last one after.
        flips.append(await key_to_paint(
            app, watched, "o", sight(table, len(table.lines) - 1, descending=not table.descending)))  # fmt: skip
    report("o to the paint of the other order", flips)
    from line_neurons.tui.app.units.filter import matcher

    filters = []
    for query in ["concept 1", "state:failed", "score>6", "-origin:predefined auc>=0.9", "17", "running"] * 3:
        began = time.perf_counter()
        table.filter(matcher(query))
        filters.append(time.perf_counter() - began)
        await pilot.pause(0.02)
    table.filter(None)
    report("filter, without the paint", filters)


def lag(ended: list[float], shown: list[tuple[int, float]]) -> None:
    before = shown[0][0]
    counts = [count for count, _ in shown]
    late = []
    for place, written in enumerate(ended, before + 1):
        first = bisect.bisect_left(counts, place)
        if first < len(shown):
            late.append(shown[first][1] - written)
    print(f"{len(ended)} units ended, the run was shown {len(shown)} times")
    if late:
        report("from a unit's end to its being shown", late)


def report(what: str, seconds: list[float]) -> None:
    sort_lines = sorted(seconds)
    p95 = sort_lines[min(int(len(sort_lines) * 0.95), len(sort_lines) - 1)]
    print(
        f"{what}: median {1000 * statistics.median(sort_lines):.1f} ms, p95 {1000 * p95:.1f} ms,"
        f" max {1000 * sort_lines[-1]:.1f} ms"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1000, help="changes a second; 0: nobody writes")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--height", type=int, default=48)
    given = parser.parse_args()
    print(
        f"{given.units} units, {given.events} changes a second, {platform.python_version()}, {platform.machine()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        busy_run.build(Path(folder), given.units)
        gc.freeze()  # as `line tui` does
        asyncio.run(measure(Path(folder), given))
