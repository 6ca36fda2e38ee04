"""Work of ``line eval cosy`` and ``captions``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, cast, get_args

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.settings import Settings
from line_neurons.eval.cosy.images import ConceptImages, GeneratedImages, open_control, open_images
from line_neurons.eval.cosy.photographs import caption_photographs
from line_neurons.eval.cosy.protocol import Mode, select_labels
from line_neurons.eval.cosy.runner import (
    EvaluatedLayer,
    common_units,
    cosy_csv,
    cosy_file_name,
    evaluate_labels,
    facet_numbers,
    open_layer,
)
from line_neurons.eval.exchange.output_files import FolderPath, refuse_unwritable
from line_neurons.eval.labels.labels import Labels
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.control_sets import remarks_of
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.store.results.evaluations import CosyScore, Result
from line_neurons.tools.target_specs import short_spec
from line_neurons.tools.targets.unit_selectors import check_selectors
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.eval.session import interruptible, opened_results
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.formatting import counted

_FORMATS = ("table", "csv", "json")


@dataclass(frozen=True)
class CosyOptions:
    """Options of ``line eval cosy``."""

    mode: str = "fixed"
    images_from: str | None = None
    images: int | None = None
    control: str | None = None
    units: Sequence[str] | None = None
    model: str | None = None
    layer: str | None = None
    seed: int = 0
    units_from: int | None = None
    facets: bool = False


def cosy(
    names: Sequence[str],
    settings: Settings,
    changes: Mapping[str, Any],
    options: CosyOptions,
    *,
    format_: str,
    output: Path | None,
    trust: bool,
) -> None:
    """Evaluate the labels of each method, and print or write the scores.

    Settings are for labels of no run, ``changes`` override those of a run. The output is a folder or, for a
    single method, a file.

    Raises:
        LineError: an option is invalid, or a component failed.
        Exit: with status 130 if it was interrupted; the same command continues.
    """
    if options.mode not in get_args(Mode):
        raise UsageError(f"{options.mode!r:.40} is not a mode", choices(options.mode, get_args(Mode)))
    if format_ not in _FORMATS:
        raise UsageError(f"{format_!r:.40} is not a format", choices(format_, _FORMATS))
    if format_ == "csv" and len(names) > 1:
        raise UsageError("csv is for a single method", "write a folder with --output, or print json")
    mode = cast(Mode, options.mode)
    check_selectors(options.units or ())
    with ProgressReporter() as reporter, interruptible() as drain, ExitStack() as stack:
        subject = open_layer(
            names, settings, changes, model=options.model, layer=options.layer, units_from=options.units_from,
            mode=mode, facets=options.facets, on_progress=reporter.report_preparation, trust=trust,
        )  # fmt: skip
        files = _files(output, subject)
        if output is not None and files == [output]:
            refuse_unwritable(output)
        components = subject.components
        units = subject.select_units(options.units, options.seed)
        chosen = [select_labels(labels, units, mode, facets=options.facets) for labels in subject.labels]
        _say_left_out(subject.labels)
        images = open_images(
            options.images_from, components, subject.layer, count=options.images, seed=options.seed, mode=mode,
            given=changes.get("diffusion", {}),
        )  # fmt: skip
        stack.callback(getattr(images, "close", lambda: None))
        for note in _notes(images, components.settings):
            terminal.note(note)
        control = open_control(options.control, components)
        for labels in subject.labels:
            terminal.remarks(labels.source, labels.remarks)
        terminal.remarks(f"images {images.name}", images.remarks)
        terminal.remarks(f"control set {control[0]}", remarks_of(control[1]))
        with opened_results(components.store) as opened:
            results = [
                evaluate_labels(
                    subject, labels, some, images, control, opened,
                    mode=mode, seed=options.seed, on_progress=components.reporter(drain),
                )
                for labels, some in zip(subject.labels, chosen, strict=True)
            ]  # fmt: skip
    for file, result in zip(files, results, strict=bool(files)):
        write_file(file, cosy_csv(result.scores))
    _show(subject, results, units, format_)
    for what, source in {"images of concepts": images, "the control set": control[1]}.items():
        for note in getattr(source, "image_notes", ()):
            terminal.note(f"in {what}, {note}")
    for file in files:
        terminal.note(f"written: {file}")


def _notes(images: ConceptImages, settings: Settings) -> Iterator[str]:
    """Yield what the user should know of how images are made."""
    generated = images if isinstance(images, GeneratedImages) else None
    if generated and generated.note:
        yield generated.note
    if settings.uses_workers and not (generated and generated.workers):
        yield f"The images {images.name} are made and measured in this process: workers have no effect."


def _say_left_out(several: Sequence[Labels]) -> None:
    """Print how many units of runs are not evaluated, because they have no label."""
    for labels in several:
        if labels.unlabelled:
            number = counted(len(labels.unlabelled), "unit")
            terminal.note(f"{number} of {labels.source} without a label, left out: {labels.unlabelled[0][1]} ...")


def captions(folder: Path, settings: Settings) -> None:
    """Write the captions of a folder of photographs that are named by WordNet ids.

    Raises:
        LineError: there is no such folder, its names are not WordNet ids, or WordNet is not installed.
    """
    if not folder.is_dir():
        raise UsageError(f"{str(folder)!r:.200} is not a folder", "give a folder of photographs")
    written = caption_photographs(folder, WordNet((settings.assets or assets_root()) / "wordnet"))
    if written.unnamed:
        more = f" and {len(written.unnamed) - 1} more" if len(written.unnamed) > 1 else ""
        terminal.note(f"left out, not named by an id of WordNet: {written.unnamed[0]}{more}")
    terminal.remarks(str(folder), written.remarks)
    terminal.note(
        f"{counted(written.photographs, 'photograph')} of "
        f"{counted(written.synsets, 'thing')} named in {written.file}"
    )


def _files(output: Path | None, subject: EvaluatedLayer) -> list[Path]:
    if output is None:
        return []
    folder = isinstance(output, FolderPath) or output.is_dir()
    if folder or (len(subject.labels) > 1 and not output.exists()):
        model = subject.components.shown_model
        return [Path(output) / cosy_file_name(labels, model, subject.layer) for labels in subject.labels]
    if len(subject.labels) > 1:
        raise UsageError(f"{str(output)!r:.200} is not a folder", "several methods are written to a folder")
    return [output]


def _show(subject: EvaluatedLayer, results: Sequence[Result], units: Sequence[int] | None, format_: str) -> None:
    if format_ == "csv":
        sys.stdout.buffer.write(cosy_csv(results[0].scores))
        sys.stdout.buffer.flush()
        return
    if format_ == "json":
        terminal.dump([_json(result, common_units(results)) for result in results])
        return
    evaluation = results[0].evaluation
    where = f"{short_spec(evaluation.model)} {evaluation.layer}"
    several = any(score.facet for result in results for score in result.scores)
    for result in results:
        terminal.table(
            ["unit", *(["facet"] if several else []), "label", "AUC", "U1", "p", "MAD", "n", ""],
            [
                [
                    score.unit,
                    *([score.facet] if several else []),
                    score.concept,
                    *_numbers(score),
                    "not drawable" if score.missing else "",
                ]
                for score in result.scores
            ],
            f"{where}, {result.evaluation.method} ({result.evaluation.source})",
        )
    if several:
        _show_facets(where, results)
    results = [result.first_labels for result in results]
    readings: dict[str, set[int] | None] = {"each method on its own units": None}
    if len(results) > 1:
        readings["all methods on the units that all of them have scores for"] = common_units(results)
    for title, common in readings.items():
        terminal.table(
            ["method", "labels", "not drawable", "n", "AUC", "std of AUC", "MAD", "std of MAD"],
            [_summary(result, common) for result in results],
            f"{where}, {title}",
        )
    if units is not None:
        for result in results:
            if left := len(set(units) - {score.unit for score in result.scores}):
                method = result.evaluation.method
                terminal.note(f"{method} has no label for {left} of the {len(units)} units")
    control = f"control set {evaluation.control}, {evaluation.mode}, seed {evaluation.seed}"
    count = evaluation.count or "as many as there are"
    terminal.line(f"Images: {evaluation.image_source}, {count} of each concept; {control}")


def _show_facets(where: str, results: Sequence[Result]) -> None:
    """Print what the labels of a unit come to: the first, the best and the mean of them, over units."""
    rows = []
    for result in results:
        for measure in ("AUC", "MAD"):
            units = facet_numbers(result.scores, measure.lower())
            summaries = [mean(values) for values in zip(*units.values(), strict=True)] if units else [None] * 3
            rows.append([result.evaluation.method, measure, len(units), *summaries])
    headings = ["method", "measure", "units", "first label", "best label", "mean of labels"]
    terminal.table(headings, rows, f"{where}, all labels of a unit")


def _numbers(score: CosyScore) -> list[float | int | None]:
    return [None] * 5 if score.missing else [score.auc, score.u1, score.p, score.mad, score.n]


def _summary(result: Result, common: set[int] | None) -> list[object]:
    numbers = [score for score in result.scores if not score.missing and (common is None or score.unit in common)]
    missing = sum(bool(score.missing) for score in result.scores)
    cells: list[object] = [result.evaluation.method, len(result.scores), missing, len(numbers)]
    for values in ([score.auc for score in numbers], [score.mad for score in numbers]):
        cells += [mean(values) if values else None, stdev(values) if len(values) > 1 else None]
    return cells


def _json(result: Result, common: set[int]) -> dict[str, Any]:
    rows = [
        {**asdict(score), **({} if not score.missing else dict.fromkeys(("auc", "u1", "p", "mad")))}
        for score in result.scores
    ]
    return {**asdict(result.evaluation), "common": sorted(common), "units": rows}
