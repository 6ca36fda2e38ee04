"""The terminal app under Pilot: open it on a store, wait for what it shows, look at it."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager

from textual.widgets import Input

from line_neurons.tui.app import store_follower
from line_neurons.tui.app.app import LineApp

SIZES = ((80, 24), (160, 48))
THEMES = ("line-dark", "line-light")
WAIT_SECONDS = 60

# What differs between one drawing of a screen and another, or is fetched from elsewhere.
_FONTS = re.compile(r"@font-face \{.*?\}\n?", re.DOTALL)
_IDS = re.compile(r"terminal-\d+")
_SPACE = re.compile(r"[ \t]+$", re.MULTILINE)

_pause = store_follower._pause


def _noted_pause(worker, seconds):
    """Pause between two looks at the store; the first has been passed on by then."""
    worker.has_read = True
    _pause(worker, seconds)


store_follower._pause = _noted_pause


@asynccontextmanager
async def opened(store, run=None, *, size=SIZES[0], theme=THEMES[0]):
    """The app on a store without animations; gives its pilot."""
    app = LineApp(store, run)
    app.animation_level = "none"
    async with app.run_test(size=size) as pilot:
        if theme in app.available_themes:
            app.theme = theme
        await pilot.pause()
        yield pilot


async def until(pilot, condition):
    """Let the app work until ``condition()`` holds, and give what it gave; what it raises counts as not yet."""
    give_up = time.monotonic() + WAIT_SECONDS
    await pilot.pause(0)
    while True:
        try:
            if found := condition():
                return found
        except Exception:
            if time.monotonic() > give_up:
                raise
        if time.monotonic() > give_up:
            raise AssertionError(f"after {WAIT_SECONDS} s the app shows:\n{shown(pilot)}")
        # Pilot's own pause wakes every widget, which costs more than the app itself takes to get on.
        await asyncio.sleep(0.02)


def shown(pilot):
    """The text on the screen, a line for each row."""
    compositor = pilot.app.screen._compositor
    strips = compositor.render_strips() if hasattr(compositor, "render_strips") else []
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def sees(pilot, *texts):
    """Wait until all texts are on the screen."""
    await until(pilot, lambda: all(text in shown(pilot) for text in texts))


async def rested(pilot):
    """Wait until every worker has ended or, if it follows the store, has read it, and the app has shown it all."""

    def busy():
        return [
            worker
            for worker in pilot.app.workers
            if not (worker.is_finished or (worker.group == "follow" and getattr(worker, "has_read", False)))
        ]

    rounds = 0
    while rounds < 2:
        await until(pilot, lambda: not busy())
        # What they brought may start others.
        await pilot.pause()
        rounds = 0 if busy() else rounds + 1


def told(pilot):
    """What notifications say, which are not drawn under Pilot."""
    return " ".join(f"{one.title} {one.message}" for one in pilot.app._notifications)


async def drawn(pilot):
    """The screen as SVG once it has come to rest, the same wherever and whenever it is drawn."""
    for field in pilot.app.screen.query(Input):
        field.cursor_blink = False
    before, now = None, ""
    while before != now:
        await rested(pilot)
        await pilot.pause(0.05)
        before, now = now, _svg(pilot)
    return now


def _svg(pilot):
    return _SPACE.sub("", _IDS.sub("terminal", _FONTS.sub("", pilot.app.export_screenshot())))
