"""What reaches a terminal, a pipe or a file from hostile text."""

import csv
import io
import json
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hostile.texts import NAMED, hostile, obeyed
from line_neurons.agent.errors import LineError, StoreError
from line_neurons.agent.text import clean_text, storable_text
from line_neurons.eval.exchange.run_tables import TABLES, write_table
from line_neurons.graphs.runs.runner import Progress
from line_neurons.tools.cache.activation_cache import CacheStats
from line_neurons.tools.store.columns import unit_row
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.progress import ProgressReporter, download_bars
from line_neurons.tui.report.contact_sheet import SheetRow, write_sheet

PARTS = ("target", "generator", "language_model", "control")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile(), hostile(), st.booleans())
def test_whatever_is_printed_is_inert(capsys, one, other, colours):
    for console in (terminal.out, terminal.err):
        console._force_terminal = colours
    terminal.table([" a", "b"], [[one, other], [other, 1.5], [None, True]], title=one)
    terminal.line(one, style="bold", lead="  ")
    terminal.note(other)
    terminal.notes(f"{one}\n  {other}")
    terminal.complain(LineError(one, other))
    terminal.trace(LineError(one, other))
    for console in (terminal.out, terminal.err):
        console._force_terminal = None
    written = capsys.readouterr()
    assert obeyed(written.out + written.err) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(hostile()), hostile())
def test_json_is_inert_and_says_exactly_what_was_given(capsys, texts, key):
    terminal.dump({key: texts})
    written = capsys.readouterr().out
    assert obeyed(written) == []
    # A pair of escapes is the one character that JSON makes of it.
    assert json.loads(written) == json.loads(json.dumps({key: texts}))


def _rows(text, **values):
    run = Run("r-1", text, text, 7, text, 1.0, {}, dict.fromkeys(PARTS, text), {})
    names = ("name", "label", "origin", "initial_label", "second_label", "search_label", "found_in", "error")
    unit = Unit("r-1", 3, 0, text, **dict.fromkeys(names, text), images=(text, text))
    return [unit_row(run, unit, None, worked_on=False)]


def _written(format_, text):
    stream = io.BytesIO()
    write_table(TABLES["units"], _rows(text), format_, stream, {})
    return stream.getvalue()


def _with_one_apostrophe_less(cell):
    return cell.removeprefix("'")


@given(hostile())
def test_csv_has_no_formula_and_gives_the_cleaned_text_back(text):
    written = _written("csv", text).decode()
    assert obeyed(written) == []
    (row,) = csv.DictReader(io.StringIO(written))
    for name, cell in row.items():
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")), name
    for name in ("label", "model", "generator", "status"):
        assert _with_one_apostrophe_less(row[name]) == clean_text(text, terminal.MAX_CELL)
    assert _with_one_apostrophe_less(row["images"]) == clean_text(f"{text} {text}", 1 << 20)


@given(hostile())
def test_json_lines_are_ascii_and_give_the_text_back(text):
    written = _written("jsonl", text).decode()
    assert written.isascii()
    assert obeyed(written) == []
    assert json.loads(written)["label"] == json.loads(json.dumps(text))


@settings(max_examples=30)
@given(hostile())
def test_parquet_gives_the_text_back(text):
    parquet = pytest.importorskip("pyarrow.parquet")
    (row,) = parquet.read_table(io.BytesIO(_written("parquet", text))).to_pylist()
    assert (row["label"], row["target"]) == (storable_text(text), storable_text(text))
    assert row["images"] == [storable_text(text)] * 2


def _png():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    return stream.getvalue()


def test_a_contact_sheet_has_any_title_and_grows_with_its_images_only(tmp_path):
    sizes = set()
    for text in NAMED.values():
        sheet = write_sheet([SheetRow(text, [_png()])], tmp_path / "sheet.png")
        sizes.add(Image.open(sheet).size)
    assert len(sizes) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_contact_sheet_of_what_is_no_image_or_in_no_file_is_refused(tmp_path):
    with pytest.raises(StoreError, match="cannot be decoded"):
        write_sheet([SheetRow("owl", [b"\x89PNG\r\n\x1a\nno"])], tmp_path / "sheet.png")
    for place in (tmp_path, tmp_path.root):
        with pytest.raises(StoreError, match="is a folder"):
            write_sheet([SheetRow("owl", [_png()])], type(tmp_path)(place))
    assert list(tmp_path.iterdir()) == []


def bars():
    """Show progress whose every text is hostile; run in a terminal of its own."""
    for text in NAMED.values():
        at = Progress(
            run="r", unit=1, name=text, finished=0, failed=1, units=1, node="failed", kind="iteration", step=1,
            steps=2, concept=text, best=(text, 1.5), stats=CacheStats(), error=text,
        )  # fmt: skip
        with ProgressReporter() as reporter:
            reporter.steps_in_all = 3
            reporter.report_preparation(f"reading {text}", 1, 3)
            reporter.report(at)
            reporter._bars.refresh()
        with download_bars() as downloads:
            downloads.add_task(text, total=10)
            downloads.refresh()
        terminal.table(["a"], [[text]])
        terminal.dump([text])


def _in_a_terminal(code):
    """What a program writes to a terminal, with the newlines that the terminal makes of ours."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.close(leader)
    assert program.wait() == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


def test_a_real_terminal_gets_nothing_to_obey_but_our_bars():
    path = [folder for folder in sys.path if folder]
    code = f"import sys; sys.path[:0] = {path!r}; from hostile.test_terminal import bars; bars()"
    written = _in_a_terminal(code)
    assert obeyed(written, live=True) == []
    assert "\x1b[" in written
    assert "cat" in written


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_characters_gets_escapes(encoding, tmp_path):
    code = (
        "import sys; from line_neurons.tui.cli import main as cli, output as terminal;"
        f"cli.app = lambda standalone_mode: (terminal.line({NAMED['emoji']!r}), terminal.dump(['\u05d9']))[:0];"
        "sys.argv = ['line']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    shown, _, dumped = done.stdout.decode(encoding).partition("\n")
    assert "\\U0001f468" in shown
    assert json.loads(dumped) == ["\u05d9"]
