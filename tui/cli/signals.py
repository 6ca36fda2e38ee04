"""Ctrl-C, SIGTERM and a closed terminal: the first lets the steps in hand end, the second leaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from langgraph.runtime import RunControl

from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.output import note

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = b"\x1b[?25h\n"


@contextmanager
def draining() -> Iterator[RunControl]:
    """Drain the control that this gives when the process is interrupted in the body; the handlers go afterwards.

    The second interruption ends the process with status 130. Signals are read by a thread of their own: the main
    thread may be inside a library that does not come back to Python for long. Outside the main thread, where no
    handler can be installed, interruptions do what they did before.
    """
    control = RunControl()
    if threading.current_thread() is not threading.main_thread():
        yield control
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    reader = threading.Thread(target=_listen, args=(reading, control), name="signals", daemon=True)
    # What nohup lets a process ignore stays ignored.
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _nothing) for number in heard}
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    reader.start()
    try:
        yield control
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)
        reader.join()
        os.close(reading)


def _nothing(*_: object) -> None:
    """Python's own part of a handler; the wake-up pipe has told the thread already."""


def _listen(reading: int, control: RunControl) -> None:
    interrupted = False
    while number := os.read(reading, 1):
        if number[0] not in _SIGNALS:
            continue
        if interrupted:
            _leave()
        interrupted = True
        control.request_drain("interrupted")
        with suppress(OSError):
            note("Finishing the steps in hand; Ctrl-C again leaves at once.")


def _leave() -> None:
    """End the process; what counts is in the store, and the system releases the locks."""
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR)
    os._exit(INTERRUPTED)
