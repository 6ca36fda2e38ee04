"""``line eval edits``: what it chooses, prints and refuses."""

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from PIL import Image

from line_neurons.agent.errors import DrainedError, UsageError
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.lifecycle import start
from line_neurons.tools.control_sets import PrecomputedControl
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.store.results.edits import EditResults
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tui.cli.eval import edits as work
from line_neurons.tui.cli.eval.edits import EditOptions
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from support.edit_parts import edit_parts
from support.fakes import LAYER, ScriptedModel, scripted_components


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    monkeypatch.setenv("LINE_GENERATOR", "bank")
    found = edit_parts(tmp_path, {0: "tomato", 1: "lime"}, control="bank")
    monkeypatch.setattr(work, "open_layer", lambda *names, **options: found)
    return found


def run(evaluated, *, as_json=True, output=None, **options):
    work.edits(
        ["planted"], Settings(), {}, EditOptions(**{"images": 6, **options}), model=None, layer=None,
        units_from=None, output=output, as_json=as_json, trust=False,
    )  # fmt: skip


def test_the_image_bank_needs_no_further_word(evaluated, capsys, tmp_path):
    run(evaluated, how="remove,insert", other="pebble", output=tmp_path / "out")
    told = json.loads(capsys.readouterr().out)
    rows = told["tables"]["edit-units"]
    assert [(row["how"], row["unit"], row["verified"], row["rank"]) for row in rows] == [
        ("remove", 0, 6, 1), ("remove", 1, 6, 1), ("insert", 0, 6, 1), ("insert", 1, 6, 1),
    ]  # fmt: skip
    assert {row["editor"] for row in rows} == {"composed"}
    with closing(Evaluations(evaluated.components.store)) as opened:
        assert {result.evaluation.how for result in EditResults(opened).results()} == {"remove", "insert"}
    run(evaluated, as_json=False)
    printed = capsys.readouterr().out
    assert "12 of 12 edits verified" in printed
    assert "tomato" in printed


@pytest.mark.parametrize(("selector", "units"), [("alive", [0, 1]), ("strongest:3", [0, 1]), ("0,alive", [0, 1])])
def test_units_are_selected_by_how_they_respond_among_those_with_labels(evaluated, capsys, selector, units):
    run(evaluated, units=[selector], images=1)
    rows = json.loads(capsys.readouterr().out)["tables"]["edit-units"]
    assert sorted(row["unit"] for row in rows) == units


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"editor": "composd"}, "no editor 'composd'.*near: composed"),
        ({"how": "remove,delete"}, "'delete' is not a kind of edit"),
        ({"on": "strongest"}, "edits images that the image bank composes"),
        ({"verify": "target:keras:resnet50"}, "need no verifier"),
        ({"how": "replace", "other": "sea"}, "cannot show 'sea'"),
        ({"units": ["2"]}, "has no label for the units"),
        ({"words": ["remove=Erase the {concept}"]}, "editor composed takes no words"),
        ({"words": ["erase"]}, "does not begin with a kind of edit"),
        ({"editor": "folder"}, "needs a folder of edits.*--from-folder"),
        ({"from_folder": Path("nowhere")}, "'nowhere' is not a folder of edits"),
        (
            {"from_folder": Path("a"), "export": Path("b")},
            "--from-folder and --export-canvases do not go together",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(evaluated, options, said):
    with pytest.raises(UsageError, match=said) as caught:
        run(evaluated, **options)
    assert "\n" not in str(caught.value)


def test_images_are_exported_and_their_edits_read_back(evaluated, capsys, tmp_path):
    folder, options = tmp_path / "my edits", {"on": "label", "images": 2, "verify": "none"}
    run(evaluated, export=folder, **options)
    assert json.loads(capsys.readouterr().out) == {"folder": str(folder), "images": 4, "edits": 4, "rows": 12}
    run(evaluated, export=folder, as_json=False, **options)
    told = capsys.readouterr()
    assert "4 images and 4 edits to make" in told.out
    assert f"--from-folder '{folder}'" in told.err
    for original in folder.glob("*/original.png"):
        image = Image.open(original)
        image.paste((40, 40, 60), (256, 256, 768, 768))
        image.save(original.with_name("remove.png"))
    run(evaluated, from_folder=folder, **options)
    rows = json.loads(capsys.readouterr().out)["tables"]["edit-units"]
    assert [(row["editor"], row["pictures"], row["cannot_be_verified"]) for row in rows] == [("folder", 2, 2)] * 2
    with closing(Evaluations(evaluated.components.store)) as opened:
        (result,) = EditResults(opened).results()
    assert {arm.arm for arm in result.arms if arm.image} == {"original", "concept"}


class Remover:
    fingerprint, side, exact = "remover:1", 64, False
    kinds = frozenset({"remove"})

    def offers(self, concept):
        return False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"how": "insert"}, "the editor cut cannot insert.*it can remove"),
        ({"verify": "known"}, "only the image bank knows"),
        ({"verify": "nobody"}, "no verifier 'nobody'"),
        ({"on": "nowhere", "verify": "none"}, "'nowhere' is not a folder of images"),
    ],
)
def test_an_editor_of_photographs_is_told_what_it_cannot(evaluated, options, said, monkeypatch):
    monkeypatch.setattr(work, "open_editor", lambda name, parts: Remover())
    with pytest.raises(UsageError, match=said):
        run(evaluated, editor="cut", **options)


def test_activations_alone_have_no_images(evaluated, tmp_path, monkeypatch):
    np.savez(tmp_path / "control.npz", activations=np.ones((4, 3), np.float32))
    components = evaluated.components.with_(control_set=PrecomputedControl(tmp_path / "control.npz"))
    monkeypatch.setattr(work, "open_editor", lambda name, parts: Remover())
    monkeypatch.setattr(
        work,
        "open_layer",
        lambda *names, **options: type(evaluated)(components, evaluated.layer, evaluated.labels),
    )
    with pytest.raises(UsageError, match=r"has activations, no images.*--on"):
        run(evaluated, editor="cut", verify="none")


def test_another_control_set_than_the_runs_is_refused(evaluated, monkeypatch):
    recorded = SimpleNamespace(fingerprints={"control": "that of yesterday"})
    runs = SimpleNamespace(names=lambda: ["planted"], run=lambda name: recorded)
    components = evaluated.components.with_(runs=runs)
    layer = type(evaluated)(components, evaluated.layer, evaluated.labels)
    monkeypatch.setattr(work, "open_layer", lambda *names, **options: layer)
    with pytest.raises(UsageError, match=r"'bank' differs from that of run planted .*--control"):
        run(evaluated)
    work._check_control(layer, {"control": "other"})


def test_a_run_without_a_finished_unit_has_nothing_to_edit(tmp_path):
    components = scripted_components(tmp_path, ScriptedModel(lambda *_: "cat"))
    started = start(components, LAYER, ["0"])
    with pytest.raises(UsageError, match=rf"no unit of run {started.id} has a label yet") as caught:
        work.edits(
            [started.id], Settings(store=tmp_path), {}, EditOptions(), model=None, layer=None, units_from=None,
            output=None, as_json=True, trust=False,
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_a_folder_gives_its_strongest_images(evaluated, tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    for red in range(8):
        pixels = np.full((80, 100, 3), 30, np.uint8)
        pixels[..., 0] += 20 * red
        (folder / f"{red}.png").write_bytes(encode_png(pixels))
    ranked = work._ranked(evaluated.components, evaluated.layer, str(folder), exact=False)
    found = ranked.strongest([0], 3)[0]
    assert [subject.image for subject in found] == [(folder / f"{red}.png").read_bytes() for red in (7, 6, 5)]


def test_a_weak_class_near_in_meaning_takes_the_place(evaluated):
    from line_neurons.eval.edits.runner import EditTask
    from line_neurons.tools.editors.composed import ComposedEditor
    from support.edit_parts import WordEncoder

    components = evaluated.components.with_(text_encoder=WordEncoder())
    layer = type(evaluated)(components, evaluated.layer, evaluated.labels)
    task = EditTask(
        layer, ComposedEditor(components.generator), "composed", None, "label", "replace", 6, 0,
        components.control(evaluated.layer), None,
    )  # fmt: skip
    chosen = work._others(task, evaluated.labels[0].labels, "")
    assert chosen[0] in {"lime", "pebble"}
    assert chosen[1] in {"tomato", "pebble"}


def test_an_interruption_while_the_control_set_is_measured_ends_with_its_status(evaluated, monkeypatch):
    def interrupted(self, layer, drain=None):
        raise DrainedError("interrupted")

    monkeypatch.setattr(type(evaluated.components), "control", interrupted)
    with pytest.raises(typer.Exit) as ended:
        run(evaluated)
    assert ended.value.exit_code == INTERRUPTED
