"""Completion by the shell, as bash asks for it: words with colons, and no model is loaded."""

import os
import subprocess
import sys

import pytest

from line_neurons.tui.cli.shell import completion

CODE = (
    "import sys; sys.argv[0] = 'line'; from line_neurons.tui.cli.main import main\n"
    "try: main()\n"
    "finally: print('torch' in sys.modules, 'langgraph' in sys.modules, file=sys.stderr)"
)


@pytest.fixture
def offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINE_ASSETS", str(tmp_path / "assets"))
    (tmp_path / "mynet.py").write_text("def make_net(): ...\ndef helper(images): ...\n")
    (tmp_path / "photos").mkdir()

    def ask(*words):
        environment = {"_LINE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words),
                       "COMP_CWORD": str(len(words) - 1)}  # fmt: skip
        done = subprocess.run([sys.executable, "-c", CODE], env=os.environ | environment, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.stderr == "False False\n"
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("line", "explain", "torch"), ["torchvision:"]),
        (("line", "explain", "torchvision", ":", "mobile"),
         ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]),
        (("line", "explain", "mynet.py", ":", ""), ["make_net"]),
        (("line", "explain", "x", "fc", "0", "--llm", "embedded", ":", "q"), ["qwen2.5-coder-1.5b"]),
        (("line", "explain", "x", "fc", "0", "--generator", "sdxl-"), ["sdxl-turbo", "sdxl-lightning"]),
        (("line", "explain", "x", "fc", "0", "--scorer", "=", "m"), ["mean", "mad"]),
        (("line", "explain", "x", "fc", "0", "--preset", "p"), ["paper"]),
        (("line", "explain", "x", "fc", "0", "--control", "p"), ["photos/"]),
        (("line", "eval", "tab"), ["table1"]),
    ],
)  # fmt: skip
def test_names_are_completed_without_loading_a_model(offered, words, expected):
    assert offered(*words) == expected


def test_the_layers_of_a_model_that_was_listed_are_completed(offered):
    completion.remember_layers("torchvision:tiny", ["conv1", "layer1.0", "layer1.1"])
    assert offered("line", "explain", "torchvision", ":", "tiny", "lay") == ["layer1.0", "layer1.1"]
    assert offered("line", "explain", "torchvision", ":", "tiny", "conv1,layer1.1") == ["conv1,layer1.1"]
    assert offered("line", "explain", "torchvision", ":", "other", "lay") == []


def test_a_store_without_runs_offers_none(offered):
    assert offered("line", "show", "a") == []
