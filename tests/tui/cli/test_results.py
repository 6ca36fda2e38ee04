import csv
import io
import json
import subprocess
import sys

import pytest

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.store.columns import UNIT_COLUMNS
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.cli.export import print_results
from line_neurons.tui.cli.main import app

FINGERPRINTS = {"target": "t", "generator": "g", "language_model": "l", "control": "c"}
RUN = Run("r-1", "torchvision:x", "head", 7, "running", 1.0, {}, FINGERPRINTS, {})
DONE = Unit(
    "r-1", 3, 0, "finished", "cat", "red fox", 9.1, "revisit", None, True, "sand", -2.5, 0.75, -0.1, 1.5,
    images=("aa", "bb"), second_label="barn owl", second_score=4.0, steps=11, found_by=5, found_in="r-0",
    search_label="barn owl", search_score=4.0,
)  # fmt: skip
LEFT = Unit("r-1", 2, 1, "running")
ROW = {
    "run": "r-1", "model": "torchvision:x", "layer": "head", "unit": 3, "name": "cat", "status": "finished",
    "label": "red fox", "score": 9.1, "auc": 0.75, "mad": -0.1, "origin": "revisit", "found_by": 5,
    "found_in": "r-0", "label_step": None, "discovered": True, "margin": 9.1 + 2.5, "initial_label": "sand",
    "initial_score": -2.5, "search_label": "barn owl", "search_score": 4.0, "second_label": "barn owl",
    "second_score": 4.0, "steps": 11, "images": ["aa", "bb"], "seed": 7, "target": "t", "generator": "g",
    "language_model": "l", "control": "c", "seconds": 1.5, "error": "",
    "note": None, "auc_low": None, "auc_high": None, "density": None, "spread": None,
    "facets": None, "polysemanticity": None, "ms": None, "label_2": None, "label_3": None,
    "schema": "line-neurons/units/1",
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    RunStore(tmp_path / "store").add_run(RUN, [DONE, LEFT])
    return tmp_path / "store"


def add(store, name, *units):
    RunStore(store).add_run(
        Run(**{**vars(RUN), "id": name}), [Unit(**{**vars(unit), "run": name}) for unit in units]
    )


def test_the_columns_are_these_and_in_this_order():
    assert [*UNIT_COLUMNS, "schema"] == list(ROW)


def test_jsonl_has_a_row_with_every_column_for_each_unit_also_while_the_run_goes_on(store, capsys):
    with acquire(RunStore(store), ["r-1"]):
        print_results(store, "r", "jsonl", None)
    done, left = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(done.items()) == list(ROW.items())
    assert (left["unit"], left["status"], left["label"], left["images"]) == (2, "running", None, [])


def test_json_is_a_list_of_the_same_rows_and_takes_no_format(store, capsys):
    assert app(["results", "r-1", "--json", "--store", str(store)], standalone_mode=False) in {0, None}
    done, left = json.loads(capsys.readouterr().out)
    assert list(done.items()) == list(ROW.items())
    assert left["unit"] == 2
    with pytest.raises(UsageError, match="--json prints the rows in a format of its own"):
        app(["results", "r-1", "--json", "--format", "csv", "--store", str(store)], standalone_mode=False)


def test_a_unit_that_nobody_works_on_is_interrupted(store, capsys):
    print_results(store, "r-1", "jsonl", None)
    assert [json.loads(row)["status"] for row in capsys.readouterr().out.splitlines()] == [
        "finished",
        "interrupted",
    ]


def test_csv_has_the_same_rows_with_numbers_to_the_last_digit(store, capsys):
    print_results(store, "r-1", "csv", None)
    heading, done, left = csv.reader(io.StringIO(capsys.readouterr().out))
    assert heading == list(ROW)
    cells = dict(zip(heading, done, strict=True))
    assert (float(cells["margin"]), float(cells["mad"])) == (ROW["margin"], ROW["mad"])
    assert (cells["images"], cells["discovered"], cells["label_step"]) == ("aa bb", "true", "")
    assert dict(zip(heading, left, strict=True))["score"] == ""


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ('a "b", c;\r\nd', 'a "b", c; d'),
        ("\x1b[31mred", "[31mred"),
        ("größe", "größe"),
    ],
)
def test_text_in_csv_is_no_formula_no_second_line_and_steers_no_terminal(store, capsys, text, cell):
    add(store, "hostile", Unit("", 1, 0, "failed", name=text, error=text, score=-1.5))
    print_results(store, "hostile", "csv", None)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["name"], row["error"], row["score"]) == (cell, cell, "-1.5")


def test_jsonl_keeps_any_text_and_is_ascii(store, capsys):
    text = "größe \x1b[31m\u202e\n=1+1"
    add(store, "hostile", Unit("", 1, 0, name=text))
    print_results(store, "hostile", "jsonl", None)
    written = capsys.readouterr().out
    assert written.isascii()
    assert "\x1b" not in written
    assert json.loads(written)["name"] == text


def test_parquet_has_the_same_rows_with_types_that_do_not_depend_on_them(store, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    add(store, "empty")
    for run in ("r-1", "empty"):
        print_results(store, run, "parquet", tmp_path / f"{run}.parquet")
    full, empty = (pq.read_table(tmp_path / f"{run}.parquet") for run in ("r-1", "empty"))
    assert full.to_pylist()[0] == ROW
    assert (full.schema, full.num_rows, empty.num_rows) == (empty.schema, 2, 0)
    assert [str(full.schema.field(name).type) for name in ("unit", "score", "discovered", "label")] == [
        "int64",
        "double",
        "bool",
        "string",
    ]


def test_without_its_package_parquet_is_refused_with_what_to_install(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPartError, match=r"pip install .*\[parquet\]"):
        print_results(store, "r-1", "parquet", tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_parquet_is_not_written_to_a_terminal(store, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(UsageError, match="terminal"):
        print_results(store, "r-1", "parquet", None)
    assert capsys.readouterr().out == ""


def test_a_file_is_replaced_whole_and_nothing_else_is_left(store, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "real.csv").write_text("old")
    (folder / "link.csv").symlink_to("real.csv")
    print_results(store, "r-1", "csv", folder / "link.csv")
    assert (folder / "real.csv").read_text().startswith("run,model,")
    assert (folder / "link.csv").is_symlink()
    assert len(list(folder.iterdir())) == 2


def test_in_a_folder_the_file_is_called_after_the_run(store, tmp_path):
    print_results(store, "r-1", "csv", tmp_path)
    assert (tmp_path / "r-1.csv").read_text().startswith("run,model,")


@pytest.mark.parametrize("place", ["missing/x.csv", "store/runs.db/x.csv", "n" * 300])
def test_a_place_that_cannot_be_written_is_refused(store, tmp_path, place):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="--output"):
        print_results(store, "r-1", "csv", tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_format_that_is_none_and_a_table_in_a_file_are_refused(store, tmp_path):
    with pytest.raises(UsageError, match="'xlsx' is not a format"):
        print_results(store, "r-1", "xlsx", None)
    with pytest.raises(UsageError, match="not written to a file"):
        print_results(store, "r-1", "table", tmp_path / "x")


def test_a_table_shows_the_labels(store, capsys):
    print_results(store, "r-1", "table", None)
    shown = capsys.readouterr().out
    for word in ("red fox", "9.1", "barn owl", "cat", "finished", "unit 5"):
        assert word in shown


def test_results_are_read_without_loading_a_model_s_packages(store):
    code = (
        "import sys; from pathlib import Path; from line_neurons.tui.cli.export import print_results;"
        f"print_results(Path({str(store)!r}), 'r-1', 'csv', None);"
        "print({'torch', 'langgraph', 'transformers'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
