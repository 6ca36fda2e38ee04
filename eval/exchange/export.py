"""The formats that a run can be exported in, and one way to write all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.eval.exchange.dataset import MARK, write_dataset
from line_neurons.eval.exchange.output_files import open_output, output_file, output_folder, refuse_existing
from line_neurons.eval.exchange.run_tables import TABLES, WRITERS, write_table
from line_neurons.eval.exchange.snapshot import Snapshot, snapshot
from line_neurons.eval.labels.formats import WRITE_FORMATS, Labels, write_csv
from line_neurons.eval.labels.library import find_labels
from line_neurons.eval.labels.names import file_stem
from line_neurons.graphs.replay.provenance import provenance_of_run
from line_neurons.tools.store.runs import has_runs

SIDECAR = ".provenance.json"
"""What is put after the name of a file for that which says where it comes from."""

FORMATS = (*WRITERS, *WRITE_FORMATS, "hf-dataset", "neuronpedia-json", "bundle")
"""All formats by name."""

_ENDINGS = {"neuronpedia-json": "json", "bundle": "zip"}
"""Of files whose format is called otherwise."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the file or folder.
        said: how much of what.
        lacks: what of the run the store did not have any more; empty if nothing.
        remarks: what of a file of labels was passed over, a line for each reason.
    """

    path: Path
    said: str
    lacks: str = ""
    remarks: tuple[str, ...] = ()


def export(
    store: Path, name: str, format_: str, output: Path, *, table: str = "units", layer: str | None = None,
    units_from: int | None = None, force: bool = False,
) -> Exported:  # fmt: skip
    """Write a run, or labels, to a file or folder, whole or not at all; also while the run goes on.

    Args:
        store: the store's folder.
        name: a run; for the forms of other methods a file of labels or labels that the store keeps, too.
        format_: one of ``FORMATS``.
        output: the file or folder; a file goes into a folder under its usual name (``RUN.csv``).
        table: which table of a run, for the formats of tables.
        layer: which of the layers of a file of labels.
        units_from: what the units of such a file count from; see ``labels.read_labels``.
        force: replace what is there.

    Raises:
        UsageError: there is no such run or format, or what is written to does not fit or is there already.
        MissingPartError: the format's package is not installed.
        StoreError: the store cannot be read.
    """
    if format_ not in FORMATS:
        raise UsageError(f"{format_!r:.40} is not a format", f"use {', '.join(FORMATS)}")
    if table not in TABLES or (table != "units" and format_ not in WRITERS):
        known = f"{', '.join(TABLES)} with --format {', '.join(WRITERS)}"
        raise UsageError(f"there is no table {table!r:.40} for {format_}", known)
    if format_ in WRITE_FORMATS:
        labels = find_labels(name, store, layer, units_from)
        return _labels(store, labels, format_, output, force)
    with snapshot(store, name) as taken:
        if format_ != "hf-dataset":
            part = f"-{table}" if table != "units" else ""
            output = output_file(output, f"{taken.run.id}{part}.{_ENDINGS.get(format_, format_)}")
        refuse_existing(output, force=force)
        about = run_provenance(taken)
        if format_ == "hf-dataset":
            with output_folder(output, MARK) as folder:
                counts = write_dataset(taken, folder, about)
            lacks = f"{counts.lost} images" if counts.lost else ""
            return Exported(output, f"{counts.rows} rows of images", lacks)
        if format_ == "bundle":
            return _bundle(taken, output, about)
        with open_output(output) as file:
            if format_ in WRITERS:
                chosen = TABLES[table]
                said = f"{write_table(chosen, chosen.rows(taken), format_, file, about)} rows of {table}"
            else:
                from line_neurons.eval.exchange.neuronpedia import write_features

                said = f"{write_features(taken, file, about)} features"
            _beside(output, about)
        return Exported(output, said)


def run_provenance(taken: Snapshot) -> dict[str, Any]:
    """Where a run comes from, JSON-ready, without its units: what is told of these is in the tables."""
    return provenance_of_run(taken.runs, taken.runs.run(taken.run.id))


def _labels(store: Path, labels: Labels, form: str, output: Path, force: bool) -> Exported:
    file = output_file(output, f"{file_stem(labels.model, labels.layer)}.csv")
    refuse_existing(file, force=force)
    write_csv(labels, file, form)
    if has_runs(store) and "/" not in labels.source:
        with snapshot(store, labels.source) as taken:
            _beside(file, run_provenance(taken))
    return Exported(file, f"{len(labels.labels)} labels of {labels.source}", remarks=labels.remarks)


def _bundle(taken: Snapshot, output: Path, about: Mapping[str, Any]) -> Exported:
    from line_neurons.eval.exchange.bundle_writer import write_bundle

    with open_output(output) as file:
        manifest = write_bundle(taken, file, about)
    lost = {"images": manifest.lost_images, "checkpoints (their units start again)": manifest.lost_threads}
    lacks = ", ".join(f"{count} {what}" for what, count in lost.items() if count)
    return Exported(output, f"{len(manifest.files)} files of run {manifest.run}", lacks)


def _beside(output: Path, about: Mapping[str, Any]) -> None:
    with open_output(output.with_name(output.name + SIDECAR)) as file:
        file.write(json.dumps(about, indent=1).encode() + b"\n")
