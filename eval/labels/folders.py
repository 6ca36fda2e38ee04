"""Folders of results of other tools as labels: MAIA's, OpenMAIA's, DEXTER's."""

from __future__ import annotations

from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.dexter import dexter_runs, read_dexter
from line_neurons.eval.labels.labels import Labels
from line_neurons.eval.labels.maia import read_maia


def read_label_folder(folder: Path, method: str | None = None, layer: str | None = None) -> Labels:
    """Read the labels in a folder of results.

    Args:
        folder: of runs of DEXTER, or of MAIA's units.
        method: name of the method; None: the tool's.

    Raises:
        UsageError: it holds no labels, or a file of it cannot be read.
    """
    try:
        return read_dexter(folder, method) if dexter_runs(folder) else read_maia(folder, method, layer)
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}", "name another folder") from None
