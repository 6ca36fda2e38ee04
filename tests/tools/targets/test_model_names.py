import json
import subprocess
import sys

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.model_names import check_model, functions_of, library_models

CODE = """
import torch
from elsewhere import net_from_elsewhere

raise SystemExit("this file must not be run")

def make_net(): ...
def make_sized(width=3, *, depth=2): ...
def helper(images): ...
def _private(): ...
class Net: ...
build = make_net
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text(CODE)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("resnet18", r"near: torchvision:resnet18, timm:resnet18"),
        ("resnet18@IMAGENET1K_V1", "near: torchvision:resnet18"),
        ("mobilnet_v2", "near: torchvision:mobilenet_v2"),
        ("torchvision:mobilnet_v2", "torchvision has no classification model 'mobilnet_v2'; near: mobilenet_v2"),
        ("timm:resnet81.a1_in1k", "near: .*resnet18"),
        ("torchvison:resnet18", "no source of models 'torchvison'; near: torchvision"),
        ("make_net", "or mynet.py:make_net"),
        ("mynet.py", r"choose from mynet.py:make_net, mynet.py:make_sized\)"),
        ("mynet.py:", "choose from mynet.py:make_net"),
        ("mynet", "choose from mynet.py:make_net"),
        ("mynet:make_ent", "has no function 'make_ent'; near: make_net"),
        ("mynet.py:make_ent", "has no function 'make_ent'; near: make_net"),
        ("mynt.py:make_net", "there is no file mynt.py; near: mynet.py"),
        (":resnet18", "names no model"),
        ("", "names no model"),
    ],
)
def test_a_mistyped_model_is_refused_with_the_one_that_was_meant(folder, spec, said):
    with pytest.raises(UsageError, match=said):
        check_model(spec)


@pytest.mark.parametrize(
    "spec",
    ["torchvision:resnet18", "torchvision:resnet18@anything", "timm:resnet18.a1_in1k", "hf:owner/name",
     "mynet.py:make_net", "mynet:Net", "mynet.py:build", "mynet.py:net_from_elsewhere", "json:loads",
     "places365:resnet18", "timm:some-model-of-a-later-version"],
)  # fmt: skip
def test_a_model_that_may_be_one_passes(folder, spec):
    check_model(spec)


def test_a_file_that_is_no_python_is_refused(folder):
    (folder / "broken.py").write_text("def make_net(:")
    with pytest.raises(UsageError, match="is no Python code"):
        check_model("broken.py:make_net")


def test_only_public_functions_without_arguments_are_suggested(folder):
    assert functions_of(folder / "mynet.py") == ["make_net", "make_sized"]


def test_names_from_the_files_of_a_library_are_the_names_that_it_lists():
    import timm
    from torchvision import models

    spatial = [models.detection, models.segmentation]
    backbones = {f"{name}.backbone" for part in spatial for name in models.list_models(module=part)}
    assert library_models("torchvision") == {*models.list_models(module=models), *backbones}
    assert library_models("timm") == {*timm.list_models()}


def test_names_are_checked_before_torch_is_imported(folder):
    code = (
        "import json, sys; from line_neurons.tui.cli.main import app\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    try: app(['explain', *arguments], standalone_mode=False)\n"
        "    except Exception as error: print(error, 'torch' in sys.modules, 'langgraph' in sys.modules)"
    )
    expected = (
        (("resnet18", "fc", "0"), "torchvision:resnet18"),
        (("torchvision:resnet18", "fc", "0", "--llm", "radnom"), "near: random"),
        (("torchvision:resnet18", "fc", "0", "--generator", "sdlx"), "near: sdxl"),
        (("torchvision:resnet18", "fc", "0", "--control", "bnak"), "near: bank"),
        (("torchvision:resnet18", "fc", "0", "--llm", "llama3.1:8b"), "near: ollama:llama3.1:8b"),
        (("torchvision:resnet18", "fc", "0", "--llm", "olama:llama3.1:8b"), "near: ollama:llama3.1:8b"),
        (("torchvision:resnet18", "fc", "0", "--llm", "embed"), "near: embedded"),
    )
    asked = json.dumps([arguments for arguments, _ in expected])
    done = subprocess.run([sys.executable, "-c", code, asked], capture_output=True, text=True, check=True)
    for line, (_, said) in zip(done.stdout.splitlines(), expected, strict=True):
        assert said in line
        assert line.endswith("False False")


def test_neither_torch_nor_pandas_is_imported_where_nothing_is_built():
    code = (
        "import sys; from line_neurons.tools.targets.architectures import module_paths\n"
        "from line_neurons.tools.store import schema\n"
        "print(module_paths('mine:net'), 'torch' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "() False False\n"
