"""Labels of other methods, kept in a store and evaluated by name."""

import os

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.eval.exchange.export import export
from line_neurons.eval.exchange.run_tables import WRITERS
from line_neurons.eval.labels.columns import READ_FORMATS, WRITE_FORMATS
from line_neurons.eval.labels.formats import read_labels, write_csv
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.eval.labels.library import COLUMNS, find_labels, import_labels, store_labels, stored_labels
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore
from support.command_checks import refused

LABELS = Labels(
    "invert", "torchvision:resnet18", "layer4.1", (Label(3, "=dog, wet"), Label(0, "sea lion", 2.5)), "a"
)
PEERS = {
    "falcon": "group,concept_set_noun_phrases\n3,\"[('brass pipes', 0.5)]\"\n",
    "cosy": "neuron,concept,AUC,U1,p,MAD\n3,brass pipes,0.5,1,0.1,1\n",
    "milan": "layer,unit,description\n1,3,Brass pipes\n",
    "prism": "layer,unit,description,mean_activation,highlights\n1,3,Brass  pipes,0.5,[]\n",
    "prism-evaluated": "layer,unit,explanation,AUC,U1,p,MAD\n1,3,Brass pipes,0.5,1,1,0\n",
    "describe-and-dissect": "Neuron ID,Label 1\n3,brass pipes\n",
    "invert": "neuron,concept,concept_id,metric\n3,brass pipes,,0.5\n",
    "clip-dissect": "layer,unit,description,similarity\n1,3,brass pipes,0.5\n",
    "line": "run,unit,label,score\nr,3,brass pipes,0.5\n",
}


def told(labels):
    return [(one.unit, one.concept, one.score) for one in labels.labels]


@pytest.mark.parametrize("form", READ_FORMATS)
def test_the_labels_of_every_method_are_kept_under_its_name(form, tmp_path):
    (tmp_path / "resnet18-1.csv").write_text(PEERS[form])
    done, read = import_labels(tmp_path / "store", tmp_path / "resnet18-1.csv")
    assert (done.name, done.new) == (f"{form}/resnet18-1", True)
    found = find_labels(form, tmp_path / "store")
    assert (found.method, found.model, found.layer, found.source) == (form, "resnet18", "1", done.name)
    assert told(found) == told(read)


@pytest.mark.parametrize("format_", [*WRITERS, *WRITE_FORMATS])
def test_a_run_s_labels_come_back_from_what_was_exported(format_, tmp_path):
    store, file = tmp_path / "old", tmp_path / f"resnet18-avgpool.{format_ if format_ in WRITERS else 'csv'}"
    run = Run("r-1", "torchvision:resnet18", "avgpool", 7, "finished", 1.0, {}, {}, {})
    units = [Unit("r-1", 4, 0, "finished", label="a, b", score=0.25), Unit("r-1", 5, 1, "failed", error="=x"),
             Unit("r-1", 6, 2, "finished", label="'tis", score=1.5), Unit("r-1", 7, 3)]  # fmt: skip
    RunStore(store).add_run(run, units)
    export(store, "r-1", format_, file)
    import_labels(tmp_path / "new", file, name="theirs")
    labels = stored_labels(tmp_path / "new", "theirs")
    scores = (None, None) if format_ == "milan" else (0.25, 1.5)
    assert told(labels) == [(4, "a, b", scores[0]), (6, "'tis", scores[1])]
    export(tmp_path / "new", "theirs", "cosy", tmp_path / "again.csv")
    write_csv(read_labels(file), tmp_path / "direct.csv", "cosy")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "direct.csv").read_bytes()


def test_kept_twice_nothing_changes_and_others_get_a_number(tmp_path):
    first = store_labels(tmp_path, LABELS)
    content = first.path.read_bytes()
    assert store_labels(tmp_path, LABELS) == (first.name, first.path, False)
    second = store_labels(tmp_path, _other())
    assert (first.name, second.name) == ("invert/resnet18-1", "invert-2/resnet18-1")
    assert first.path.read_bytes() == content
    assert told(stored_labels(tmp_path, "invert")) == told(LABELS)
    with pytest.raises(UsageError, match="other labels of this layer"):
        store_labels(tmp_path, _other(), "invert")


def _other():
    return Labels("invert", LABELS.model, LABELS.layer, (Label(3, "cat"),), "b")


@pytest.mark.parametrize("name", ["../x", "/x", ".hidden", "a/b", "x" * 100, "\x1b[31m", "-rf"])
def test_a_name_that_could_be_a_path_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match="cannot be the name"):
        store_labels(tmp_path / "store", LABELS, name)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["..", "../store", "invert/..", "", "/", "invert//resnet18-1", "x" * 5000])
def test_no_name_leads_out_of_the_store(name, tmp_path):
    store_labels(tmp_path / "store", LABELS)
    assert stored_labels(tmp_path / "store", name) is None


def test_of_several_of_a_name_one_has_to_be_named(tmp_path):
    store_labels(tmp_path, LABELS)
    store_labels(tmp_path, Labels("invert", "torchvision:resnet18", "fc", LABELS.labels, "a"))
    with pytest.raises(UsageError, match="name one of them: invert/resnet18-1, invert/resnet18-fc"):
        stored_labels(tmp_path, "invert")
    assert stored_labels(tmp_path, "invert/resnet18-fc").layer == "fc"


def test_the_command_says_what_it_took_in_and_refuses_the_rest(line, tmp_path):
    (tmp_path / "resnet18-fc.csv").write_text(PEERS["invert"])
    assert "invert/resnet18-fc" in line("import", "resnet18-fc.csv")[2]
    assert "nothing was changed" in line("import", "resnet18-fc.csv")[2]
    (tmp_path / "labels.csv").write_text(PEERS["invert"])
    refused(line("import", "labels.csv"), "does not name its model", "--model")
    assert "timm:x" in line("import", "labels.csv", "--model", "timm:x", "--layer", "a.b", "--as", "mine")[2]
    refused(line("import", "nothing.zip"), "there is no file")
    (tmp_path / "empty").mkdir()
    refused(line("import", "empty"), "has no labels of MAIA", "history.json")
    refused(line("import", "empty", "--units-from", "1"), "numbered by its tool")
    os.mkfifo("pipe")
    refused(line("import", "pipe"), "is a pipe", "write it to a file first")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 cut")
    refused(line("import", "cut.zip"), "cannot be imported", "truncated or no zip")
    refused(line("import", "cut.zip", "--as", "x"), "--as is for labels")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    refused(line("import", "x.parquet"), "no Parquet file")
    (tmp_path / "x.jsonl").write_bytes(b'{"run": "r"}\n[1]\n')
    refused(line("import", "x.jsonl"), "line 2 is no JSON object")
    assert not (tmp_path / "store" / "runs.db").exists()


def test_the_command_tells_what_it_passed_over_and_asks_from_what_units_count(line, tmp_path):
    file = tmp_path / "resnet18-fc.csv"
    file.write_text("neuron,concept,metric\n1,dog,.5\n1,cat,.6\n2,sea,.5\n")
    refused(line("import", "resnet18-fc.csv"), "1 to 2, which may count from 0 or from 1", "--units-from")
    _, _, said = line("import", "resnet18-fc.csv", "--units-from", "1")
    assert "resnet18-fc.csv: line 3: a further row of a unit, of which the first counts" in said
    assert told(find_labels("invert", tmp_path / "store")) == [(0, "dog", 0.5), (1, "sea", 0.5)]
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 cut")
    refused(line("import", "cut.zip", "--units-from", "0"), "--units-from is for labels")


@pytest.mark.parametrize(
    ("format_", "name"),
    [
        ("csv", "r-1.csv"),
        ("neuronpedia-json", "r-1.json"),
        ("maia-units", "r-1.json"),
        ("bundle", "r-1.zip"),
        ("cosy", "resnet18-avgpool.csv"),
    ],
)
def test_a_folder_that_is_not_there_is_made_for_the_file(format_, name, line, tmp_path):
    RunStore(tmp_path / "store").add_run(
        Run("r-1", "torchvision:resnet18", "avgpool", 7, "finished", 1.0, {}, {}, {}),
        [Unit("r-1", 4, 0, "finished", label="dog", score=1.0)],
    )
    assert line("export", "r", "--format", format_, "-o", "out/new/")[0] == 0
    assert (tmp_path / "out" / "new" / name).is_file()
    refused(line("export", "r", "--format", format_, "-o", "out/new"), "exists already", "--force")
    refused(line("export", "r", "--format", "csv", "-o", "no/such/file.csv"), "there is no folder")


def test_results_and_reports_make_a_folder_that_is_named_as_one(line, tmp_path):
    RunStore(tmp_path / "store").add_run(
        Run("r-1", "torchvision:resnet18", "avgpool", 7, "finished", 1.0, {}, {}, {}),
        [Unit("r-1", 4, 0, "finished", label="dog", score=1.0)],
    )
    assert line("results", "r", "--format", "jsonl", "-o", "rows/")[0] == 0
    assert (tmp_path / "rows" / "r-1.jsonl").is_file()
    for _ in range(2):
        assert line("report", "r", "-o", "report.html/")[0] == 0
    assert (tmp_path / "report.html" / "index.html").is_file()


def test_the_command_hands_a_run_over(line, tmp_path):
    RunStore(tmp_path / "store").add_run(
        Run("r-1", "torchvision:resnet18", "avgpool", 7, "finished", 1.0, {}, {}, {}), [Unit("r-1", 4, 0)]
    )
    status, _, said = line("export", "r", "--format", "bundle", "-o", "run.zip")
    assert (status, "run.zip" in said) == (0, True)
    refused(line("export", "r", "--format", "bundle", "-o", "run.zip"), "exists already", "--force")
    said = line("import", "run.zip", "--store", tmp_path / "new")[2]
    assert f"r-1 is here now: line show r-1 --store {tmp_path / 'new'}" in said
    assert "is here already" in line("import", "run.zip", "--store", tmp_path / "new")[2]
    status, out, _ = line("show", "r-1", "--store", tmp_path / "new")
    assert (status, "r-1" in out) == (0, True)


def test_several_labels_of_a_unit_are_kept_and_come_back(tmp_path):
    file = tmp_path / "descriptions.csv"
    file.write_text(
        "layer,unit,description,mean_activation,highlights\n"
        "0,7,Sea,1.5,\"['a', 'b']\"\n0,7,Sky,,[]\n0,9,Dog,2.0,[]\n"
    )
    kept, labels = import_labels(tmp_path / "store", file, model="torchvision:resnet18")
    found = stored_labels(tmp_path / "store", kept.name)
    assert found.every == labels.every
    assert [label.highlights for label in found.every] == ["['a', 'b']", "[]", "[]"]


def test_a_file_of_one_label_a_unit_has_the_columns_of_earlier_versions(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("neuron,concept,metric\n7,dog,.9\n")
    kept, _ = import_labels(tmp_path / "store", file, model="torchvision:resnet18", layer="fc")
    assert kept.path.read_text().splitlines()[0] == ",".join(COLUMNS)
