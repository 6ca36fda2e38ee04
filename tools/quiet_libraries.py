"""Silence transformers and diffusers in the terminal."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from line_neurons.tools.parallel import SharedChange

# Filters are the process's, so they are set once, when this is imported, and not by one of several threads.
# Said once, in a notebook without widgets, by the first import of tqdm; their bars are not shown there.
warnings.filterwarnings("ignore", message="IProgress not found")
# Said by diffusers about itself each time that a half-precision VAE decodes.
warnings.filterwarnings("ignore", message=".*upcast_vae.*", category=FutureWarning)

_Library = Literal["transformers", "diffusers"]
_Loudness = tuple[int, bool]
"""A library's verbosity, and whether it shows progress bars."""


def _silence(library: _Library) -> SharedChange[_Loudness]:
    def say() -> Any:
        return importlib.import_module(f"{library}.utils.logging")

    def save() -> _Loudness:
        return say().get_verbosity(), say().is_progress_bar_enabled()

    def silence() -> None:
        say().set_verbosity(logging.CRITICAL)
        say().disable_progress_bar()

    def restore(before: _Loudness) -> None:
        verbosity, bars = before
        say().set_verbosity(verbosity)
        if bars:
            say().enable_progress_bar()

    return SharedChange(save, silence, restore)


_SILENCES: Mapping[_Library, SharedChange[_Loudness]] = {
    "transformers": _silence("transformers"),
    "diffusers": _silence("diffusers"),
}


@contextmanager
def quiet(*libraries: _Library) -> Iterator[None]:
    """Silence progress bars and advice of libraries in the terminal.

    Errors too: they are raised as well, and reported in one line. A library's verbosity is the process's: the
    first of several threads silences it, and the last restores it.
    """
    with ExitStack() as stack:
        for name in libraries:
            stack.enter_context(_SILENCES[name].applied())
        yield
