"""Work of ``line eval edits``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.ports import Control, EditKind, Editor
from line_neurons.agent.settings import Settings
from line_neurons.agent.text import shell_word
from line_neurons.eval.cosy.protocol import select_labels
from line_neurons.eval.cosy.runner import EvaluatedLayer, open_layer
from line_neurons.eval.edits.canvases import export_canvases
from line_neurons.eval.edits.report import edits_report
from line_neurons.eval.edits.runner import EditTask, evaluate_edits
from line_neurons.eval.edits.subjects import (
    LABEL,
    STRONGEST,
    RankedImages,
    Subject,
    folder_images,
    other_images,
    own_images,
)
from line_neurons.eval.edits.verifiers import KNOWN, NONE, Verifier, open_verifier, usual_verifier
from line_neurons.eval.labels.labels import Label
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.control_sets import PrecomputedControl, remarks_of
from line_neurons.tools.editors.folder import ORIGINAL, SIDE, TABLE, CanvasFolder, FolderEditor
from line_neurons.tools.editors.instructions import parse_words
from line_neurons.tools.editors.registry import FOLDER, EditorParts, check_editor, open_editor
from line_neurons.tools.editors.salient import SALIENT
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.store.results.edits import EditResults
from line_neurons.tools.targets.unit_selectors import check_selectors
from line_neurons.tools.vocabulary import imagenet_classes
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.eval.reports import print_report
from line_neurons.tui.cli.eval.session import interruptible, opened_results
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.formatting import counted

HOW = ("remove", "replace", "insert")


@dataclass(frozen=True)
class EditOptions:
    """Options of ``line eval edits``; its help describes them."""

    editor: str | None = None
    on: str | None = None
    how: str = "remove"
    images: int = 12
    verify: str | None = None
    other: str = ""
    units: Sequence[str] | None = None
    seed: int = 0
    words: Sequence[str] = ()
    from_folder: Path | None = None
    export: Path | None = None
    region: str = SALIENT

    @property
    def spec(self) -> str | None:
        """The editor: that of ``editor``, or of a folder of edits; None: as the generator needs.

        Raises:
            UsageError: more than one of editor, folder of edits and folder of an export is named.
        """
        named = {
            "--editor": self.editor, "--from-folder": self.from_folder, "--export-canvases": self.export,
        }  # fmt: skip
        given = [flag for flag, value in named.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} do not go together", f"leave {given[1]} out")
        return f"{FOLDER}={self.from_folder}" if self.from_folder is not None else self.editor


def edits(
    names: Sequence[str],
    settings: Settings,
    changes: Mapping[str, Any],
    options: EditOptions,
    *,
    model: str | None,
    layer: str | None,
    units_from: int | None,
    output: Path | None,
    as_json: bool,
    trust: bool,
) -> None:
    """Edit the images of labels, check and measure the edits, and print the tables.

    Raises:
        LineError: an option is invalid, or a component failed.
        Exit: with status 130 if it was interrupted; the same command continues.
    """
    kinds = edit_kinds(options.how, HOW)
    words = parse_words(options.words)
    spec = options.spec
    if spec is not None:
        check_editor(spec, words, options.region)
    check_selectors(options.units or ())
    with ProgressReporter() as reporter, interruptible() as drain:
        evaluated = open_layer(
            names, settings, changes, model=model, layer=layer, units_from=units_from,
            on_progress=reporter.report_preparation, trust=trust,
        )  # fmt: skip
        components = evaluated.components
        selected = evaluated.select_units(options.units, options.seed)
        chosen = [select_labels(labels, selected, "fixed") for labels in evaluated.labels]
        for labels in evaluated.labels:
            if labels.unlabelled:
                terminal.note(
                    f"{counted(len(labels.unlabelled), 'unit')} of {labels.source} without a label left out"
                )
        name, editor = _editor(components, spec, words, options)
        for kind in kinds:
            if kind not in editor.kinds:
                made = ", ".join(sorted(editor.kinds & set(HOW)))
                raise UsageError(
                    f"the editor {name} cannot {kind}", f"it can {made}; choose another --editor or --how"
                )
        on = options.on or (LABEL if editor.exact else STRONGEST)
        if editor.exact and on != LABEL:
            raise UsageError(
                f"the editor {name} edits images that the image bank composes, not --on {on!r:.80}",
                "leave --on out, or choose another --editor",
            )
        _check_control(evaluated, changes)
        # A server that is away is found before anything is measured.
        verifier = None if options.export else choose_verifier(components, editor, options)
        control = components.control(evaluated.layer, drain)
        ranked = _ranked(components, evaluated.layer, on, exact=editor.exact)
        results = []
        with opened_results(components.store) as opened:
            for how in kinds:
                task = EditTask(
                    evaluated, editor, name, verifier, on, how, options.images, options.seed, control, ranked
                )
                subjects = _subjects(task, chosen[0], on)
                for labels, some in zip(evaluated.labels, chosen, strict=True):
                    shared = [label for label in some if label.unit in subjects]
                    if left := len(some) - len(shared):
                        first = evaluated.labels[0].source
                        terminal.note(
                            f"{counted(left, 'unit')} of {labels.source} without a label in {first} left out"
                        )
                    others = {} if how == "remove" else _others(task, shared, options.other)
                    if isinstance(editor, CanvasFolder):
                        export_canvases(task, editor, shared, subjects, others, words)
                        continue
                    results.append(
                        evaluate_edits(
                            task, labels, shared, subjects, others, EditResults(opened), components.reporter(drain)
                        )
                    )
    terminal.remarks(f"control set {components.settings.control}", remarks_of(components.control_set))
    if isinstance(editor, CanvasFolder):
        _print_canvases(editor, as_json=as_json)
        return
    print_report(edits_report(results, components.store), output, as_json=as_json)


def edit_kinds(how: str, known: Collection[str], of: str = "") -> list[EditKind]:
    """Parse kinds of edit that are separated by commas.

    Raises:
        UsageError: one is not ``known``; ``of`` says of what.
    """
    names = [name.strip() for name in how.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"{name!r:.40} is not a kind of edit{of}", choices(name, known))
    return cast("list[EditKind]", list(dict.fromkeys(names)))


def _editor(
    components: Components, spec: str | None, words: Mapping[str, str], options: EditOptions
) -> tuple[str, Editor]:
    if options.export is not None:
        return FOLDER, CanvasFolder(options.export)
    if spec is None:
        if not uses_image_bank(components.settings.generator):
            raise UsageError(
                f"no editor is named, and images of {components.settings.generator!r:.60} are not composed",
                "name one with --editor",
            )
        spec = "composed"
    parts = EditorParts(
        components.settings, components.assets, lambda: components.generator, words=words, region=options.region
    )
    editor = open_editor(spec, parts)
    return (FOLDER if isinstance(editor, FolderEditor) else spec), editor


def _print_canvases(folder: CanvasFolder, *, as_json: bool) -> None:
    rows = folder.write()
    images, needed = len({row.pixels for row in rows}), sum(row.needed == "yes" for row in rows)
    if as_json:
        terminal.dump({"folder": str(folder.folder), "images": images, "edits": needed, "rows": len(rows)})
        return
    terminal.line(f"{counted(images, 'image')} and {counted(needed, 'edit')} to make: {folder.folder / TABLE}")
    terminal.note(
        f"Edit each {ORIGINAL}, save it under the row's file name with {SIDE} x {SIDE} pixels, and give the same "
        f"command with --from-folder {shell_word(str(folder.folder))} in place of --export-canvases."
    )


def _check_control(evaluated: EvaluatedLayer, changes: Mapping[str, Any]) -> None:
    """Check that the control set is that of the runs, unless another is named."""
    components = evaluated.components
    control = components.control_set
    if control is None or {"control", "control_images", "class_names"} & changes.keys():
        return
    for labels in evaluated.labels:
        runs = components.runs
        if labels.source not in runs.names():
            continue
        before = runs.run(labels.source).fingerprints.get("control", "none")
        if before not in {"none", control.fingerprint}:
            raise UsageError(
                f"the control set {components.settings.control!r:.80} differs from that of run {labels.source}",
                "restore its images, or name another one with --control",
            )


def _ranked(components: Components, layer: str, on: str, *, exact: bool) -> RankedImages | None:
    """Open the images that subjects are chosen from, or that a verifier is calibrated on."""
    if on not in {LABEL, STRONGEST}:
        folder = Path(on)
        return RankedImages(components, layer, folder_images(components, folder), folder.name)
    control = components.control_set
    if exact or (on == LABEL and (control is None or isinstance(control, PrecomputedControl))):
        return None
    return RankedImages(components, layer, control, str(components.settings.control))


def choose_verifier(components: Components, editor: Editor, options: EditOptions) -> Verifier | None:
    """Open the verifier that the user names, or the usual one; None: no edit is verified, or the bank knows."""
    spec = options.verify
    if editor.exact:
        if spec not in {None, KNOWN}:
            raise UsageError(
                f"images of the image bank need no verifier, and {spec!r:.80} is named", "leave --verify out"
            )
        return None
    if spec == KNOWN:
        raise UsageError("only the image bank knows what its images show", "name a model with --verify")
    if spec is None:
        spec = usual_verifier(components)
        if spec is None:
            terminal.note(
                "No edit is verified: name a verifier with --verify, or `line assets install resnet50 wordnet`."
            )
            return None
        terminal.note(f"Verifier: {spec}, another network of ImageNet; choose with --verify, or {NONE}.")
    return open_verifier(spec, components, imagenet_classes, options.seed)


def _subjects(task: EditTask, labels: Sequence[Label], on: str) -> dict[int, Sequence[Subject]]:
    """Return the images to edit of each unit: those of the first labels, so that all methods share them."""
    components, count, seed = task.evaluated.components, task.count, task.seed
    units = [label.unit for label in labels]
    if task.how == "insert":
        if task.ranked is not None:
            return dict(task.ranked.weakest(units, count, seed))
        return {
            unit: other_images(
                components, _weak_classes(task.control, unit), unit, count, task.editor.offers, seed
            )
            for unit in units
        }
    if on == LABEL:
        return {label.unit: own_images(components, label.concept, count, seed) for label in labels}
    assert task.ranked is not None
    return dict(task.ranked.strongest(units, count))


def _weak_classes(control: Control | None, unit: int) -> list[str]:
    """Return the control classes on which a unit's mean activation is in the lower half.

    Raises:
        UsageError: the control set has no classes.
    """
    if control is None or not control.classes:
        raise UsageError("the control set has no classes to insert a concept for", "name one with --control")
    column = control.column(unit)
    limit = float(np.median(column))
    means = {name: float(column[control.labels == at].mean()) for at, name in enumerate(control.classes)}
    return [name for name, mean in means.items() if mean <= limit]


def _others(task: EditTask, labels: Sequence[Label], named: str) -> dict[int, str]:
    """Choose what takes the place of each label: a weak control class that is near in meaning.

    Raises:
        UsageError: there is none, or the editor does not offer the one that was named.
    """
    if named:
        if not task.editor.offers(named):
            raise UsageError(
                f"the editor {task.editor_name} cannot show {named!r:.80}", "name another with --other"
            )
        return {label.unit: named for label in labels}
    encoder = task.evaluated.components.text_encoder
    chosen = {}
    for label in labels:
        words = [
            word
            for word in _weak_classes(task.control, label.unit)
            if concept_key(word) != concept_key(label.concept)
        ]
        if words:
            rows = encoder.encode([label.concept, *words])
            nearest = np.argsort(-(rows[1:] @ rows[0]), kind="stable")
            found = next((words[at] for at in nearest if task.editor.offers(words[at])), None)
            if found:
                chosen[label.unit] = found
                continue
        raise UsageError(
            f"unit {label.unit}: no class of the control set can take the place of {label.concept!r:.80}",
            "name one with --other",
        )
    return chosen
