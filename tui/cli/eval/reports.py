"""Tables and figures of ``line eval``: read from the store, printed, written to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.eval.reports.table import Report, Table, compact, display_text, write_report
from line_neurons.tools.store.runs import RunStore, has_runs, open_store
from line_neurons.tools.store.steering_queue import applied_kinds
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import counted

_WIDE = 60
"""Longest text of a cell on the screen; files have it in full."""


def print_report(report: Report, output: Path | None, *, as_json: bool) -> None:
    """Print a report, and write it to a folder if one is named.

    Raises:
        UsageError: the folder cannot be written to.
        MissingPartError: matplotlib is not installed.
    """
    written = write_report(report, output) if output is not None else []
    if as_json:
        terminal.dump(
            {
                "title": report.title,
                "notes": report.notes,
                "tables": {table.name: _records(table) for table in report.tables},
                "files": [str(path) for path in written],
            }
        )
        return
    for table in map(compact, report.tables):
        kept = [at for at, heading in enumerate(table.headings) if heading not in table.files_only]
        if not kept:
            continue
        headings = [table.headings[at] for at in kept]
        rows = [[_cut(display_text(table.headings[at], row[at])) for at in kept] for row in table.rows]
        terminal.table(headings, rows, table.title)
        if table.note:
            terminal.line(table.note)
    for note in report.notes:
        terminal.line(note)
    if written:
        terminal.note(f"Wrote {counted(len(written), 'file')} to {output}.")
    else:
        terminal.note("Name a folder with -o for CSV, Markdown and plots.")


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else text[: _WIDE - 1] + "…"


def _records(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.headings, map(_finite, row), strict=True)) for row in table.rows]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN is no JSON


def compare(store: Path, names: Sequence[str]) -> Report:
    """Figure 6 and ablations, from runs over the same units."""
    from line_neurons.eval.reports.histories import histories
    from line_neurons.eval.reports.run_comparison import comparison

    return comparison(histories(open_store(store), names), _evaluated(store))


def table1(store: Path, sources: Sequence[str]) -> Report:
    """Table 1, from the evaluations that the store keeps; sources as they were judged, ``third=x.csv`` too."""
    from line_neurons.eval.labels.library import split_source
    from line_neurons.eval.reports.method_table import table1 as compared

    known = _evaluated(store)
    runs = open_store(store) if has_runs(store) else None
    evaluated = {result.evaluation.source for result in known}
    steering = (
        {name: (runs.run_by_id(name), applied_kinds(runs, name)) for name in runs.names() if name in evaluated}
        if runs
        else {}
    )
    places: dict[str, set[str | None]] = {}
    for name in sources:
        method, place = split_source(name)
        found = _source(store, runs, place, known)
        told = {result.evaluation.method for result in known if result.evaluation.source == found}
        places.setdefault(name if method and method not in told else found, set()).add(method)
    wanted = [
        result for result in known
        if {None, result.evaluation.method} & places.get(result.evaluation.source, {None})
    ]  # fmt: skip
    return compared(wanted, list(places), steering)


def _source(store: Path, runs: RunStore | None, name: str, known: Sequence[Any]) -> str:
    """A source as it was evaluated: a file, labels that the store keeps, or a run by the beginning of its name."""
    from line_neurons.eval.labels.library import stored_labels

    evaluated = {result.evaluation.source for result in known}
    for source in (name, str(Path(name).absolute())):
        if source in evaluated:
            return source
    if labels := stored_labels(store, name):
        return labels.source
    return runs.run(name).id if runs and any(run.startswith(name) for run in runs.names()) else name


def _evaluated(store: Path, *, first: bool = True) -> list[Any]:
    """The evaluations of the store; of each unit the first label alone, or all."""
    if not (store / "evaluations.db").is_file():
        return []
    from line_neurons.tools.store.results.evaluations import Evaluations

    opened = Evaluations(store)
    try:
        return [result.first_labels if first else result for result in opened.results()]
    finally:
        opened.close()


def quality(store: Path, sources: Sequence[str], assets: Path, units_from: int | None = None) -> Report:
    """Whether labels of runs and files are right where units stand for classes.

    ``units_from`` is the number of the first unit in a file; see ``formats.read_labels``.
    """
    from line_neurons.eval.labels.formats import short_sources
    from line_neurons.eval.labels.library import find_labels
    from line_neurons.eval.labels.vocabulary import vocabulary_of_file, vocabulary_of_run
    from line_neurons.eval.labels.wordnet import WordNet
    from line_neurons.eval.reports.histories import distinguishing_names, steering_notes
    from line_neurons.eval.reports.label_quality import LabelSource, true_classes
    from line_neurons.eval.reports.label_quality import quality as marked
    from line_neurons.tools.image_bank.bank import BUNDLED, bundled_bank
    from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

    runs = open_store(store)
    every = [find_labels(source, store, units_from=units_from) for source in sources]
    known = set(runs.names())
    named = [runs.run(labels.source) for labels in every if labels.source in known]
    if not named:
        raise UsageError(
            "files do not say what units stand for", "name a run over the same units as well: it knows the classes"
        )
    places = dict.fromkeys((run.model, run.layer) for run in named)
    if len(places) > 1:
        shown_places = "; ".join(" ".join(place) for place in places)
        raise UsageError(f"the runs are of several layers: {shown_places:.150}", "name runs of one layer")
    words = WordNet(assets / "wordnet")
    encoder = SentenceEncoder(assets / "minilm")
    bank = None
    spoken = {run.settings.get(component) for run in named for component in ("generator", "control")}
    if bundled := [name for name in BUNDLED if name in spoken]:
        bank = bundled_bank(assets, max(bundled, key=lambda name: len(BUNDLED[name])))
    units = {unit.unit: unit for run in named for unit in runs.units(run.id)}
    classes = true_classes(words, list(units.values()), bank)
    details = dict(zip((run.id for run in named), distinguishing_names(named), strict=True))
    steering = [(run, applied_kinds(runs, run.id)) for run in named]
    asked = {run.id: units for run, units in steering}
    every = [
        replace(labels, labels=tuple(one for one in labels.labels if one.unit not in asked.get(labels.source, ())))
        for labels in every
    ]
    methods = [
        LabelSource(labels, details[labels.source], vocabulary_of_run(runs.run(labels.source), store))
        if labels.source in details
        else LabelSource(labels, file, vocabulary_of_file(Path(labels.source)))
        for labels, file in zip(every, short_sources([labels.source for labels in every]), strict=True)
    ]
    report = marked(methods, classes, words, encoder)
    passed_over = [f"{labels.source}: {line}" for labels in every for line in labels.remarks]
    return replace(report, notes=(*report.notes, *steering_notes(steering), *passed_over))


def planted(store: Path, sources: Sequence[str], assets: Path, units_from: int | None = None) -> Report:
    """Whether labels of runs and files name what planted units respond to.

    ``units_from`` is the number of the first unit in a file; see ``formats.read_labels``.

    Raises:
        UsageError: labels are of another model or layer, or no source tells the model.
    """
    from line_neurons.eval.labels.library import find_labels
    from line_neurons.eval.labels.wordnet import WordNet
    from line_neurons.eval.planted.report import PlantedLabels
    from line_neurons.eval.planted.report import planted as judged
    from line_neurons.tools.targets.planted.truth import LAYER, MODELS, planted_units

    runs = open_store(store) if has_runs(store) else None
    every = [find_labels(source, store, units_from=units_from) for source in sources]
    known = set(runs.names()) if runs else set()
    models = set()
    for labels in every:
        if labels.model not in {*MODELS, ""} or labels.layer not in {LAYER, ""}:
            where = f"{labels.model} {labels.layer}"
            raise UsageError(
                f"{labels.source} is of {where:.150}, which has no planted units",
                f"line batch {MODELS[0]} {LAYER} --units 0-122 labels some",
            )
        models |= {labels.model} - {""}
    if len(models) != 1:
        raise UsageError(
            f"the labels are of {' and '.join(sorted(models)) or 'no model that they name'}",
            "name a run over the same units as well, or labels of one model",
        )
    methods = [
        PlantedLabels(
            labels,
            frozenset(unit.unit for unit in runs.units(labels.source) if unit.marks)
            if runs and labels.source in known
            else frozenset(),
        )
        for labels in every
    ]
    report = judged(methods, planted_units(models.pop()), WordNet(assets / "wordnet"))
    passed_over = [f"{labels.source}: {line}" for labels in every for line in labels.remarks]
    return replace(report, notes=(*report.notes, *passed_over))


def facets(store: Path, sources: Sequence[str], assets: Path) -> Report:
    """What several labels of a unit come to, from evaluations in the store and from PRISM's files.

    Raises:
        UsageError: a source was not evaluated, or a file cannot be read.
    """
    from line_neurons.eval.labels.library import is_file, split_source
    from line_neurons.eval.reports.several_labels import JudgedLabels, UnitSummary, read_summaries, several_labels
    from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

    known, judged = _evaluated(store, first=False), list[JudgedLabels]()
    published: dict[str, Sequence[UnitSummary]] = {}
    runs = open_store(store) if has_runs(store) else None
    for source in sources:
        method, place = split_source(source)
        if is_file(place) and (read := read_summaries(Path(place).expanduser())) is not None:
            published[method or place] = read
            continue
        found = _source(store, runs, place, known)
        results = [result for result in known if found in {result.evaluation.source}]
        if not results:
            raise UsageError(f"{source!r:.80} was not evaluated", f"line eval cosy {source} --facets all"[:200])
        newest = max(results, key=lambda result: (len(result.scores), result.when))
        named = method or newest.evaluation.method
        taken = {one.method for one in judged}
        judged.append(
            JudgedLabels(f"{named} ({found})" if named in taken else named, newest.evaluation.layer, newest.scores)
        )
    return several_labels(judged, SentenceEncoder(assets / "minilm"), published)
