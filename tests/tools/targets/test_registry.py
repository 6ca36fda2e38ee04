import subprocess
import sys

import pytest

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.registry import open_target


@pytest.mark.parametrize("spec", ["mobilenet_v2", "", ":resnet50", "torchvision:", "keros:resnet50", "keros.x:y"])
def test_what_names_no_model_is_refused_with_what_would(spec):
    with pytest.raises(
        UsageError, match=r"torchvision:, timm:, hf:, places365:, robust:, keras: .*MODULE:FUNCTION"
    ):
        open_target(spec)


@pytest.mark.parametrize(
    ("package", "spec", "remedy"),
    [
        ("timm", "timm:resnet18", r"timm is not installed \(pip install 'line-neurons\[targets\]'\)"),
        ("transformers", "hf:some/model", r"transformers is not .*pip install 'line-neurons\[targets\]'"),
        ("torchvision", "torchvision:resnet18", r"torch and torchvision .*pip install 'line-neurons\[torch\]'"),
    ],
)
def test_a_missing_package_is_named_with_its_install_command(package, spec, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPartError, match=remedy):
        open_target(spec)


def test_the_module_that_opens_targets_brings_no_heavy_package():
    code = """
import sys
import line_neurons.tools.targets.registry
heavy = {"torch", "torchvision", "timm", "transformers", "PIL", "numpy"} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
