"""Sets of images of a small network's units: what is in them, what is measured, and that it is measured once."""

import math
import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch

from line_neurons.agent.errors import DrainedError, UsageError
from line_neurons.eval.reports.table import as_csv, write_report
from line_neurons.eval.visual.report import visual_report
from line_neurons.eval.visual.runner import evaluate_sets
from line_neurons.eval.visual.sets import Maximiser, open_folders
from line_neurons.tools.cache.unused import find_unused
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.store.removal.references import references
from line_neurons.tools.store.removal.runs import remove_runs
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tools.store.results.visual import (
    BEST,
    LINE,
    NATURAL,
    RAW,
    ROBUST,
    VisualResults,
    stored_sets,
)
from line_neurons.tools.targets.canvas import find_canvas
from line_neurons.tools.targets.gradients import maximisation
from line_neurons.tools.targets.gradients.differentiable import differentiable
from support.visual_run import LAYER, visual_run, visual_task


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return visual_run(tmp_path_factory.mktemp("visual"))


def evaluate(components, run, task, **options):
    units = [unit for unit in components.runs.units(run.id) if unit.label]
    with closing(Evaluations(components.store)) as opened:
        return evaluate_sets(task, units, VisualResults(opened), **options)


def by_name(result, unit=0):
    return {one.name: one for one in result.sets if one.unit == unit}


@pytest.fixture(scope="module")
def climbed(searched):
    """The result with sets that are found by gradients."""
    components, run = searched
    with differentiable(components.target, LAYER) as layer:
        maximiser = Maximiser(components, layer, find_canvas(components.target), 12)
        return evaluate(components, run, visual_task(components, run, maximiser=maximiser))


def test_each_set_is_what_its_name_says(searched, climbed):
    components, run = searched
    sets = by_name(climbed)
    assert list(sets) == [LINE, BEST, NATURAL, RAW, ROBUST]
    unit = components.runs.units(run.id)[0]
    assert [one.image for one in sets[LINE].images] == list(unit.images)
    # Their canvas is their own size, so that the label's score is the mean.
    assert sets[LINE].numbers["activation"] == pytest.approx(unit.score, abs=1e-4)
    assert sets[LINE].numbers["activation"] <= sets[BEST].numbers["activation"]
    column = components.control(LAYER).column(0)
    natural = sorted((one.activation for one in sets[NATURAL].images), reverse=True)
    np.testing.assert_allclose(natural[0], column.max(), atol=1e-4)
    assert all("bank" in one.name for one in sets[NATURAL].images)
    assert all(one.activation > 0 and "gradients" in one.name for one in sets[RAW].images)


def test_the_numbers_are_those_of_their_formulas(searched, climbed):
    components, _ = searched
    column = components.control(LAYER).column(0).astype(float)
    for one in by_name(climbed).values():
        numbers = one.numbers
        assert numbers["activation"] == pytest.approx(np.mean([image.activation for image in one.images]))
        assert numbers["shaken"] == pytest.approx(np.mean([image.shaken for image in one.images]))
        if numbers["activation"] > 0:
            assert numbers["robust"] == pytest.approx(numbers["shaken"] / numbers["activation"])
        rise = (numbers["activation"] - column.mean()) / (column.max() - column.mean())
        assert numbers["relative"] == pytest.approx(rise)
        assert 0 <= numbers["auc"] <= 1
        assert 0 < numbers["spectrum"] <= 1
        assert 0 <= numbers["inside"] <= 1
        assert 1 <= numbers["vendi"] <= len(one.images) + 1e-9
    # 1 is the strongest of the natural images, of which the mean is at most that.
    assert by_name(climbed)[NATURAL].numbers["transfer"] <= 1 + 1e-6


def test_what_is_measured_is_not_measured_again(searched, climbed, monkeypatch):
    components, run = searched
    passed = []
    activate = type(components.target).activate
    monkeypatch.setattr(
        type(components.target),
        "activate",
        lambda self, images, *rest, **more: passed.append(len(images)) or activate(self, images, *rest, **more),
    )
    again = evaluate(components, run, visual_task(components, run))
    assert sum(passed) == 0
    assert by_name(again) == {name: one for name, one in by_name(climbed).items() if name not in {RAW, ROBUST}}
    (stored,) = stored_sets(components.store, run.id, 0)
    assert {one.name: one for one in stored.sets} == by_name(climbed)


def test_what_gradients_found_before_an_interruption_is_kept(searched, monkeypatch):
    components, run = searched
    found = []
    real = maximisation.maximise
    monkeypatch.setattr(maximisation, "maximise", lambda *values, **more: found.append(1) or real(*values, **more))

    def stop(what, done, total):
        if "(raw)" in what and done == 5:
            raise DrainedError

    with differentiable(components.target, LAYER) as layer:
        maximiser = Maximiser(components, layer, find_canvas(components.target), 4)
        task = visual_task(components, run, maximiser=maximiser)
        with pytest.raises(DrainedError):
            evaluate(components, run, task, on_progress=stop)
        assert len(found) == 2
        evaluate(components, run, task)
    # Of twelve images one was there, and the one that was begun is found again.
    assert len(found) == 2 + 11


def test_nothing_is_differentiated_without_being_asked_for(searched, monkeypatch):
    components, run = searched

    def refused(*values, **more):
        raise AssertionError("gradients")

    monkeypatch.setattr(torch.autograd, "grad", refused)
    monkeypatch.setattr(torch.Tensor, "backward", refused)
    monkeypatch.setattr(type(components.target), "network_copy", refused)
    result = evaluate(components, run, visual_task(components, run, count=2))
    assert {one.name for one in result.sets} == {LINE, BEST, NATURAL}


def test_a_folder_gives_the_strongest_of_its_images(searched, tmp_path):
    components, run = searched
    (tmp_path / "0").mkdir()
    for red in range(6):
        pixels = np.full((80, 90, 3), 20, np.uint8)
        pixels[..., 0] += 30 * red
        (tmp_path / "0" / f"{red}.png").write_bytes(encode_png(pixels))
    folders = open_folders([f"tool={tmp_path}"])
    result = evaluate(components, run, visual_task(components, run, others=folders))
    assert [one.name for one in by_name(result)["tool"].images] == ["5.png", "4.png", "3.png"]
    missing = by_name(result, 1)["tool"]
    assert missing.images == () and "has no images of it" in missing.missing
    assert f"tool: empty for unit 1: {tmp_path} has no images of it." in visual_report(result, tmp_path).notes
    (tmp_path / "0" / "9.png").write_text("<svg/>")
    with pytest.raises(UsageError, match=r"9.png is no image") as caught:
        evaluate(components, run, visual_task(components, run, others=open_folders([f"tool={tmp_path}"])))
    assert "\n" not in str(caught.value)


def test_without_a_second_network_its_numbers_are_empty(searched):
    components, run = searched
    result = evaluate(components, run, visual_task(components, run, second=False))
    assert not {"transfer", "inside", "vendi"} & by_name(result)[LINE].numbers.keys()
    assert "Without a second network" in " ".join(visual_report(result, components.store).notes)


def test_the_report_has_every_image_and_the_strips(searched, climbed, tmp_path):
    components, _ = searched
    report = visual_report(climbed, components.store)
    units, sets, images = report.tables
    assert [row[2] for row in units.rows] == [LINE, BEST, NATURAL, RAW, ROBUST] * 2
    assert [row[:2] for row in sets.rows] == [(name, 2) for name in (LINE, BEST, NATURAL, RAW, ROBUST)]
    assert len(images.rows) == sum(len(one.images) for one in climbed.sets)
    assert "Fewer than three units" in report.notes[0]
    written = {path.name for path in write_report(report, tmp_path / "out")}
    assert {"visual-units.csv", "visual-strips.png", "visual.md"} <= written


def test_three_units_are_compared_in_pairs(climbed):
    from dataclasses import replace

    more = [
        replace(one, unit=one.unit + at, numbers={**one.numbers, "activation": at + (one.name == RAW)})
        for at in (0, 2, 4)
        for one in climbed.sets
    ]
    tests = visual_report(replace(climbed, sets=tuple(more)), None).tables[2]
    assert tests.name == "visual-tests"
    row = next(row for row in tests.rows if row[:2] == ("activation", "line - am raw"))
    assert row[2:4] == (6, -1.0)
    assert b"line - natural" in as_csv(tests)


def test_garbage_collection_keeps_the_images_and_removal_takes_the_rows(tmp_path):
    components, run = visual_run(tmp_path)
    result = evaluate(components, run, visual_task(components, run, count=2))
    shown = {image.image for one in result.sets for image in one.images}
    assert shown <= references(components.store).images
    assert not shown & set(find_unused(components.store, references(components.store)).images)
    remove_runs(components.runs, [run.id])
    assert stored_sets(components.store, run.id, 0) == []
    assert not shown & references(components.store).images


def test_a_damaged_row_is_named(searched, climbed, tmp_path):
    components, run = searched
    copy = tmp_path / "evaluations.db"
    copy.write_bytes((components.store / "evaluations.db").read_bytes())
    with closing(sqlite3.connect(copy)) as db:
        db.execute("UPDATE visual_sets SET images = '[{}]' WHERE unit = 0")
        db.commit()
    with pytest.raises(Exception, match=r"images of unit 0 is damaged.*line eval visual"):
        stored_sets(tmp_path, run.id, 0)


def test_a_store_of_the_version_before_gets_the_tables(tmp_path):
    Evaluations(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "evaluations.db")) as db:
        db.executescript(
            "DROP TABLE visual_sets; DROP TABLE visual_evaluations;"
            "DELETE FROM _sqlite_migrations WHERE name LIKE '%visual'; PRAGMA user_version = 3"
        )
    assert stored_sets(tmp_path, "r", 0) == []
    with closing(Evaluations(tmp_path)) as opened:
        assert opened.database.table("visual_sets").count == 0


def test_a_share_of_nothing_is_empty(searched):
    components, run = searched
    result = evaluate(components, run, visual_task(components, run))
    for one in result.sets:
        robust = one.numbers["robust"]
        assert robust is None if one.numbers["activation"] <= 0 else math.isfinite(robust)
