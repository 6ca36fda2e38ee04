"""The files that a run is taken away in: every row and text arrives, and nobody's file is replaced unasked."""

import csv
import io
import json
import shutil
import tracemalloc
from contextlib import closing
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.text import clean_text, storable_text
from line_neurons.eval.exchange.export import FORMATS, SIDECAR, export
from line_neurons.eval.exchange.output_files import output_path, refuse_unwritable
from line_neurons.eval.exchange.run_tables import TABLES, WRITERS
from line_neurons.eval.exchange.snapshot import open_snapshot
from line_neurons.eval.labels.formats import read_labels
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.scorers import standard_error
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.results.facets import Facet, UnitFacets, put_facets
from line_neurons.tools.store.runs import RunStore
from support.facet_store import add_facets
from support.fakes import LAYER, ScriptedModel, scripted_components

DOCS = Path(__file__).parents[3] / "docs" / "exports.md"
OF_THE_STORE = [name for name in FORMATS if name != "milan-exemplars"]
"""The formats that need no target."""
FINGERPRINTS = {"target": "t", "generator": "g", "language_model": "l", "control": "c"}
READ = {
    "csv": lambda path: list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""))),
    "jsonl": lambda path: [json.loads(line) for line in path.read_text("ascii").splitlines()],
    "parquet": lambda path: pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist(),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a finished run of two units."""
    store = tmp_path_factory.mktemp("exports") / "store"
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed % 997}")
    components = scripted_components(store, model, iterations=2, top=2, random=2, images=2)
    run = work(components, start(components, LAYER, ["0-1"]))
    facet = Facet(
        run.id, 1, 0, "a thing", 1.5, 0.9, 2.0, 1.0, ("class a", "b, c"), ("f" * 64,), 0.5, "proposed", 2
    )
    numbers = {"facets": 1, "polysemanticity": 0.25, "ms": None}
    put_facets(components.runs, [UnitFacets(run.id, 1, "", numbers, (facet,))])
    components.runs.close()
    components.cache.close()
    return store


def recorded(store, *units, steps=()):
    """A store with a run that has these units and this history."""
    with closing(RunStore(store)) as runs:
        run = Run("r-1", "torchvision:resnet18", "avgpool", 7, "finished", 1.0, {}, FINGERPRINTS, {})
        runs.add_run(run, [Unit(**{**vars(unit), "run": "r-1"}) for unit in units])
        runs.put_steps(list(steps))
    return store


@pytest.mark.parametrize("table", TABLES)
def test_each_table_has_the_same_rows_in_every_format(store, tmp_path, table):
    rows = {}
    for format_ in WRITERS:
        path = export(store, "model", format_, tmp_path / f"{table}.{format_}", table=table).path
        rows[format_] = READ[format_](path)
    columns = [*TABLES[table].columns, "schema"]
    assert rows["jsonl"]
    assert {row["schema"] for row in rows["csv"]} == {TABLES[table].schema}
    for plain, cells, typed in zip(rows["jsonl"], rows["csv"], rows["parquet"], strict=True):
        assert list(plain) == list(cells) == list(typed) == columns
        for name, kind in TABLES[table].columns.items():
            value = json.dumps(plain[name]) if kind == "json" and plain[name] is not None else plain[name]
            assert typed[name] == value
            if kind == "number" and value is not None:
                assert float(cells[name]) == value
            elif kind == "texts":
                assert cells[name].split() == value


def test_the_whole_history_is_in_the_steps_and_every_image_says_how_it_was_drawn(store, tmp_path):
    export(store, "model", "jsonl", tmp_path / "steps", table="steps")
    export(store, "model", "jsonl", tmp_path / "pictures", table="images")
    steps, images = READ["jsonl"](tmp_path / "steps"), READ["jsonl"](tmp_path / "pictures")
    with closing(RunStore(store, read_only=True)) as runs:
        history = [step for unit in (0, 1) for step in runs.steps("model-head-1", unit)]
        labels = {unit.unit: unit for unit in runs.units("model-head-1")}
    assert [(row["unit"], row["step"], row["attempt"], row["concept"], row["reply"], row["prompt"], row["board"])
            for row in steps] == [
        (one.unit, one.step, one.attempt, one.concept, one.reply, one.prompt, [list(pair) for pair in one.board])
        for one in history
    ]  # fmt: skip
    assert [(row["unit"], row["step"], row["picture"]) for row in images] == [
        (one.unit, one.step, image) for one in history for image in one.images
    ]
    for row in images:
        assert row["concept"] in row["prompt"]
        assert row["seed"] >= 0
        assert row["of_label"] == (row["picture"] in labels[row["unit"]].images)
    of_label = {row["picture"]: row["activation"] for row in images if row["unit"] == 0 and row["of_label"]}
    by_step = {(row["unit"], row["step"], row["concept"]): row["spread"] for row in steps}
    assert all(row["spread"] == by_step[row["unit"], row["step"], row["concept"]] for row in images)
    assert {row["label_spread"] for row in images if row["unit"] == 0} == {
        standard_error("mean", np.array(list(of_label.values()), np.float32), np.empty(0, np.float32))
    }
    scored = [row["activation"] for row in images if row["unit"] == 0 and row["step"] == 1]
    assert sum(scored) / len(scored) == pytest.approx(
        next(one.score for one in history if one.step == 1), rel=1e-6
    )


def test_every_format_says_where_it_comes_from(store, tmp_path):
    for format_ in OF_THE_STORE:
        path = export(store, "model", format_, tmp_path / format_).path
        beside = path / "provenance.json" if path.is_dir() else path.with_name(path.name + SIDECAR)
        if format_ != "bundle":
            told = json.loads(beside.read_text())
            assert told["schema"].startswith("line-neurons/provenance/")
            assert "model-head-1" in json.dumps(told)


TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
LABEL = st.one_of(TEXT, st.sampled_from(["=1+1", "+1", "-1", "@SUM(A1)", "'quoted", "''", "a, b\r\nc", "\uff1d1"]))
NUMBERS = count()


@settings(max_examples=25)
@given(labels=st.lists(st.tuples(LABEL, TEXT), min_size=1, max_size=3))
def test_any_label_and_name_comes_back_from_every_table(labels, tmp_path_factory):
    store = tmp_path_factory.mktemp(f"labels{next(NUMBERS)}")
    units = [Unit("", 0, 0, "failed", name=labels[0][1], error=labels[0][0]), Unit("", 1, 1, "pending")]
    units += [
        Unit("", place, place, "finished", name=name, label=label, score=0.5)
        for place, (label, name) in enumerate(labels, 2)
    ]
    recorded(store, *units)
    for format_ in WRITERS:
        export(store, "r-1", format_, store / f"resnet18-avgpool.{format_}")
    texts = [(storable_text(label), storable_text(name)) for label, name in labels]
    for format_ in ("jsonl", "parquet"):
        rows = READ[format_](store / f"resnet18-avgpool.{format_}")
        assert [(row["label"], row["name"]) for row in rows[2:]] == texts
        assert [row["label"] for row in rows[:2]] == [None, None]
    # CSV is of one line a unit, and what it is read for has letters that everybody sees.
    shown = {place: clean_text(label, 300) for place, (label, _) in enumerate(texts, 2)}
    for format_ in WRITERS:
        if all(shown.values()):
            read = read_labels(store / f"resnet18-avgpool.{format_}")
            assert {one.unit: one.concept for one in read.labels} == shown
            assert (read.model, read.layer) == ("torchvision:resnet18", "avgpool")
    for row in csv.reader(io.StringIO((store / "resnet18-avgpool.csv").read_text("utf-8"), newline="")):
        assert not any(
            cell[:1] in {"=", "+", "-", "@", "\t", "\r"} for cell in row if cell[1:2] not in "0123456789."
        )


def test_nothing_is_replaced_unasked_and_what_fails_leaves_nothing(store, tmp_path, monkeypatch):
    for format_ in OF_THE_STORE:
        path = tmp_path / format_
        path.write_text("mine")
        with pytest.raises(UsageError, match="exists already"):
            export(store, "model", format_, path)
        assert path.read_text() == "mine"
        if format_ != "hf-dataset":
            export(store, "model", format_, path, force=True)
            assert path.read_bytes() != b"mine"
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="No space"):
        export(store, "model", "hf-dataset", tmp_path / "other")
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_of_somebody_elses_is_not_replaced_and_one_of_ours_is(store, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    export(store, "model", "hf-dataset", folder, force=True)
    (folder / "stale").write_text("")
    export(store, "model", "hf-dataset", folder, force=True)
    assert not (folder / "stale").exists()
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(UsageError, match="not a folder of an export"):
        export(store, "model", "hf-dataset", folder, force=True)
    assert (folder / "README.md").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"format_": "xlsx"}, "'xlsx' is not a format"),
        ({"table": "runs"}, "no table 'runs'"),
        ({"format_": "bundle", "table": "steps"}, "no table 'steps' for bundle"),
        ({"name": "nothing"}, "'nothing' is not a run"),
        ({"output": "no/such/folder.csv"}, "there is no folder"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_writes_nothing(store, tmp_path, given, said):
    asked = {"name": "model", "format_": "csv", "output": "labels.csv", **given}
    with pytest.raises(UsageError, match=said):
        export(
            store, asked["name"], asked["format_"], tmp_path / asked["output"], table=asked.get("table", "units")
        )
    assert list(tmp_path.iterdir()) == []


def test_a_format_whose_package_is_missing_says_what_to_install(store, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingPartError, match=r"pip install .*\[parquet\]"):
        export(store, "model", "parquet", tmp_path / "labels.parquet")
    assert list(tmp_path.iterdir()) == []


def test_datasets_opens_the_folder_with_images_and_what_they_show(store, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    folder = export(store, "model", "hf-dataset", tmp_path / "data").path
    export(store, "model", "jsonl", tmp_path / "pictures", table="pictures")
    rows = READ["jsonl"](tmp_path / "pictures")
    for place, where in enumerate(({"path": "imagefolder", "data_dir": str(folder)}, {"path": str(folder)})):
        opened = datasets.load_dataset(**where, split="train", cache_dir=str(tmp_path / f"cache-{place}"))
        assert [{name: row[name] for name in TABLES["pictures"].columns} for row in opened] == [
            {name: row[name] for name in TABLES["pictures"].columns} for row in rows
        ]
        assert opened[0]["image"].size[1] == 1
    assert (folder / "README.md").read_text().startswith('---\npretty_name: "')


def test_features_have_explanations_scores_and_their_strongest_images(store, tmp_path):
    told = json.loads(export(store, "model", "neuronpedia-json", tmp_path / "features.json").path.read_text())
    with closing(RunStore(store, read_only=True)) as runs:
        units = runs.units("model-head-1")
    assert told["schema"] == "line-neurons/neuronpedia-like/1"
    for feature, unit in zip(told["features"], units, strict=True):
        (explanation,) = feature["explanations"]
        values = [one["maxValue"] for one in feature["activations"]]
        assert (feature["index"], explanation["description"]) == (str(unit.unit), unit.label)
        assert {one["explanationScoreTypeName"]: one["value"] for one in explanation["scores"]} == {
            "line_mean": unit.score, "line_auc": unit.auc, "line_mad": unit.mad,
        }  # fmt: skip
        assert values == sorted(values, reverse=True)
        assert feature["maxActApprox"] == values[0]
        assert all(one["line"]["concept"] in one["line"]["prompt"] for one in feature["activations"])


def test_facets_are_columns_of_their_unit_and_rows_of_a_table_of_their_own(store, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    found = add_facets(copy, "model-head-1", 0)
    rows = READ["jsonl"](export(copy, "model", "jsonl", tmp_path / "units").path)
    names = ("facets", "polysemanticity", "ms", "label_2", "label_3")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (1, 0.94, 0.01, "grass <b>", None), (1, 0.25, None, None, None),
    ]  # fmt: skip
    facets = READ["jsonl"](export(copy, "model", "jsonl", tmp_path / "facets", table="facets").path)
    assert [(row["unit"], row["facet"], row["label"], row["images"]) for row in facets[:3]] == [
        (0, facet.facet, facet.label, list(facet.images)) for facet in found.facets
    ]


def test_a_feature_has_an_explanation_for_each_facet_with_a_label(store, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    with closing(RunStore(copy)) as runs:
        unit = runs.units("model-head-1")[0]
        rows = [("first", 1.0), ("owl", 0.5), (None, None)]
        facets = tuple(
            Facet(unit.run, unit.unit, n, label, score, 0.9, 2.0, 0.3, ("a",), (), 0.8, "proposed", 1)
            for n, (label, score) in enumerate(rows)
        )
        put_facets(runs, [UnitFacets(unit.run, unit.unit, "", {"facets": 2}, facets)])
    told = json.loads(export(copy, "model", "neuronpedia-json", tmp_path / "features.json").path.read_text())
    first, *others = told["features"]
    assert [one["description"] for one in first["explanations"]] == [unit.label, "owl"]
    assert {one["explanationScoreTypeName"]: one["value"] for one in first["explanations"][1]["scores"]} == {
        "line_mean": 0.5, "line_auc": 0.9, "line_mad": 2.0,
    }  # fmt: skip
    assert all(len(feature["explanations"]) == 1 for feature in others)


def test_a_snapshot_sees_nothing_of_what_is_written_later(store):
    with open_snapshot(store, "model") as taken, closing(RunStore(store)) as runs:
        before = taken.units()
        runs.update_unit("model-head-1", 0, error="later")
        try:
            assert taken.units() == before
        finally:
            runs.update_unit("model-head-1", 0, error="")


def test_a_long_history_is_written_a_piece_at_a_time(tmp_path):
    steps = [Step("r-1", unit, step, 0, "iteration", "scored", "x", 1.0, reply="y" * 2000, created=1.0)
             for unit in range(300) for step in range(10)]  # fmt: skip
    recorded(tmp_path, *(Unit("", unit, unit) for unit in range(300)), steps=steps)
    del steps
    tracemalloc.start()
    try:
        export(tmp_path, "r-1", "jsonl", tmp_path / "steps.jsonl", table="steps")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "steps.jsonl").stat().st_size > 6_000_000
    assert peak < 3_000_000


def test_the_page_names_every_format_and_column():
    page = DOCS.read_text("utf-8")
    for word in (*FORMATS, *(name for table in TABLES.values() for name in table.columns)):
        assert f"`{word}`" in page
    for table in TABLES.values():
        assert table.schema in page


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    new = tmp_path / "absent" / "labels.csv", output_path(f"{tmp_path}/new/")
    for output in (tmp_path / "labels.csv", tmp_path, tmp_path / "file", *new):
        refuse_unwritable(output)
    for output in (tmp_path / "file" / "labels.csv", tmp_path / "file" / "folder" / "labels.csv"):
        with pytest.raises(UsageError, match=r"^there is no folder .*--output"):
            refuse_unwritable(output)
