import builtins
import re
import subprocess
import sys

import pytest

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.packages import missing_package, pip_install
from line_neurons.tools.target_specs import absolute_spec, short_spec
from line_neurons.tools.targets.registry import open_target


@pytest.mark.parametrize("spec", ["mobilenet_v2", "", ":resnet50", "torchvision:", "keros:resnet50", "keros.x:y"])
def test_what_names_no_model_is_refused_with_what_would(spec):
    with pytest.raises(
        UsageError, match=r"torchvision:, timm:, hf:, places365:, robust:, keras:, planted: .*MODULE:FUNCTION"
    ):
        open_target(spec)


@pytest.mark.parametrize(
    ("package", "spec", "remedy"),
    [
        ("timm", "timm:resnet18", rf"timm is not installed \({re.escape(pip_install('targets'))}\)"),
        ("transformers", "hf:some/model", rf"transformers is not .*{re.escape(pip_install('targets'))}"),
        ("torchvision", "torchvision:resnet18", rf"torch and torchvision .*{re.escape(pip_install('torch'))}"),
    ],
)
def test_a_missing_package_is_named_with_its_install_command(package, spec, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPartError, match=remedy):
        open_target(spec)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ImportError("libcudart.so.12: cannot open shared object file: No such file"),
            "incomplete: install it again",
        ),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object: Cannot allocate memory"),
            "more memory",
        ),
        (OSError("libcublas.so.12: undefined symbol: cublasLt"), "incomplete: install it again"),
        (MemoryError(), "memory ran out (let it have more memory"),
        (ModuleNotFoundError("No module named 'sympy'", name="sympy"), "No module named 'sympy' (install what it"),
        (ImportError("cannot import name 'x'"), "cannot import name 'x' (install what it needs: pip install"),
    ],
)
def test_a_package_that_is_there_and_cannot_be_loaded_gives_the_true_cause(error, told):
    raised = str(missing_package(error, "torch and torchvision", pip_install("torch")))
    assert raised.startswith("torch and torchvision cannot be loaded: ")
    assert told in raised
    assert "not installed" not in raised


def test_what_fails_while_torchvision_is_imported_is_not_called_missing(monkeypatch):
    def fail(name, *rest):
        if name == "torchvision":
            raise ImportError("libcudart.so.12: cannot open shared object file: No such file or directory")
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MissingPartError, match=r"torch and torchvision cannot be loaded: libcudart\.so\.12"):
        open_target("torchvision:resnet18")


@pytest.mark.parametrize("spec", ["timm:resnet18", "hf:owner/name", "torchvision.models:resnet18", "nothing"])
def test_specs_that_name_no_file_are_the_same_everywhere(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (absolute_spec(spec), short_spec(spec)) == (spec, spec)


def test_a_folder_of_a_model_is_named_absolutely_or_by_its_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets" / "vit").mkdir(parents=True)
    assert absolute_spec("hf:nets/vit") == f"hf:{tmp_path}/nets/vit"
    assert short_spec(absolute_spec("hf:nets/vit")) == "hf:vit"


def test_the_module_that_opens_targets_brings_no_heavy_package():
    code = """
import sys
import line_neurons.tools.targets.registry
heavy = {"torch", "torchvision", "timm", "transformers", "PIL", "numpy"} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
