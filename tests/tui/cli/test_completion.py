"""Completion by the shell, as bash asks for it: words with colons, and no model is loaded."""

import os
import subprocess
import sys

import pytest
from typer._completion_shared import get_completion_script

from line_neurons.tui.cli.shell import completion
from line_neurons.tui.cli.shell.fish_and_zsh import fish_and_zsh

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


@pytest.mark.parametrize(
    ("typed", "fish", "zsh"),
    [
        ("line explain x y 0 --scorer=m", ["--scorer=mad", "--scorer=mean"],
         """_arguments '*: :(("--scorer=mean"\n"--scorer=mad"))'"""),
        ("line explain torchvision:mobilenet_v3_s", ["torchvision:mobilenet_v3_small"],
         """_arguments '*: :(("torchvision\\\\:mobilenet_v3_small"))'"""),
    ],
)  # fmt: skip
def test_fish_and_zsh_replace_the_whole_word(tmp_path, monkeypatch, typed, fish, zsh):
    monkeypatch.chdir(tmp_path)

    def ask(shell, **more):
        environment = os.environ | {"_LINE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": typed, **more}
        done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True,
                              check=False)  # fmt: skip
        return done.stdout.strip()

    assert sorted(ask("fish", _TYPER_COMPLETE_FISH_ACTION="get-args").split()) == fish
    assert ask("zsh") == zsh


def test_the_apostrophe_of_a_description_stays_in_zsh(monkeypatch, capsys):
    monkeypatch.setenv("_LINE_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "line explain --pre")
    with fish_and_zsh():
        sys.stdout.write("""_arguments '*: :(("--preset":"Use the paper''s method"))'\n""")
    assert capsys.readouterr().out == """_arguments '*: :(("--preset":"Use the paper'\\''s method"))'\n"""


def test_the_script_of_zsh_answers_the_first_tab(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["line", "--show-completion"])
    with fish_and_zsh():
        script = get_completion_script(prog_name="line", complete_var="_LINE_COMPLETE", shell="zsh")
    assert script.rstrip().endswith('loadautofunc ]]; then\n  _line_completion "$@"\nfi')


def test_the_layers_of_a_model_that_was_listed_are_completed(offered):
    completion.remember_layers("torchvision:tiny", ["conv1", "layer1.0", "layer1.1"])
    assert offered("line", "explain", "torchvision", ":", "tiny", "lay") == ["layer1.0", "layer1.1"]
    assert offered("line", "explain", "torchvision", ":", "tiny", "conv1,layer1.1") == ["conv1,layer1.1"]
    assert offered("line", "explain", "torchvision", ":", "other", "lay") == []


def test_a_store_without_runs_offers_none(offered):
    assert offered("line", "show", "a") == []
