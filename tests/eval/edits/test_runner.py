"""Edits of planted units: exact effects, verdicts, and the same results after an interruption."""

import math
import re
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import BackendError, DrainedError
from line_neurons.agent.ports import DrawnImage
from line_neurons.eval.edits import checks
from line_neurons.eval.edits.canvases import export_canvases
from line_neurons.eval.edits.report import edits_report
from line_neurons.eval.edits.runner import EditTask, evaluate_edits
from line_neurons.eval.edits.subjects import RankedImages, Subject, own_images
from line_neurons.eval.reports.table import as_csv, write_report
from line_neurons.tools.editors.composed import ComposedEditor
from line_neurons.tools.editors.folder import CanvasFolder, FolderEditor
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.store.results.edits import EditResults
from line_neurons.tools.store.results.evaluations import Evaluations
from support.edit_parts import COLOURS, FaultyEditor, edit_parts, pixels_of

RED, GREEN, BORDER = 0, 1, 2


def task_of(evaluated, editor, *, how="remove", verifier=None, count=6):
    components = evaluated.components
    ranked = RankedImages(components, evaluated.layer, components.control_set, "bank")
    control = components.control(evaluated.layer)
    return EditTask(evaluated, editor, "faulty", verifier, "label", how, count, 0, control, ranked)


def run(evaluated, editor, *, on_progress=None, others=None, **options):
    labels = evaluated.labels[0]
    task = task_of(evaluated, editor, **options)
    subjects = {
        label.unit: own_images(evaluated.components, label.concept, task.count, 0) for label in labels.labels
    }
    opened = Evaluations(evaluated.components.store)
    try:
        return evaluate_edits(
            task, labels, labels.labels, subjects, others or {}, EditResults(opened), on_progress
        )
    finally:
        opened.close()


def numbers(result, unit):
    return next(one.numbers for one in result.units if one.unit == unit)


def composed(evaluated):
    return ComposedEditor(evaluated.components.generator)


def test_taking_the_cause_out_lowers_its_unit_and_no_other(tmp_path):
    evaluated = edit_parts(tmp_path, {RED: "tomato", GREEN: "lime", BORDER: "pebble"})
    result = run(evaluated, composed(evaluated))
    for unit in (RED, GREEN):
        found = numbers(result, unit)
        assert (found["ok"], found["fell"], found["rank"], found["own_first"]) == (6, 6, 1, True)
        assert found["p"] == 2 / 2**6
        assert found["relative"] > 0.9
        assert found["original"] == found["unchanged"] > found["concept"]
    assert abs(numbers(result, BORDER)["effect"]) < numbers(result, RED)["effect"]


def test_wrong_labels_show_no_effect(tmp_path):
    evaluated = edit_parts(tmp_path, {RED: "pebble", GREEN: "tomato"})
    result = run(evaluated, composed(evaluated))
    for unit in (RED, GREEN):
        found = numbers(result, unit)
        assert found["ok"] == 6
        assert found["effect"] < 1
        assert found["rank"] > 1


def test_a_concept_that_images_lack_is_told_and_has_no_numbers(tmp_path):
    evaluated = edit_parts(tmp_path, {RED: "lime"})
    labels, task = evaluated.labels[0], task_of(evaluated, composed(evaluated))
    subjects = {RED: own_images(evaluated.components, "tomato", 6, 0)}
    opened = Evaluations(evaluated.components.store)
    result = evaluate_edits(task, labels, labels.labels, subjects, {}, EditResults(opened))
    found = numbers(result, RED)
    assert (found["ok"], found["was_not_there"], found["effect_all"]) == (0, 6, 0.0)
    assert all(math.isnan(found[name]) for name in ("effect", "p", "original", "relative", "rank"))
    (kept,) = EditResults(opened).results()
    assert kept.units[0].numbers["effect"] is None
    opened.close()


@pytest.mark.parametrize("how", ["replace", "insert"])
def test_another_thing_in_its_place_is_an_edit_too(tmp_path, how):
    evaluated = edit_parts(tmp_path, {RED: "tomato"})
    labels, task = evaluated.labels[0], task_of(evaluated, composed(evaluated), how=how)
    shown = "tomato" if how == "replace" else "lime"
    subjects = {RED: own_images(evaluated.components, shown, 6, 0)}
    opened = Evaluations(evaluated.components.store)
    result = evaluate_edits(task, labels, labels.labels, subjects, {RED: "pebble"}, EditResults(opened))
    opened.close()
    found = numbers(result, RED)
    assert (found["ok"], found["fell"], found["rank"]) == (6, 6, 1)
    if how == "insert":
        assert found["concept"] > found["elsewhere"]


def hole(pixels):
    changed = pixels.copy()
    changed[30:90, 30:90] = 200
    return changed


FAULTS = {
    checks.NOTHING_CHANGED: lambda pixels: pixels,
    checks.TOO_MUCH: lambda pixels: pixels * 0,
    checks.UNVERIFIED: hole,
    checks.REFUSED: lambda pixels: None,
}


@pytest.mark.parametrize("verdict", FAULTS)
def test_each_failure_has_its_verdict_and_no_effect_is_verified(tmp_path, verdict):
    evaluated = edit_parts(tmp_path, {RED: "tomato"})
    result = run(evaluated, FaultyEditor(FAULTS[verdict]))
    found = numbers(result, RED)
    assert found[verdict.replace(" ", "_")] == 6
    assert found["ok"] == 0
    assert math.isnan(found["effect"])
    assert math.isnan(found["effect_all"]) == (verdict == checks.REFUSED)


class StaysThere:
    """A verifier that sees the concept in every image, or in the originals alone."""

    name, fingerprint, negatives = "script", "script:1", 200

    def __init__(self, after):
        self.after = after

    def knows(self, concept):
        return True

    def scores(self, concept, images):
        return np.array([2.0, self.after])

    def list_scores(self, concept, images):
        return (
            np.full(len(images.images), 2.0)
            if len(images.images) == 20
            else np.linspace(0, 0.5, len(images.images))
        )


@pytest.mark.parametrize(("after", "verdict"), [(2.0, checks.STILL_THERE), (0.0, checks.OK)])
def test_a_verifier_sees_what_an_edit_left(tmp_path, after, verdict):
    evaluated = edit_parts(tmp_path, {RED: "tomato"})
    result = run(evaluated, FaultyEditor(hole), verifier=StaysThere(after))
    assert {arm.verdict for arm in result.arms if arm.arm == "concept"} == {verdict}
    assert numbers(result, RED)["verifier_auc"] == 1.0


class ColourVerifier:
    """Sees tomatoes, limes and pebbles by how much of an image has their colour."""

    name, fingerprint, negatives = "colours", "colours:1", 60

    def __init__(self, images):
        self.images = images

    def knows(self, concept):
        return concept in COLOURS

    def scores(self, concept, images):
        return np.array([self.share(concept, self.images.file(image)) for image in images])

    def list_scores(self, concept, images):
        return np.array([self.share(concept, image) for image in images.images])

    @staticmethod
    def share(concept, image):
        return (np.abs(pixels_of(image) - COLOURS[concept]).max(-1) < 40).mean()


class Instructed:
    """Paints what is named over with grey; ``also`` names what goes with it, ``bands`` more rows of the image."""

    fingerprint, side, exact = "instructed:1", 64, False
    kinds = frozenset({"remove", "unchanged"})

    def __init__(self, also=None, bands=0):
        self.also = also or {}
        self.bands = bands

    def offers(self, concept):
        return True

    def edit(self, request):
        pixels = pixels_of(request.image)
        if request.kind == "remove":
            for concept in (request.concept, *self.also.get(request.concept, ())):
                pixels[np.abs(pixels - COLOURS[concept]).max(-1) < 40] = 90
            if request.concept == "lime":
                pixels[: self.bands] = 255 - pixels[: self.bands]
        return DrawnImage(encode_png(pixels.astype(np.uint8)))


def two_things():
    """A tomato beside a lime, on cloudy ground."""
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(60, 110, (32, 32, 3)), np.ones((2, 2, 1)))
    pixels[18:46, 4:30] = COLOURS["tomato"]
    pixels[18:46, 34:60] = COLOURS["lime"]
    return encode_png(pixels.astype(np.uint8))


@pytest.mark.parametrize(
    ("editor", "verifier", "detail"),
    [
        (Instructed(), True, None),
        (Instructed(also={"lime": ["tomato"]}), True, "it changed|it took 'tomato' out, too"),
        (Instructed(bands=18), True, "it changed .*of the image, and the edit"),
        (Instructed(), False, ""),
    ],
)
def test_the_control_of_an_instruction_takes_another_label_out_that_the_verifier_sees(
    tmp_path, editor, verifier, detail
):
    evaluated = edit_parts(tmp_path, {RED: "tomato", GREEN: "lime", BORDER: "pebble"})
    task = task_of(evaluated, editor)
    task = replace(task, verifier=ColourVerifier(task.images) if verifier else None)
    labels = evaluated.labels[0]
    subjects = {label.unit: [Subject(two_things(), "both")] for label in labels.labels[:1]} | {
        GREEN: [], BORDER: []
    }  # fmt: skip
    opened = Evaluations(evaluated.components.store)
    result = evaluate_edits(task, labels, labels.labels, subjects, {}, EditResults(opened))
    opened.close()
    arms = {arm.arm: arm for arm in result.arms}
    control = arms.get("elsewhere")
    if detail is None:
        assert (control.kind, control.concept, bool(control.image)) == ("remove", "lime", True)
        assert 0.5 < control.share / arms["concept"].share < 2
        assert numbers(result, RED)["unmatched"] == 0
    elif detail:
        assert not control.image
        assert re.search(f"no control: ({detail})", control.detail), control.detail
    else:
        assert control is None


def test_edits_made_elsewhere_are_read_and_missing_ones_counted(tmp_path):
    evaluated = edit_parts(tmp_path, {RED: "tomato", GREEN: "lime"})
    folder = CanvasFolder(tmp_path / "edits")
    labels, task = evaluated.labels[0], task_of(evaluated, folder, count=2)
    images = {"tomato": own_images(evaluated.components, "tomato", 2, 0), "lime": []}
    subjects = {label.unit: images[label.concept] for label in labels.labels}
    export_canvases(task, folder, labels.labels, subjects, {}, {})
    rows = [row for row in folder.write() if row.kind == "remove"]
    assert [row.instruction[:18] for row in rows] == ["Remove the tomato "] * 2
    original = Image.open(tmp_path / "edits" / rows[0].file.replace("remove", "original"))
    original.paste((90, 90, 90), (0, 0, 300, 300))
    original.save(tmp_path / "edits" / rows[0].file)
    opened = Evaluations(evaluated.components.store)
    task = task_of(evaluated, FolderEditor(tmp_path / "edits"), count=2)
    result = evaluate_edits(task, labels, labels.labels, subjects, {}, EditResults(opened))
    opened.close()
    found = numbers(result, RED)
    assert (found["missing"], found["cannot_be_verified"], found["edited"]) == (1, 1, 1)
    assert math.isnan(found["effect"])
    report = edits_report([result], evaluated.components.store)
    assert any("missing" in note and "remove.png is missing" in note for note in report.notes)


def test_ten_failures_in_a_row_end_the_work_and_fewer_do_not(tmp_path):
    def double(pixels):
        return np.kron(pixels, np.ones((2, 2, 1)))

    evaluated = edit_parts(tmp_path, {RED: "tomato"})
    found = numbers(run(evaluated, FaultyEditor(double)), RED)
    assert (found["failed"], found["edited"]) == (6, 0)
    with pytest.raises(BackendError, match=r"failed 10 times in a row: .*256 x 256 pixels"):
        run(evaluated, FaultyEditor(double), count=12)


def test_an_interrupted_evaluation_ends_with_the_same_tables_and_edits_nothing_twice(tmp_path):
    labels = {RED: "tomato", GREEN: "lime"}
    whole = run(edit_parts(tmp_path / "whole", labels), FaultyEditor(hole))
    editor = FaultyEditor(hole)
    for stop in (3, 8):

        def halt(what, done, total, stop=stop):
            if what.startswith("editing") and done == stop:
                raise DrainedError("stopped")

        with pytest.raises(DrainedError):
            run(edit_parts(tmp_path / "parts", labels), editor, on_progress=halt)
    resumed = run(edit_parts(tmp_path / "parts", labels), editor)
    assert len(editor.edits) == len(set(editor.edits)) == 2 * 2 * 6
    tables = [edits_report([result], tmp_path).tables for result in (whole, resumed)]
    assert list(map(as_csv, tables[0])) == list(map(as_csv, tables[1]))
    opened = Evaluations(tmp_path / "parts" / "store")
    (kept,) = EditResults(opened).results()
    opened.close()
    assert len(kept.arms) == len(resumed.arms)
    assert [unit.unit for unit in kept.units] == [RED, GREEN]


def test_the_report_has_tables_pairs_and_failures(tmp_path):
    evaluated = edit_parts(tmp_path, {RED: "tomato", GREEN: "<b>lime</b>"})
    good = run(edit_parts(tmp_path, {RED: "tomato"}), composed(evaluated))
    bad = run(edit_parts(tmp_path, {RED: "tomato"}), FaultyEditor(lambda pixels: pixels * 0))
    report = edits_report([good, bad], evaluated.components.store)
    files = {path.name for path in write_report(report, tmp_path / "out")}
    assert {"edits.csv", "edit-units.csv", "edit-runs.csv", "edit-pairs.png", "edit-failures.svg"} <= files
    assert "0 of 6 edits verified" in " ".join(report.notes)
    text = (tmp_path / "out" / "edits.md").read_text()
    assert "6 too much changed" in text


def test_evaluations_of_the_version_before_are_kept_and_edits_added(tmp_path):
    Evaluations(tmp_path).close()
    with sqlite3.connect(tmp_path / "evaluations.db") as db:
        for table in ("edits", "edited_units", "edit_evaluations"):
            db.execute(f"DROP TABLE {table}")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm002_edits'")
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO evaluations (id, method) VALUES (1, 'invert')")
    opened = Evaluations(tmp_path)
    assert [row["method"] for row in opened.database.table("evaluations").rows] == ["invert"]
    assert EditResults(opened).results() == []
    opened.close()
