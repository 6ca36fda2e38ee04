import subprocess
import sys
import time
from typing import get_type_hints

import pytest
import torch
from torch import nn

import line_neurons as line
from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import PRESETS
from line_neurons.agent.settings import Settings
from line_neurons.agent.settings_arguments import SettingsArguments
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.targets.transforms import imagenet_transform
from support.edited_store import add_edits
from support.fakes import LAYER, ScriptedModel, scripted_components


def test_the_keyword_arguments_are_the_settings():
    # As an argument, class_names has the names of a model's output units.
    assert set(SettingsArguments.__annotations__) - {"preset"} == set(Settings.model_fields) - {"class_names"}


def test_the_choices_of_keyword_arguments_are_those_of_the_settings():
    arguments = get_type_hints(SettingsArguments)
    for name, field in Settings.model_fields.items():
        if "Literal" in str(field.annotation):
            assert arguments[name] == field.annotation, name
    assert set(arguments["preset"].__args__) == set(PRESETS)


def test_all_names_of_the_package_are_there():
    assert all(getattr(line, name) for name in line.__all__)
    assert dir(line) == sorted(line.__all__)
    with pytest.raises(AttributeError, match="no attribute 'labels'"):
        _ = line.labels


def test_importing_the_package_imports_nothing_large():
    code = (
        "import sys, line_neurons as line; line.__version__; line.LineError;"
        "print(sorted({'torch', 'langgraph', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - before < 10


def test_layers_of_a_module_in_memory():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    table = line.layers(model, transform=lambda image: imagenet_transform(image)[:, :16, :16], device="cpu")
    assert [layer.path for layer in table] == ["0.0", "0.1", "0", "1", "2", "3"]
    assert (table.output, table.last_hidden, table["0.0"].units) == ("3", "0", 8)
    assert "0.0  Conv2d" in repr(table) and table.frame()["units"].tolist() == [8] * 5 + [2]
    few = line.layers(model, depth=1, grep="conv|linear", transform=imagenet_transform, device="cpu")
    assert [layer.path for layer in few] == ["3"]
    with pytest.raises(UsageError, match="has no layer '9'"):
        table["9"]


def test_a_run_is_loaded_by_name_path_or_the_folder_of_its_store(tmp_path):
    components = scripted_components(tmp_path / "runs", ScriptedModel(lambda *_: "cat"), iterations=1)
    first = work(components, start(components, LAYER, ["0"]))
    store = tmp_path / "runs"
    places = [(first.id, store), (store / first.id, None), (f"{store}/{first.id}", None), (store, None)]
    assert {line.load(run, store).run.id for run, store in places} == {first.id}
    second = start(components, LAYER, ["1"])
    with pytest.raises(UsageError, match=rf"has 2 runs: {second.id}, {first.id} \(name one"):
        line.load(store)


def test_edits_of_a_units_images_are_there_for_scripts(tmp_path):
    components = scripted_components(tmp_path / "store", ScriptedModel(lambda *asked: f"concept {asked[1] % 50}"))
    run = start(components, LAYER, ["0", "1"])
    work(components, run)
    result = line.load(run.id, tmp_path / "store")
    assert result[0].edits == [] and result.edits_frame().empty
    add_edits(tmp_path / "store", run.id, 0)
    (found,) = result[0].edits
    assert (found.evaluation.editor, found.units[0].numbers["effect"]) == ("composed", 7.0)
    assert result[1].edits == []
    frame = result.edits_frame()
    assert frame["arm"].tolist() == ["original", "concept", "elsewhere"] * 2
    assert frame["verdict"].tolist()[1::3] == ["ok", "still there"]
    assert frame["share"].isna().all()
