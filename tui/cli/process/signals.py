"""Graceful shutdown on Ctrl-C, SIGTERM and a closed terminal: finish the current steps, or exit at once."""

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
    """Yield a control that is drained when the process is interrupted in the body.

    A second interruption ends the process with status 130. A separate thread reads the signals, since the main
    thread may be inside a library for long. Outside the main thread, where no handler can be installed,
    interruptions keep their usual effect.
    """
    control = RunControl()
    if threading.current_thread() is not threading.main_thread():
        yield control
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    reader = threading.Thread(target=_listen, args=(reading, control), name="signals", daemon=True)
    # Signals ignored under nohup stay ignored.
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _nothing) for number in handled}
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
    """Do nothing: the wake-up pipe has notified the thread."""


def _listen(reading: int, control: RunControl) -> None:
    interrupted = False
    while number := os.read(reading, 1):
        if number[0] not in _SIGNALS:
            continue
        if interrupted:
            _exit()
        interrupted = True
        control.request_drain("interrupted")
        with suppress(OSError):
            note("Finishing the current steps; Ctrl-C again exits at once.")


def _exit() -> None:
    """End the process; the store has every finished step, and the system releases the locks."""
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR)
    os._exit(INTERRUPTED)
