"""Tables: whole in a pipe, and fitting on a terminal without breaking a word."""

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from line_neurons.graphs.runs.lifecycle import start
from line_neurons.tools.steering.outcomes import CommandOutcome
from line_neurons.tools.store.steering_queue import SteeringCommand
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.printing.run import labels
from line_neurons.tui.cli.printing.unit import print_steering
from support.fakes import LAYER, ScriptedModel, scripted_components

WORDS = st.text("abcé漢字-", max_size=12)
TEXTS = st.lists(WORDS, max_size=5).map(" ".join)
NUMBERS = st.none() | st.integers(0, 10**6) | st.floats(0, 1000)
RUNS = (
    ["run", "model", "layer", "units", "state", "started", "language model"],
    [["mobilenet_v2-features-18-1", "torchvision:mobilenet_v2@IMAGENET1K_V1", "features.18.conv.0", "12/50",
      "running", "2026-11-30 02:11", "ollama:llama3.1:8b"]],
)  # fmt: skip


@st.composite
def tables(draw):
    kinds = draw(st.lists(st.sampled_from([TEXTS, NUMBERS, st.just(""), TEXTS | NUMBERS]), min_size=1, max_size=5))
    headings = [draw(st.sampled_from(["unit", "score", "second", "a"])) for _ in kinds]
    return headings, draw(st.lists(st.tuples(*kinds), min_size=0, max_size=12)), draw(TEXTS)


def printed(table, width=80, *, is_terminal=True, encoding="utf-8", **options):
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TERM", "xterm")
        console = Console(
            file=file, width=width, markup=False, highlight=False, emoji=False, force_terminal=is_terminal,
            color_system=None,
        )  # fmt: skip
        patched.setattr(terminal, "out", console)
        terminal.table(*table, **options)
    file.seek(0)
    return file.read()


@settings(max_examples=60)
@given(tables(), st.sampled_from([100, 160]), st.booleans())
def test_a_row_is_a_line_that_fits_the_terminal(table, width, is_terminal):
    _, head, rule, *rows, foot, end = printed(
        (*table[:2], ""), width, is_terminal=is_terminal, whole=(), wrap=()).split("\n")  # fmt: skip
    assert (foot, end) == ("", "")
    assert len(rows) == len(table[1])
    assert set(rule.strip()) == {"─"}
    if is_terminal and max(cell_len(str(row[0])) for row in (*table[1], [""])) < 20:
        assert max(map(cell_len, (head, rule, *rows))) <= width


def test_a_pipe_gets_every_cell_whole():
    shown = printed(RUNS, 80, is_terminal=False, drop=("language model",))
    for cell in (*RUNS[0], *RUNS[1][0]):
        assert cell in shown


@pytest.mark.parametrize(
    ("width", "there", "absent"),
    [
        (200, ["torchvision:mobilenet_v2@IMAGENET1K_V1", "features.18.conv.0", "ollama:llama3.1:8b"], ["…"]),
        (120, [" mobilenet_v2-features-18-1 ", "torchvision:mobilenet_v2 ", "12/50", "running"], ["@"]),
        (80, [" mobilenet_v2-features-18-1 ", "mobilenet_v2 ", "conv.0", "12/50", "running"], ["started"]),
    ],
)
def test_what_matters_stays_and_models_and_layers_shorten_sensibly(width, there, absent):
    shown = printed(RUNS, width, drop=("language model", "started"), whole=("units", "state", "started"))
    assert max(map(len, shown.split("\n"))) <= width
    assert [text for text in there if text not in shown] == []
    assert [text for text in absent if text in shown] == []


def test_sentences_continue_between_words():
    text = "The unit responds to stone walls with battlements, and to nothing else that was tried so far."
    shown = printed((["step", "reasoning"], [["1", text], ["2", "A castle."]]), 50, wrap=("reasoning",))
    assert max(map(len, shown.split("\n"))) <= 50
    assert " ".join(shown.split()) == f"step reasoning {'─' * 48} 1 {text} 2 A castle."


def test_a_terminal_without_the_characters_of_lines_gets_others():
    shown = printed((["unit", "label"], [("1", "a dog with " * 9)]), 40, encoding="ascii")
    assert "---" in shown
    assert shown.rstrip().endswith("...")


def test_what_became_of_a_steering_command_and_labels_are_whole_at_80_columns(tmp_path, monkeypatch):
    command = SteeringCommand(1, "ban", "acoustic guitar", "somebody on host", 0.0, 1.0, "", 4)
    text = "banned; it left the board, and the label is the next best concept"
    components = scripted_components(tmp_path, ScriptedModel(lambda *request: "thing"), iterations=1)
    run = start(components, LAYER, ["0"])
    unit = components.runs.units(run.id)[0]
    label = "a school of striped fish"
    labelled = replace(unit, name="great white shark", label=label, score=1.25, status="finished")
    file = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "out", console)
    print_steering([CommandOutcome(command, "applied", text)])
    labels(tmp_path, run, [labelled])
    shown = file.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert set(text.split()) <= set(shown.split())
    assert label in shown
