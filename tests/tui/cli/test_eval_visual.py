"""``line eval visual``: what it prints, writes and refuses."""

import json

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.eval.cosy.runner import EvaluatedLayer
from line_neurons.eval.labels.labels import labels_of_run
from line_neurons.tui.cli.eval import visual as work
from line_neurons.tui.cli.eval.visual import VisualOptions
from line_neurons.tui.report.writer import write_report
from support.visual_run import LAYER, visual_run


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return visual_run(tmp_path_factory.mktemp("visual"))


@pytest.fixture
def evaluated(searched, monkeypatch):
    components, run = searched
    layer = EvaluatedLayer(components, LAYER, (labels_of_run(components.runs, run.id),))
    monkeypatch.setattr(work, "open_layer", lambda *names, **options: layer)
    return layer


def run(evaluated, *, output=None, as_json=True, **options):
    given = {"images": 2, "second": "none", "verify": "none", **options}
    work.visual("run", Settings(), {}, VisualOptions(**given), output=output, as_json=as_json, trust=False)


def test_the_table_the_files_and_the_report_have_the_sets(evaluated, searched, capsys, tmp_path):
    run(evaluated, am="fourier", gradients=True, steps=4, output=tmp_path / "out")
    told = json.loads(capsys.readouterr().out)
    rows = told["tables"]["visual-units"]
    assert [row["set"] for row in rows][:5] == ["line", "line best", "natural", "am raw", "am robust"]
    assert {row["unit"] for row in rows} == {0, 1}
    assert (tmp_path / "out" / "visual-strips.png").is_file()
    run(evaluated, units=["green"], as_json=False)
    printed = capsys.readouterr().out
    assert "natural" in printed and "am raw" not in printed
    components, record = searched
    write_report(components.store, record.id, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("What excites it most") == 2
    assert "left in shaken views" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"am": "fourier"}, "--am fourier differentiates the target.*add --gradients"),
        ({"gradients": True}, "there is no --am.*add --am fourier"),
        ({"others": ["dexter"]}, "is not NAME=FOLDER"),
        ({"units": ["2"]}, "none of these units of .* has a label"),
        ({"units": ["blue"]}, "no unit is named 'blue'"),
        ({"second": "keras:vgg"}, "there is no Keras model 'vgg'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(evaluated, options, said):
    with pytest.raises(UsageError, match=said) as caught:
        run(evaluated, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_of_other_units_is_refused(evaluated, tmp_path):
    (tmp_path / "99").mkdir()
    with pytest.raises(UsageError, match=r"has no images of these units \(it has 99\)"):
        run(evaluated, others=[f"tool={tmp_path}"])


def test_labels_of_a_file_have_no_images(evaluated, monkeypatch, tmp_path):
    from dataclasses import replace

    other = replace(evaluated, labels=(replace(evaluated.labels[0], source="labels.csv"),))
    monkeypatch.setattr(work, "open_layer", lambda *names, **options: other)
    with pytest.raises(UsageError, match=r"'labels\.csv' is no run"):
        run(other)


def test_a_target_without_a_network_has_no_gradients(evaluated, monkeypatch):
    from dataclasses import replace

    from support.edit_parts import ColourTarget

    class Named(ColourTarget):
        def layers(self):
            from line_neurons.agent.ports import LayerInfo

            return [LayerInfo(LAYER, "Linear", (3,), 3)]

    other = replace(evaluated, components=evaluated.components.with_(target=Named()))
    monkeypatch.setattr(work, "open_layer", lambda *names, **options: other)
    with pytest.raises(UsageError, match="gradients need the network itself, and this target is Named"):
        run(other, am="fourier", gradients=True)
