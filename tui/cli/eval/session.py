"""What the commands of ``line eval`` share: their interruption, and the results in the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from line_neurons.agent.errors import DrainedError
from line_neurons.tools.store.locks import shared_lock
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.output import note
from line_neurons.tui.cli.process.signals import draining

if TYPE_CHECKING:
    from langgraph.runtime import RunControl


@contextmanager
def interruptible() -> Iterator[RunControl]:
    """Yield a control that an interruption of the body drains.

    Raises:
        Exit: with status 130 if it was interrupted; the same command continues.
    """
    with draining() as drain:
        try:
            yield drain
        except DrainedError:
            note("Interrupted; the same command continues where it stopped.")
            raise typer.Exit(INTERRUPTED) from None


@contextmanager
def opened_results(store: Path) -> Iterator[Evaluations]:
    """Open the results of a store for the body, in which nothing of the store is removed."""
    with shared_lock(store), closing(Evaluations(store)) as opened:
        yield opened
