"""Silence transformers and diffusers in the terminal."""

from __future__ import annotations

import importlib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

# Said once, in a notebook without widgets, by the first import of tqdm; their bars are not shown there.
warnings.filterwarnings("ignore", message="IProgress not found")

_Library = Literal["transformers", "diffusers"]


@dataclass
class _Hold:
    """A library's verbosity before it was silenced, and how many silence it now."""

    holders: int = 0
    before: tuple[int, bool] = (logging.WARNING, True)


@dataclass
class _Holds:
    lock: threading.Lock = field(default_factory=threading.Lock)
    by_library: dict[str, _Hold] = field(default_factory=dict)


_holds = _Holds()


@contextmanager
def quiet(*libraries: _Library) -> Iterator[None]:
    """Silence progress bars and advice of libraries in the terminal.

    Errors too: they are raised as well, and reported in one line. A library's verbosity is the process's: the
    first of several threads silences it, and the last restores it.
    """
    for name in libraries:
        _hold(name)
    try:
        yield
    finally:
        for name in libraries:
            _release(name)


def _hold(library: str) -> None:
    say = _logging_of(library)
    with _holds.lock:
        hold = _holds.by_library.setdefault(library, _Hold())
        if not hold.holders:
            hold.before = say.get_verbosity(), say.is_progress_bar_enabled()
            say.set_verbosity(logging.CRITICAL)
            say.disable_progress_bar()
        hold.holders += 1


def _release(library: str) -> None:
    say = _logging_of(library)
    with _holds.lock:
        hold = _holds.by_library[library]
        hold.holders -= 1
        if not hold.holders:
            verbosity, bars = hold.before
            say.set_verbosity(verbosity)
            if bars:
                say.enable_progress_bar()


def _logging_of(library: str) -> Any:
    return importlib.import_module(f"{library}.utils.logging")
