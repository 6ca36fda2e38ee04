"""Take labels of another method, or of a run elsewhere, into a store, where the evaluation finds them by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.formats import Labels, read_labels
from line_neurons.eval.labels.library import Kept, keep


def import_labels(
    store: Path,
    path: Path,
    *,
    name: str = "",
    model: str | None = None,
    layer: str | None = None,
    units_from: int | None = None,
) -> tuple[Kept, Labels]:
    """Keep the labels of a file.

    Args:
        store: the store's folder; made if it is not there.
        path: the file; see ``labels.read_labels``.
        name: what they are to be called; empty: as the method.
        model: the target that they are of, where the file does not say it.
        layer: the layer likewise, or which of several in the file.
        units_from: the number of the first unit, 0 or 1; see ``labels.read_labels``.

    Returns:
        where they are kept, and what they are.

    Raises:
        UsageError: the file is none of labels, does not say what it is of or counts from, or the name is taken.
    """
    labels = read_labels(path, name or None, layer, units_from, ask=True)
    # The file's own place says nothing on another machine.
    labels = replace(labels, model=model or labels.model, layer=layer or labels.layer, source=path.name)
    for what, found in {"model": labels.model, "layer": labels.layer}.items():
        if not found:
            raise UsageError(f"{path} does not say which {what} it is of", f"name it with --{what}")
    return keep(store, labels, name), labels
