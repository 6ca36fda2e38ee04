"""Edits of a unit in the command and in the report."""

import json

import pytest
import typer.main

from line_neurons.agent.errors import UsageError
from line_neurons.tui.cli.main import app
from line_neurons.tui.report.writer import write_report
from support.edited_store import add_edits
from support.store_factory import FAILED, build


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edited") / "store"
    build(folder)
    add_edits(folder, FAILED, 0)
    return folder


def shown(capsys, *arguments):
    typer.main.get_command(app)(["show", *map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().out


def test_show_prints_the_effect_and_each_image(store, capsys):
    told = shown(capsys, FAILED, 0, "--edits", "--store", store)
    assert "effect 7, p = 0.031, rank 2 of 40 units; 1 of 2 edits verified" in told
    assert "still there" in told
    (one,) = json.loads(shown(capsys, FAILED, 0, "--edits", "--json", "--store", store))
    assert [image["verdict"] for image in one["images"]] == ["ok", "still there"]
    assert one["images"][0]["arms"]["concept"]["activation"] == 1.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((FAILED, 1, "--edits"), "were not edited"), ((FAILED, "--edits"), "need a unit"),
     ((FAILED, 0, "--edits", "--step", "1"), "only --json goes with --edits")],
)  # fmt: skip
def test_what_does_not_go_with_edits_is_refused(store, arguments, said, capsys):
    with pytest.raises(UsageError, match=said):
        shown(capsys, *arguments, "--store", store)


def test_the_report_has_the_edits_with_escaped_names(store, tmp_path):
    write_report(store, FAILED, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Is it the cause?" in page
    assert "grass &lt;b&gt; 0" in page
    assert "<b> 0" not in page
    assert "still there" in page
