"""Units without a label, marked labels and refused answers, as the command and the app show them."""

import json
from pathlib import Path

import numpy as np
import pytest

from line_neurons.graphs.runs.components import Components
from line_neurons.tools.run_problems import record_doubts
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.run_rows import RunRowReader
from line_neurons.tui.app.unit.header import label_text
from line_neurons.tui.app.units.columns import LABEL, RowContext
from line_neurons.tui.app.units.model import RunSnapshotReader
from line_neurons.tui.cli.exit_codes import ALL_REFUSED, is_failure
from line_neurons.tui.report.writer import write_report
from line_neurons.tui.unit_view import read_unit
from support.fakes import LAYER, ScriptedControl, ScriptedGenerator, ScriptedModel, ScriptedTarget, said_by

CLASSES = tuple(f"class {letter}" for letter in "abcdefgh")
BATCH = (
    "batch",
    "scripted:model",
    LAYER,
    "--no-revisit",
    "--images",
    "2",
    "--top",
    "2",
    "--random",
    "2",
    "-N",
    "1",
)


class Target(ScriptedTarget):
    """Unit 0 has a value for each word, unit 1 is dead, unit 2 has two values that several words share."""

    def activate(self, images, layers, progress=None):
        values = [self._value(image) for image in images]
        shared = [said_by(image)[0] in CLASSES[2:] for image in images]
        rows = np.array([[value, 0, some] for value, some in zip(values, shared, strict=True)], np.float32)
        return dict.fromkeys(layers, rows.reshape(len(images), 3))


@pytest.fixture
def components(monkeypatch):
    """The parts of every run; gives a function that lets the language model answer something else."""
    for name, part in {
        "target": Target(),
        "generator": ScriptedGenerator(),
        "control_set": ScriptedControl(CLASSES),
    }.items():
        monkeypatch.setattr(Components, name, part)

    def answers(given):
        monkeypatch.setattr(Components, "language_model", ScriptedModel(given))

    answers(lambda prompt, seed, temperature: f"thing {seed}")
    return answers


def test_a_run_with_a_dead_unit_ends_well_and_says_so_everywhere(line, components, tmp_path):
    status, out, _ = line(*BATCH, "--units", "0-2")
    assert status == 0
    assert "1 unit without a label: 1 dead" in out
    (run,) = json.loads(line("runs", "--json")[1])
    assert (run["units_unlabelled"], run["units_finished"], run["units"]) == ({"dead": 1}, 2, 3)
    assert "1 dead" in line("runs")[1]
    shown = line("show", run["id"], "1")[1]
    assert "dead" in shown and "0 on all 8 control images" in shown
    assert "marked" in line("results", run["id"])[1]
    rows = [json.loads(row) for row in line("results", run["id"], "--format", "jsonl")[1].splitlines()]
    assert [(row["status"], row["label"] is None) for row in rows][1] == ("dead", True)
    assert rows[1]["note"] == "dead: 0 on all 8 control images"
    assert line("resume")[0] == 2
    store = tmp_path / "store"
    page = write_report(store, run["id"], tmp_path / "report.html").path.read_text()
    assert "1 unit without a label: 1 dead" in page and "0 on all 8 control images" in page
    features = json.loads(_exported(line, run["id"], "neuronpedia-json", tmp_path / "features.json").read_text())
    assert features["features"][1]["line"]["note"] == "dead: 0 on all 8 control images"


def _exported(line, run, format_, path) -> Path:
    assert line("export", run, "--format", format_, "-o", path)[0] == 0
    return path


def test_a_bundle_brings_the_states_and_notes_to_another_store(line, components, tmp_path):
    assert line(*BATCH, "--units", "0-2")[0] == 0
    (run,) = json.loads(line("runs", "--json")[1])
    bundle = _exported(line, run["id"], "bundle", tmp_path / "run.zip")
    assert line("import", bundle, "--store", tmp_path / "other")[0] == 0
    before, after = (RunStore(tmp_path / one, read_only=True).units(run["id"]) for one in ("store", "other"))
    assert before == after and before[1].status == "dead"


def test_a_run_of_which_every_answer_was_refused_has_a_status_of_its_own(line, components):
    components(lambda *_: "garbage")
    status, out, _ = line(*BATCH, "--units", "0")
    assert status == ALL_REFUSED == 3 and not is_failure(status)
    assert "8 of 8 replies refused (8 not JSON)" in " ".join(out.split())
    assert "first board only" in " ".join(out.split())
    assert "8 of 8 replies refused" in " ".join(line("runs")[1].split())


def test_what_makes_all_labels_of_a_run_doubtful_is_said_wherever_they_are_listed(line, components, tmp_path):
    components(lambda *_: "garbage")
    line(*BATCH, "--units", "0")
    store = tmp_path / "store"
    runs = RunStore(store)
    (run,) = runs.runs()
    assert "labels in doubt" not in line("runs")[1]
    record_doubts(runs, run.id, ["the weights of <fc> are random"])
    assert "labels in doubt" in " ".join(line("runs")[1].split())
    assert "labels in doubt: the weights of <fc> are random" in line("show", run.id, "0")[1]
    table, _, below = line("show", run.id)[1].partition("labels in doubt: the weights of <fc> are random")
    assert "labels in doubt" in " ".join(table.split()) and below
    assert json.loads(line("show", run.id, "0", "--json")[1])["doubts"] == ["the weights of <fc> are random"]
    (row,) = json.loads(line("results", run.id, "--json")[1])
    assert row["note"].endswith("labels in doubt: the weights of <fc> are random")
    assert "labels in doubt: the weights of <fc> are random" in line("results", run.id, "--format", "csv")[1]
    shown = label_text(read_unit(runs, run.id, 0))
    assert any(fact.plain.endswith("; labels in doubt") for fact in shown.facts)
    line("report", run.id, "-o", str(tmp_path / "one.html"))
    assert "<strong>labels in doubt</strong>" in (tmp_path / "one.html").read_text()
    line("report", "--all", "-o", str(tmp_path / "report"))
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert "labels in doubt" in page and "&lt;fc&gt;" in page


def test_the_app_shows_marks_in_the_row_of_a_unit_and_of_its_run(line, components, tmp_path):
    components(lambda *_: "garbage")
    assert line(*BATCH, "--units", "0-2")[0] == ALL_REFUSED
    with_runs = RunStore(tmp_path / "store", read_only=True)
    (row,) = RunRowReader()(with_runs)
    assert row.finished == row.units == 3 and row.short_remarks
    assert any("without a label: 1 dead" in remark for remark in row.remarks)
    seen = RunSnapshotReader(row.run.id)(with_runs)
    states = [line.state for line in seen.lines]
    assert states == ["finished", "dead", "finished"]
    cell = LABEL.cell(seen.lines[0], RowContext(None, (), (0.0, 1.0)), 30)
    assert cell[0].text == "! " and "first board only" in cell[-1].text
    assert "first board only" in seen.lines[0].condition


def test_a_mark_that_rests_on_the_auc_shows_it_beside(line, components, tmp_path):
    components(lambda *_: "garbage")
    line(*BATCH, "--units", "0")
    runs = RunStore(tmp_path / "store")
    (run,) = runs.runs()
    assert "AUC" not in line("show", run.id)[1]
    runs.update_unit(run.id, 0, auc=0.512, note="not above chance: AUC 0.51, 95 % interval 0.40 to 0.62")
    lines = [text.split() for text in line("show", run.id)[1].splitlines() if text.strip()]
    heading, row = (next(words for words in lines if words[0] == first) for first in ("unit", "0"))
    assert heading[-2:] == ["AUC", "marked"]
    assert row[-4:] == ["0.512", "not", "above", "chance"]
