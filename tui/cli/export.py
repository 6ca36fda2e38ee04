"""What ``line export`` and ``line import`` do and say."""

from __future__ import annotations

import zipfile
from dataclasses import asdict
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.eval.exchange import export as formats
from line_neurons.tui.cli import output as terminal


def export(
    store: Path,
    name: str,
    format_: str,
    output: Path,
    *,
    table: str = "units",
    layer: str | None = None,
    units_from: int | None = None,
    force: bool = False,
    as_json: bool,
) -> None:
    """Write a run or labels; see ``exports.formats.export``."""
    done = formats.export(
        store, name, format_, output, table=table, layer=layer, units_from=units_from, force=force
    )
    terminal.remarks(name, done.remarks)
    if as_json:
        terminal.dump({**asdict(done), "path": str(done.path)})
        return
    terminal.note(f"{done.summary} written to {done.path}")
    if done.missing:
        terminal.note(f"left out, since the store has them no more: {done.missing}")


def import_(
    store: Path,
    path: Path,
    *,
    name: str,
    model: str | None,
    layer: str | None,
    units_from: int | None,
    as_json: bool,
) -> None:
    """Take in a bundle, or a file of labels.

    Args:
        store: the store's folder.
        path: the file.
        name: what labels are to be called; empty: as the method.
        model: the target of labels.
        layer: the layer of labels.
        units_from: what the units of labels count from.
        as_json: print JSON.

    Raises:
        LineError: there is no such file, it is not taken in, or an option does not fit it.
    """
    path = path.expanduser()
    if not path.is_file():
        if path.exists() and not path.is_dir():
            raise UsageError(
                f"{str(path)!r:.200} is a pipe, which can be read only once", "write it to a file first"
            )
        raise UsageError(
            f"there is no file {str(path)!r:.200}", "name a bundle of `line export`, or a file of labels"
        )
    if _is_bundle(path):
        options = {"--as": name, "--model": model, "--layer": layer, "--units-from": units_from}
        if given := [option for option, value in options.items() if value not in {None, ""}]:
            raise UsageError(f"{given[0]} is for labels, and {str(path)!r:.200} is a bundle", "leave it away")
        _bundle(store, path, as_json)
    else:
        _labels(store, path, name, model, layer, units_from, as_json)


def _is_bundle(path: Path) -> bool:
    # One that was cut is none for zipfile, but begins as one.
    with path.open("rb") as file:
        return file.read(2) == b"PK" or zipfile.is_zipfile(path)


def _bundle(store: Path, path: Path, as_json: bool) -> None:
    from line_neurons.eval.exchange.bundle_import import import_bundle

    done = import_bundle(store, path)
    if as_json:
        terminal.dump(asdict(done))
        return
    if not done.new:
        terminal.note(f"run {done.run} is here already; nothing was changed")
        return
    terminal.note(f"run {done.run} is here now: line show {done.run}")
    if done.run != done.original_run:
        terminal.note(f"it was called {done.original_run}, a name that another run here has")
    if done.lost_images:
        terminal.note(f"{done.lost_images} of its images were lost before it was exported")


def _labels(
    store: Path, path: Path, name: str, model: str | None, layer: str | None, units_from: int | None, as_json: bool
) -> None:
    from line_neurons.eval.labels.library import import_labels

    kept, labels = import_labels(store, path, name=name, model=model, layer=layer, units_from=units_from)
    if as_json:
        told = {"labels": len(labels.labels), "remarks": labels.remarks}
        terminal.dump({**kept._asdict(), "path": str(kept.path), **told})
        return
    terminal.remarks(path.name, labels.remarks)
    counted = terminal.counted(len(labels.labels), "label")
    if kept.new:
        terminal.note(
            f"{counted} of {labels.model} {labels.layer} kept as {kept.name}: line eval cosy {kept.name}"
        )
    else:
        terminal.note(f"these {counted} are here already as {kept.name}; nothing was changed")
