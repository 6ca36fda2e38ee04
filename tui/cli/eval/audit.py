"""Work of ``line audit``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.agent.concepts import class_concept
from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.ports import Control, EditKind, Editor
from line_neurons.agent.settings import Settings
from line_neurons.eval.audit.answers import read_answers, read_words
from line_neurons.eval.audit.figures import map_figures
from line_neurons.eval.audit.lean import PREFIXES, Edits
from line_neurons.eval.audit.report import audit_report
from line_neurons.eval.audit.runner import AuditTask, audit_features
from line_neurons.eval.cosy.runner import EvaluatedLayer
from line_neurons.eval.edits.runner import EditTask
from line_neurons.eval.edits.subjects import RankedImages
from line_neurons.eval.edits.verifiers import NONE
from line_neurons.eval.labels.labels import Labels
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.eval.reports.label_quality import Truth, names_of, true_classes
from line_neurons.graphs.loop.state import stop_if_drained
from line_neurons.tools.control_sets import PrecomputedControl, remarks_of
from line_neurons.tools.editors.registry import EditorParts, check_editor, open_editor
from line_neurons.tools.image_bank.bank import BUNDLED
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.store.records import Unit
from line_neurons.tools.store.results.audits import Audit, AuditResults
from line_neurons.tools.store.results.edits import EditResults
from line_neurons.tools.targets.base import layer_fingerprint
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.eval.audit_classes import AuditedClasses, Classifier, of_model, of_run
from line_neurons.tui.cli.eval.edits import EditOptions, choose_verifier, edit_kinds
from line_neurons.tui.cli.eval.reports import print_report
from line_neurons.tui.cli.eval.session import interruptible, opened_results
from line_neurons.tui.cli.progress import ProgressReporter

if TYPE_CHECKING:
    from langgraph.runtime import RunControl


@dataclass(frozen=True)
class AuditOptions:
    """Options of ``line audit``; its help describes them."""

    classes: tuple[str, ...] = ()
    top: int = 5
    answers: Path | None = None
    others: tuple[str, ...] = ()
    editor: str | None = None
    how: str | None = None
    images: int = 12
    verify: str | None = None


def audit(
    source: str,
    settings: Settings,
    changes: Mapping[str, Any],
    options: AuditOptions,
    *,
    output: Path | None,
    as_json: bool,
    trust: bool,
) -> None:
    """Find the features of classes, label them where they have no labels, audit them, and print the tables.

    Raises:
        LineError: an argument is invalid, or a component failed.
        Exit: with status 130 if it was interrupted; the same command continues.
    """
    others = _other_files(options.others)
    kinds = None if options.how is None else edit_kinds(options.how, PREFIXES, " of an audit")
    if options.editor not in {None, NONE}:
        check_editor(str(options.editor))
    with ProgressReporter() as reporter:
        if ":" in source:
            audited = of_model(source, settings, options.classes, options.top, reporter)
        else:
            audited = of_run(source, settings, changes, options.classes, options.top, reporter, trust=trust)
        shape = audited.classifier.head.weights.shape
        answers = None if options.answers is None else read_answers(options.answers, *shape)
        words = {method: read_words(path, *shape) for method, path in others.items()}
        components = audited.classifier.components
        with interruptible() as drain, opened_results(components.store) as opened:
            task = _task(audited, options, kinds, EditResults(opened), drain)
            rows = audit_features(task, AuditResults(opened), components.reporter(drain))
            figures = map_figures(task, rows) if output is not None else {}
    terminal.remarks(f"control set {components.settings.control}", remarks_of(components.control_set))
    print_report(audit_report(task.audit, rows, answers, words, figures), output, as_json=as_json)


def _other_files(given: Sequence[str]) -> dict[str, Path]:
    found = {}
    for text in given:
        method, equals, path = text.partition("=")
        if not (method and equals and path):
            raise UsageError(f"{text!r:.80} names no method and file", "write --other dexter=words.csv")
        found[method] = Path(path).expanduser()
    return found


def _task(
    audited: AuditedClasses,
    options: AuditOptions,
    kinds: list[EditKind] | None,
    results: EditResults,
    drain: RunControl,
) -> AuditTask:
    classifier, run = audited.classifier, audited.run
    components, head = classifier.components, classifier.head
    truth = _truth(classifier, audited)
    name, editor = _editor(classifier, options)
    edits, verifier_name, verifier_id = None, "", ""
    how: tuple[EditKind, ...] = ()
    if editor is not None:
        how = _possible(name, editor, kinds)
        edit_task = _edit_task(classifier, name, editor, options)
        verifier = edit_task.verifier
        verifier_name = edit_task.evaluation(edit_task.evaluated.labels[0]).verifier
        verifier_id = verifier.fingerprint if verifier else ""
        edits = Edits(edit_task, _known_names(truth), results, run.id, lambda *_: stop_if_drained(drain))
    control = components.control_set
    return AuditTask(
        Audit(
            source=run.id,
            model=components.shown_model,
            layer=head.layer,
            features=head.features,
            editor=name,
            verifier=verifier_name,
            how=",".join(how),
            count=options.images,
            seed=components.settings.seed,
            target=layer_fingerprint(components.target, head.layer),
            editor_id=editor.fingerprint if editor else "",
            verifier_id=verifier_id,
            control_id=control.fingerprint if control else "",
        ),
        components,
        head,
        classifier.features,
        audited.classes,
        {unit.unit: unit for unit in components.runs.units(run.id)},
        truth,
        edits,
        how,
    )


def _truth(classifier: Classifier, audited: AuditedClasses) -> Truth:
    components = classifier.components
    settings = components.settings
    words = WordNet(components.assets / "wordnet")
    bank = components.image_bank if settings.generator in BUNDLED or settings.control == "bank" else None
    units = [Unit("", found.index, place, name=found.name) for place, found in enumerate(audited.classes)]
    return Truth(words, true_classes(words, units, bank))


def _known_names(truth: Truth) -> dict[int, list[str]]:
    """Return the names of each class, those that an image bank knows it by before its rarer ones."""
    return {
        true.unit: list(dict.fromkeys((class_concept(true.name), *true.captions, *names_of(truth.words, true))))
        for true in truth.classes
    }


def _editor(classifier: Classifier, options: AuditOptions) -> tuple[str, Editor | None]:
    """Open the editor that is named, or the one that fits the images; without one nothing is edited."""
    components = classifier.components
    parts = EditorParts(components.settings, components.assets, lambda: components.generator)
    if options.editor == NONE:
        return "", None
    if options.editor is not None:
        return options.editor, open_editor(options.editor, parts)
    if uses_image_bank(components.settings.generator):
        return "composed", open_editor("composed", parts)
    if isinstance(components.control_set, PrecomputedControl):
        terminal.note("Nothing is edited: the control set has activations, no images.")
        return "", None
    try:
        return "cut", open_editor("cut", parts)
    except MissingPartError as error:
        terminal.note(f"Nothing is edited: {error}")
        return "", None


def _possible(name: str, editor: Editor, kinds: list[EditKind] | None) -> tuple[EditKind, ...]:
    if kinds is None:
        return tuple(kind for kind in PREFIXES if kind in editor.kinds)
    for kind in kinds:
        if kind not in editor.kinds:
            raise UsageError(f"the editor {name} cannot {kind}", "choose another --editor or --how")
    return tuple(kinds)


def _edit_task(classifier: Classifier, name: str, editor: Editor, options: AuditOptions) -> EditTask:
    components, head = classifier.components, classifier.head
    control, seed = classifier.control, components.settings.seed
    ranked = None
    if not editor.exact:
        ranked = RankedImages(
            components, head.layer, components.control_set, str(components.settings.control)
        )  # fmt: skip
    verifier = choose_verifier(components, editor, EditOptions(verify=options.verify, seed=seed))
    logits = head.logits(classifier.features).astype(np.float32)
    nobody = Labels("line", components.shown_model, head.layer, (), "")
    return EditTask(
        EvaluatedLayer(components, head.layer, (nobody,)), editor, name, verifier, "class", "remove",
        options.images, seed, Control(control.classes, control.labels, logits), ranked,
    )  # fmt: skip
