"""Export a run or labels in any of the formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.settings import revised
from line_neurons.eval.exchange.dataset import MARK, write_dataset
from line_neurons.eval.exchange.output_files import open_output, output_file, output_folder, refuse_existing
from line_neurons.eval.exchange.run_tables import TABLES, WRITERS, write_table
from line_neurons.eval.exchange.snapshot import Snapshot, open_snapshot
from line_neurons.eval.labels.columns import WRITE_FORMATS
from line_neurons.eval.labels.formats import write_csv
from line_neurons.eval.labels.labels import Labels
from line_neurons.eval.labels.library import find_labels
from line_neurons.eval.labels.names import file_stem, model_stem
from line_neurons.graphs.replay.provenance import provenance_of_run
from line_neurons.tools.store.runs import has_runs

SIDECAR = ".provenance.json"
"""Suffix of the file with the provenance of an exported file."""

FORMATS = (*WRITERS, *WRITE_FORMATS, "maia-units", "milan-exemplars", "hf-dataset", "neuronpedia-json", "bundle")
"""All formats by name."""

_TABLES = {**TABLES, "images": TABLES["pictures"]}
"""The tables by name; earlier versions called that of the images ``pictures``."""
_FOLDERS = frozenset({"hf-dataset", "milan-exemplars"})
_ENDINGS = {"neuronpedia-json": "json", "maia-units": "json", "bundle": "zip"}
"""Endings of files that differ from the name of the format."""


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Args:
        said: what was written.
        lacks: what the store no longer had; empty if nothing.
        remarks: skipped parts of a file of labels, a line for each reason.
    """

    path: Path
    said: str
    lacks: str = ""
    remarks: tuple[str, ...] = ()


def check_format(format_: str) -> str:
    """Return a format.

    Raises:
        UsageError: there is no such format.
    """
    if format_ not in FORMATS:
        raise UsageError(f"{format_!r:.40} is not a format", choices(format_, FORMATS))
    return format_


def export(
    store: Path, name: str, format_: str, output: Path, *, table: str = "units", layer: str | None = None,
    units_from: int | None = None, force: bool = False,
) -> Exported:  # fmt: skip
    """Write a run, or labels, to a file or folder, whole or not at all; also while the run is active.

    Args:
        name: a run; for the formats of other methods also a file of labels or labels in the store.
        format_: one of ``FORMATS``.
        output: the file or folder; in a folder the file gets its default name (``RUN.csv``).
        units_from: number of the first unit of such a file; see ``formats.read_labels``.

    Raises:
        UsageError: there is no such run or format, or the output does not fit or exists already.
        MissingPartError: the format's package is not installed.
        StoreError: the store cannot be read.
    """
    check_format(format_)
    if table not in _TABLES or (table != "units" and format_ not in WRITERS):
        known = f"{choices(table, ('units', 'steps', 'images'))} with --format {', '.join(WRITERS)}"
        raise UsageError(f"there is no table {table!r:.40} for {format_}", known)
    if format_ in WRITE_FORMATS:
        labels = find_labels(name, store, layer, units_from)
        return _labels(store, labels, format_, output, force)
    with open_snapshot(store, name) as snapshot:
        if format_ not in _FOLDERS:
            part = f"-{table}" if table != "units" else ""
            output = output_file(output, f"{snapshot.run.id}{part}.{_ENDINGS.get(format_, format_)}")
        refuse_existing(output, force=force)
        provenance = run_provenance(snapshot)
        if format_ == "hf-dataset":
            with output_folder(output, MARK) as folder:
                counts = write_dataset(snapshot, folder, provenance)
            lacks = f"{counts.lost} images" if counts.lost else ""
            return Exported(output, f"{counts.rows} rows of images", lacks)
        if format_ == "milan-exemplars":
            return _exemplars(store, snapshot, output, provenance)
        if format_ == "bundle":
            return _bundle(snapshot, output, provenance)
        with open_output(output) as file:
            if format_ in WRITERS:
                chosen = _TABLES[table]
                said = f"{write_table(chosen, chosen.rows(snapshot), format_, file, provenance)} rows of {table}"
            elif format_ == "maia-units":
                units = [unit.unit for unit in snapshot.units()]
                file.write(json.dumps({snapshot.run.layer: units}).encode() + b"\n")
                said = f"{len(units)} units"
            else:
                from line_neurons.eval.exchange.neuronpedia import write_features

                said = f"{write_features(snapshot, file, provenance)} features"
            _beside(output, provenance)
        return Exported(output, said)


def run_provenance(snapshot: Snapshot) -> dict[str, Any]:
    """Return the provenance of a run, JSON-ready, without its units, which are in the tables."""
    return provenance_of_run(snapshot.runs, snapshot.runs.run(snapshot.run.id))


def _labels(store: Path, labels: Labels, form: str, output: Path, force: bool) -> Exported:
    file = output_file(output, f"{file_stem(labels.model, labels.layer)}.csv")
    refuse_existing(file, force=force)
    write_csv(labels, file, form)
    if has_runs(store) and "/" not in labels.source:
        with open_snapshot(store, labels.source) as snapshot:
            _beside(file, run_provenance(snapshot))
    return Exported(file, f"{len(labels.labels)} labels of {labels.source}", remarks=labels.remarks)


def _exemplars(store: Path, snapshot: Snapshot, output: Path, provenance: Mapping[str, Any]) -> Exported:
    from line_neurons.eval.exchange.exemplars import MARK as EXEMPLARS
    from line_neurons.eval.exchange.exemplars import write_exemplars
    from line_neurons.graphs.runs.code_trust import require_trust
    from line_neurons.graphs.runs.components import Components
    from line_neurons.tools.targets.base import layer_fingerprint
    from line_neurons.tools.targets.custom import in_memory

    run = snapshot.runs.run(snapshot.run.id)
    if in_memory(run.model):
        raise UsageError(f"the model {run.model} of run {run.id} was in memory", "exemplars need the model itself")
    require_trust(snapshot.runs, run, {"llm": "random"})
    components = Components(run.model, revised(dict(run.settings), {"store": store}))
    control = components.control_set
    now = {
        "target": layer_fingerprint(components.target, run.layer),
        "control": control.fingerprint if control else "none",
    }
    for part, fingerprint in now.items():
        if fingerprint != run.fingerprints.get(part):
            raise UsageError(
                f"the {part} is not the one of run {run.id}, so its exemplars would be others",
                "install what the run began with",
            )
    units = [unit.unit for unit in snapshot.units()]
    with output_folder(output, EXEMPLARS) as folder:
        count = write_exemplars(components, run.layer, units, folder, model_stem(run.model))
        (folder / "provenance.json").write_text(json.dumps(provenance), "utf-8")
    return Exported(output, f"{count} exemplars of {len(units)} units")


def _bundle(snapshot: Snapshot, output: Path, provenance: Mapping[str, Any]) -> Exported:
    from line_neurons.eval.exchange.bundle_writer import write_bundle

    with open_output(output) as file:
        manifest = write_bundle(snapshot, file, provenance)
    lost = {"images": manifest.lost_images, "checkpoints (their units start again)": manifest.lost_threads}
    lacks = ", ".join(f"{count} {what}" for what, count in lost.items() if count)
    return Exported(output, f"{len(manifest.files)} files of run {manifest.run}", lacks)


def _beside(output: Path, provenance: Mapping[str, Any]) -> None:
    with open_output(output.with_name(output.name + SIDECAR)) as file:
        file.write(json.dumps(provenance, indent=1).encode() + b"\n")
