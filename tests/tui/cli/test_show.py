"""What `line runs` and `line show` make of a store's rows."""

import io
import json

import pytest
from PIL import Image

from line_neurons.agent.ports import DrawnImage, ImageRequest
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.lifecycle import recorded_settings
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.cli.printing import run as run_output
from support.command_checks import refused


class Painter:
    fingerprint = "painter"
    batch_size = 1

    def synthesize(self, requests, progress=None):
        drawn = []
        for request in requests:
            stream = io.BytesIO()
            Image.new("RGB", (8, 8), (request.seed, 0, 0)).save(stream, "PNG")
            drawn.append(DrawnImage(stream.getvalue(), composed=True))
        return drawn


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "store")


def add(store, units, status="finished", **settings):
    run = Run("net-1", "net:x", "head", 0, status, 1.0, recorded_settings(Settings(**settings)), {}, {})
    store.add_run(run, units)
    return run


def found(unit, **values):
    known = {"label": "fox", "score": 2.0, "initial_score": 1.0, "origin": "proposed", "label_step": 3, "steps": 5}
    return Unit("net-1", unit, unit, "finished", **{**known, "discovered": True, **values})


def test_a_label_says_which_unit_found_it(line, store):
    add(
        store,
        [
            found(0),
            found(1, origin="revisit", found_by=0, found_in="net-1"),
            found(2, origin="revisit", found_by=7, found_in="net-9"),
        ],
    )
    rows = [" ".join(row.split()) for row in line("show", "net-1")[1].splitlines()]
    assert "0 fox 2 ± ? 1 discovered, step 3 5" in rows
    assert "1 fox 2 ± ? 1 found by unit 0 5" in rows
    assert "2 fox 2 ± ? 1 found by unit 7 of net-9 5" in rows


def test_a_unit_without_a_count_of_its_steps_took_those_of_the_settings(line, store):
    add(store, [found(0, steps=None)], iterations=4)
    assert "discovered, step 3   5" in line("show", "net-1")[1]


def test_runs_and_units_of_a_process_that_is_gone_are_interrupted(line, store):
    add(store, [found(0), Unit("net-1", 1, 1, "running"), Unit("net-1", 2, 2, "failed", error="lost")], "running")
    (listed,) = json.loads(line("runs", "--json")[1])
    assert [listed[name] for name in ("status", "units", "units_finished", "units_failed")] == [
        "interrupted", 3, 1, 1,
    ]  # fmt: skip
    shown = json.loads(line("show", "net-1", "--json")[1])
    assert [unit["status"] for unit in shown["units"]] == ["finished", "interrupted", "failed"]
    said = line("show", "net-1")[1]
    for text in ("1/3 (1 failed) units", "failed: lost", "line resume net-1", "line retry net-1"):
        assert text in said


@pytest.mark.parametrize(("terminal", "rows"), [(True, 201), (False, 1000)])
def test_a_whole_layer_is_cut_on_a_terminal_alone_but_for_what_failed(
    line, store, monkeypatch, capsys, terminal, rows
):
    units = [found(unit, label="label") for unit in range(999)]
    add(store, [*units, Unit("net-1", 999, 999, "failed", error="label")])
    monkeypatch.setattr(run_output.terminal.out, "_force_terminal", terminal)
    said = line("show", "net-1")[1]
    assert sum("label " in row or row.rstrip().endswith("failed: label") for row in said.splitlines()[3:]) == rows
    assert ("line results net-1" in said) == terminal


@pytest.fixture
def long_history(store, tmp_path):
    """A unit with two searches, each with a summary, and a revisit; an image at each step."""
    add(store, [found(0)])
    kinds = ["initial", "iteration", "summary", "initial", "iteration", "summary", "revisit"]
    bank = Cache(tmp_path / "store")
    for step, kind in enumerate(kinds):
        images = bank.images([ImageRequest(f"thing {step}", "", "", step, "{concept}")], Painter())
        board = () if kind == "revisit" else ((f"board {step}", 1.0),)
        entry = Step("net-1", 0, step, 0, kind, "scored", f"thing {step}", float(step), board=board)
        store.put_step(Step(**{**vars(entry), "images": tuple(images)}))
    bank.close()


def test_the_history_shows_restarts_summaries_and_the_revisit(line, long_history):
    said = line("show", "net-1", "0")[1]
    steps = [row.split()[:3] for row in said.splitlines() if " thing " in row]
    assert [step for step, *_ in steps] == ["0", "1", "S", "3", "4", "S", "R"]
    # The board is the one that the search left, which a revisit does not change.
    assert "board 5" in said


@pytest.mark.parametrize(("step", "images"), [("S", 2), ("s", 2), ("R", 1), ("3", 1), ("5", 1)])
def test_images_of_a_step_are_asked_for_by_number_or_letter(line, long_history, step, images):
    shown = json.loads(line("show", "net-1", "0", "--step", step, "--json")[1])
    one = json.loads(line("show", "net-1", "0", "--step", "0", "--json")[1])
    heights = [Image.open(sheet["contact_sheet"]).height for sheet in (shown, one)]
    assert round(heights[0] / heights[1]) == images


def test_images_that_have_gone_or_changed_are_left_out_and_named(line, long_history, tmp_path):
    whole = json.loads(line("show", "net-1", "0", "--json")[1])
    assert whole["missing"] == {}
    first, second = (entry["images"][0] for entry in whole["history"][:2])
    bank = Cache(tmp_path / "store")
    bank.image_path(first).unlink()
    bank.image_path(second).write_bytes(b"other")
    bank.close()
    status, out, err = line("show", "net-1", "0")
    assert status == 0
    assert "board 5" in out
    assert "2 images of this unit cannot be shown:" in err
    assert f"the file of image {first[:12]} has gone" in err
    assert f"the file of image {second[:12]} is damaged: its content has changed" in err
    shown = json.loads(line("show", "net-1", "0", "--json")[1])
    assert shown["missing"].keys() == {first, second}
    assert Image.open(shown["contact_sheet"]).size == Image.open(whole["contact_sheet"]).size


@pytest.mark.parametrize("step", ["9", "x", "../x"])
def test_a_step_without_images_is_refused_with_those_that_have_some(line, long_history, step):
    refused(line("show", "net-1", "0", "--step", step), repr(step), "0, 1, S, 3, 4, R")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show"], "missing argument 'RUN' (see `line show --help`)"),
        (["show", "a", "--nonsense"], "no such option: --nonsense (see `line show --help`)"),
        (["shwo"], "no such command 'shwo'"),
        (["eval", "cosy"], "missing argument"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_help_to_see(line, arguments, said):
    status, out, err = line(*arguments)
    assert (status, out) == (2, "")
    (only,) = err.splitlines()
    assert only.startswith("error: ")
    assert said in only
