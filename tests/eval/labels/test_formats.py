import csv
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.columns import READ_FORMATS, WRITE_FORMATS
from line_neurons.eval.labels.formats import read_labels, short_sources, write_csv
from line_neurons.eval.labels.labels import Label, Labels, labels_of_run
from line_neurons.eval.labels.names import file_stem
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore

FILES = {
    "invert": "neuron,concept,concept_id,metric\n7,lhasa,n02098413,0.9336\n3,bookshop AND NOT toyshop,n0,0.9\n",
    "clip-dissect": (
        'layer,unit,description,similarity\navgpool,7,"prayer rug, prayer mat",0.16\navgpool,3,sea,0.5\n'
    ),
    "milan": "layer,unit,description\navgpool,7,Faces of dogs\navgpool,3,Books\n",
    "prism": (
        "layer,unit,description,mean_activation,highlights\navgpool,7,Faces of dogs,2.5,[]\navgpool,3,Books,,[]\n"
    ),
    "prism-evaluated": (
        "layer,unit,explanation,AUC,U1,p,MAD\navgpool,7,Faces of dogs,0.9,1,0.1,2\navgpool,3,Books,0.5,1,1,0\n"
    ),
    "falcon": (
        "group,Unnamed: 0,concept_set_words,concept_set_noun_phrases\n"
        "7,7,\"[('brass', 0.1)]\",\"[('wessex tubas', 0.05), ('brass pipes', 0.02)]\"\n"
        "3,3,\"[('a', 0.1)]\",\"[('chiquita brands', 1)]\"\n"
    ),
    "cosy": "neuron,concept,AUC,U1,p,MAD\r\n7,lhasa,0.9,10.0,0.01,2.0\r\n3,sea,,,,\r\n",
    "describe-and-dissect": ("Neuron ID,Label 1,Label 2,Label 3\n7,red-themed scenes,cars, \n3,sea, , \n"),
    "line": (
        "run,model,layer,unit,label,score\nr-1,torchvision:resnet18,avgpool,7,dog,2.5\n"
        "r-1,torchvision:resnet18,avgpool,3,'=sum,1\nr-1,torchvision:resnet18,avgpool,4,,\n"
    ),
}
READ = {
    "invert": [(7, "lhasa", 0.9336), (3, "bookshop AND NOT toyshop", 0.9)],
    "clip-dissect": [(7, "prayer rug, prayer mat", 0.16), (3, "sea", 0.5)],
    "milan": [(7, "faces of dogs", None), (3, "books", None)],
    "prism": [(7, "Faces of dogs", 2.5), (3, "Books", None)],
    "prism-evaluated": [(7, "Faces of dogs", 0.9), (3, "Books", 0.5)],
    "falcon": [(7, "wessex tubas", 0.05), (3, "chiquita brands", 1.0)],
    "cosy": [(7, "lhasa", 0.9), (3, "sea", None)],
    "describe-and-dissect": [(7, "red-themed scenes", None), (3, "sea", None)],
    "line": [(7, "dog", 2.5), (3, "=sum", 1.0)],
}


def as_tuples(labels):
    return [(one.unit, one.concept, one.score) for one in labels.labels]


@pytest.mark.parametrize("form", READ_FORMATS)
def test_each_methods_own_file_is_told_by_its_columns(form, tmp_path):
    file = tmp_path / "resnet18-avgpool.csv"
    file.write_text(FILES[form])
    labels = read_labels(file)
    assert labels.method == form
    assert as_tuples(labels) == READ[form]
    assert labels.model.endswith("resnet18")
    assert labels.layer == "avgpool"
    assert labels.source == str(file)


def test_the_method_of_a_file_of_cosys_results_is_in_its_name(tmp_path):
    file = tmp_path / "evaluation_CLIP-Dissect_densenet161_places-features.csv"
    file.write_text(FILES["cosy"])
    labels = read_labels(file)
    assert (labels.method, labels.model, labels.layer) == ("clip-dissect", "densenet161_places", "features")


def test_the_name_of_a_file_has_the_whole_path_of_a_layer_whose_last_part_is_in_the_column(tmp_path):
    file = tmp_path / "mobilenet_v2-classifier.1.csv"
    file.write_text("layer,unit,description,similarity\n1,7,dog,0.1\n")
    assert (read_labels(file).model, read_labels(file).layer) == ("mobilenet_v2", "classifier.1")
    file.write_text("layer,unit,description,similarity\nfeatures,7,dog,0.1\n")
    assert read_labels(file).layer == "features"


@pytest.mark.parametrize(
    "name", ["clip-dissect", "invert-3", "best-word", "Describe-and-Dissect", "invert-allowed"]
)
def test_a_file_that_is_named_by_its_method_names_no_model(tmp_path, name):
    file = tmp_path / f"{name}.csv"
    file.write_text(FILES["invert"])
    assert (read_labels(file).model, read_labels(file).layer) == ("", "")


def test_a_method_may_be_called_otherwise(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(FILES["invert"])
    labels = read_labels(file, "invert-3")
    assert (labels.method, labels.model, labels.layer) == ("invert-3", "", "")


def test_of_a_file_of_several_layers_one_is_chosen_by_its_last_part(tmp_path):
    file = tmp_path / "descriptions.csv"
    file.write_text("layer,unit,description,similarity\nlayer3,0,sea,.1\nlayer4,0,dog,.2\nlayer4,0,second,.3\n")
    with pytest.raises(UsageError, match="several layers: layer3, layer4"):
        read_labels(file)
    assert as_tuples(read_labels(file, layer="features.layer4")) == [(0, "dog", 0.2)]
    with pytest.raises(UsageError, match="no label of layer 'fc'"):
        read_labels(file, layer="fc")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "columns of no method: none"),
        (b"a,b\n1,2\n", "columns of no method: a, b"),
        (b"neuron,concept,metric\n", "has no label"),
        (b"neuron,concept,metric\nseven,dog,1\n", "line 2 does not fit invert: invalid literal"),
        (b"neuron,concept,metric\n-1,dog,1\n", "-1 is no index of a unit"),
        (b"neuron,concept,metric\n99999999999,dog,1\n", "no index of a unit"),
        (b"neuron,concept,metric\n1, ,1\n", "it has no concept"),
        (b"neuron,concept,metric\n1\n", "it has no concept"),
        (b"neuron,concept,metric\n1,dog,high\n", "could not convert"),
        (b'neuron,concept,metric\n1,"dog,0.5\n2,cat,0.6\n', "line 3 is no CSV: unexpected end of data"),
        (b'neuron,concept,metric\n1,"dog,0.5\n2,"cat",0.6\n', "is no CSV"),
        (b"neuron,concept,concept,metric\n1,dog,cat,1\n", "has the column 'concept' twice"),
        (b"unit,description\n1,dog, wet\n", "line 2 has 3 cells for 2 columns"),
        (b"neuron,concept,metric\n1,\xff,1\n", "is not UTF-8 text"),
        (b"neuron,concept,metric\n1," + b"x" * 200_000 + b",1\n", "is no CSV"),
        (b"group,concept_set_noun_phrases\n1,__import__('os').system('true')\n", "does not fit falcon"),
        (b"group,concept_set_noun_phrases\n1," + b"[" * 50_000 + b"\n", "does not fit falcon"),
        (b"group,concept_set_noun_phrases\n1,{}\n", "no list of phrases"),
        (b"group,concept_set_noun_phrases\n1,[]\n", "has no label"),
        (b"group,concept_set_noun_phrases\n\"1,2\",\"[('a', 0.1)]\"\n", "has no label"),
    ],
)  # fmt: skip
def test_a_malformed_or_hostile_file_is_one_line(content, said, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_labels(file)
    assert said in str(refused.value)
    assert "\n" not in refused.value.message


PASSED_OVER = {
    "further rows of a unit": (
        "neuron,concept,metric\n7,dog,.9\n7,cat,.8\n7,wolf,.95\n3,sea,.5\n",
        [(7, "dog", 0.9), (3, "sea", 0.5)],
        ["line 3: a further row of a unit, of which the first counts",
         "line 4: a further row of a unit, of which the first counts, though this one has a higher score"],
    ),
    "rows without a concept": (
        "layer,unit,description\nfc,0,Dogs\nfc,1,\nfc,2,nan\nfc,3,Sea\n",
        [(0, "dogs", None), (3, "sea", None)],
        ["line 3 and 1 more: it has no concept"],
    ),
    "scores that are no numbers": (
        "layer,unit,description,similarity\nfc,0,dog,nan\nfc,2,sea,.5\n",
        [(0, "dog", None), (2, "sea", 0.5)],
        ["line 2: its similarity is nan and is ignored"],
    ),
    "columns that are not read": (
        "Neuron ID,Label 1,Label 2,note\n0,dog,cat,good\n",
        [(0, "dog", None)],
        ["column Label 2 and 1 more: not read"],
    ),
    "a text over several lines": (
        'neuron,concept,metric\n0,"a dog\nthat barks",.9\n', [(0, "a dog that barks", 0.9)],
        ["line 3: a text on several lines, read as one"],
    ),
    "units that may count from 1": (
        "unit,description\n1,Dog\n2,Sea\n", [(1, "dog", None), (2, "sea", None)],
        ["units 1 to 2: read as counted from 0; if they count from 1: --units-from 1"],
    ),
    "groups of units": (
        "group,concept_set_noun_phrases\n0,\"[('a b', .1)]\"\n\"1,2\",\"[('c', .1)]\"\n3,[]\n", [(0, "a b", 0.1)],
        ["line 3: of a group of units, which has no label for each of them", "line 4: it has no concept"],
    ),
    "tabs and semicolons part columns": ("unit;description\n0;Dog, wet\n", [(0, "dog, wet", None)], []),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSED_OVER)
def test_what_is_passed_over_is_counted_and_told(case, tmp_path):
    content, labels, told = PASSED_OVER[case]
    (tmp_path / "labels.csv").write_text(content)
    found = read_labels(tmp_path / "labels.csv")
    assert as_tuples(found) == labels
    assert list(found.remarks) == told


ROW = st.tuples(st.integers(0, 5), st.sampled_from(["dog", "sea", "", "nan"]))


@settings(max_examples=60)
@given(rows=st.lists(ROW, min_size=1).filter(lambda rows: any(concept in {"dog", "sea"} for _, concept in rows)))
def test_each_row_is_a_label_or_is_counted(rows, tmp_path_factory):
    file = tmp_path_factory.mktemp("labels") / "labels.csv"
    file.write_text("unit,description\n" + "".join(f"{unit},{concept}\n" for unit, concept in rows))
    found = read_labels(file, units_from=0)
    counted = (re.fullmatch(r"line \d+(?: and (\d+) more)?: .*", line) for line in found.remarks)
    assert len(found.labels) + sum(1 + int(one[1] or 0) for one in counted) == len(rows)


def test_units_that_count_from_1_are_brought_to_0(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("unit,description\n1,Dog\n2,Sea\n")
    assert as_tuples(read_labels(file, units_from=1)) == [(0, "dog", None), (1, "sea", None)]
    assert read_labels(file, units_from=1).remarks == read_labels(file, units_from=0).remarks == ()
    with pytest.raises(UsageError, match=r"may count from 0 or from 1 .*--units-from"):
        read_labels(file, ask=True)
    file.write_text("unit,description\n0,Dog\n1,Sea\n")
    with pytest.raises(UsageError, match="has a unit 0, so its units do not count from 1"):
        read_labels(file, units_from=1)


def test_layers_of_one_last_part_are_told_apart(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("layer,unit,description\nlayer3.conv1,0,Dog\nlayer4.conv1,0,Sea\n")
    found = read_labels(file, layer="layer4.conv1")
    assert (as_tuples(found), found.remarks) == ([(0, "sea", None)], ("line 2: of another layer",))


def test_more_than_a_million_rows_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("line_neurons.eval.labels.files._MAX_ROWS", 2)
    for name, content in {
        "a.csv": "unit,description\n0,a\n1,b\n2,c\n",
        "a.jsonl": '{"unit": 0, "description": "a"}\n' * 3,
        "a.json": '[{"unit": 0}, {"unit": 1}, {"unit": 2}]',
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match="more than 2 rows"):
            read_labels(tmp_path / name)


def test_a_list_of_json_objects_and_a_table_of_tabs_are_read(tmp_path):
    (tmp_path / "a.json").write_text('[{"unit": 0, "description": "Dog"}]')
    (tmp_path / "a.tsv").write_text("unit\tdescription\n0\tDog\n")
    assert as_tuples(read_labels(tmp_path / "a.json")) == as_tuples(read_labels(tmp_path / "a.tsv"))
    (tmp_path / "a.json").write_text('{"0": "dog"}')
    with pytest.raises(UsageError, match="no list of JSON objects"):
        read_labels(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_text('{"unit": 0, "description": "Dog", "description": "Cat"}')
    with pytest.raises(UsageError, match="column 'description' twice"):
        read_labels(tmp_path / "a.jsonl")


def test_concepts_of_a_file_cannot_steer_a_terminal(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("neuron,concept,metric\n1,\x1b[2Jdog\x00 \u202ecat,1\n")
    assert read_labels(file).labels[0].concept == "[2Jdog cat"


CONCEPT = st.from_regex(r"[a-z][a-z ,\"'-]{0,20}[a-z]", fullmatch=True).map(lambda text: " ".join(text.split()))
LABEL = st.builds(Label, st.integers(0, 9999), CONCEPT, st.floats(allow_nan=False, allow_infinity=False))


@settings(max_examples=60)
@given(
    labels=st.lists(LABEL, min_size=1, unique_by=lambda one: one.unit), form=st.sampled_from(sorted(WRITE_FORMATS))
)
def test_what_is_written_in_a_form_is_read_back(labels, form, tmp_path_factory):
    file = tmp_path_factory.mktemp("forms") / "resnet18-avgpool.csv"
    before = Labels("line", "torchvision:resnet18", "avgpool", tuple(labels), "run")
    write_csv(before, file, form)
    after = read_labels(file)
    assert after.layer == "avgpool"
    score = (lambda one: None) if form == "milan" else (lambda one: one.score)
    assert as_tuples(after) == [(one.unit, one.concept, score(one)) for one in labels]


def load_explanations_of_cosy(path, name, unit):
    """How CoSy's code looks a unit's explanation up."""
    unit_column, concept_column = {"INVERT": ("neuron", "concept")}.get(name, ("unit", "description"))
    rows = csv.DictReader(path.open(newline=""))
    return next(row[concept_column] for row in rows if int(row[unit_column]) == unit)


def test_the_form_cosy_is_read_by_cosys_code_under_each_methods_name(tmp_path):
    labels = Labels("line", "torchvision:resnet18", "layer4.1", (Label(3, "dog"), Label(0, "sea lion", 2.0)), "r")
    write_csv(labels, tmp_path / "r.csv", "cosy")
    for name in ("INVERT", "CLIP-Dissect", "MILAN"):
        assert load_explanations_of_cosy(tmp_path / "r.csv", name, 0) == "sea lion"
    assert file_stem(labels.model, labels.layer) == "resnet18-1"


def test_writing_fails_whole(tmp_path):
    labels = Labels("line", "m", "l", (Label(0, "dog"),), "r")
    with pytest.raises(UsageError, match="is not a form"):
        write_csv(labels, tmp_path / "x.csv", "nonsense")
    with pytest.raises(UsageError, match="is not a file"):
        write_csv(labels, tmp_path, "milan")
    assert not list(tmp_path.iterdir())


def test_a_runs_labels_are_those_of_its_finished_units(tmp_path):
    runs = RunStore(tmp_path)
    run = Run("r-1", "torchvision:resnet18", "avgpool", 0, "running", 1.0, {}, {}, {})
    runs.add_run(run, [Unit("r-1", 5, 0), Unit("r-1", 2, 1), Unit("r-1", 9, 2)])
    with pytest.raises(UsageError, match="has a label yet"):
        labels_of_run(runs, "r-1")
    runs.update_unit("r-1", 5, status="finished", label="dog", score=2.0)
    runs.update_unit("r-1", 9, status="failed", label="cat", score=1.0)
    assert labels_of_run(runs, "r") == Labels("line", run.model, "avgpool", (Label(5, "dog", 2.0),), "r-1")


def test_files_of_one_name_are_told_apart_by_their_folders():
    sources = ["all/invert/net-head.csv", "third/invert/net-head.csv", "other.csv", "run-1", "run-1"]
    assert short_sources(sources) == sources
    assert short_sources([f"/far/{one}" for one in sources[:3]]) == [*sources[:2], "other.csv"]
    assert short_sources(["/a/x/net.csv", "/b/y/net.csv"]) == ["x/net.csv", "y/net.csv"]
    assert short_sources(["net.csv", "b/net.csv"]) == ["net.csv", "b/net.csv"]


PRISM = (
    "layer,unit,description,mean_activation,highlights\r\n"
    "10,7,A company name,3.09,['Text #1:  Link (3.09)']\r\n"
    '10,7,"Events, often at night",,[]\r\n'
    "10,9,Dates,1.5e-05,[]\r\n"
)


def test_prisms_descriptions_are_facets_and_are_written_as_they_were(tmp_path):
    file = tmp_path / "descriptions.csv"
    file.write_bytes(PRISM.encode())
    labels = read_labels(file)
    assert (labels.method, labels.layer) == ("prism", "10")
    assert [(label.unit, label.facet, label.concept, label.score) for label in labels.every] == [
        (7, 0, "A company name", 3.09), (7, 1, "Events, often at night", None), (9, 0, "Dates", 1.5e-05),
    ]  # fmt: skip
    assert [label.unit for label in labels.labels] == [7, 9]
    write_csv(labels, tmp_path / "again.csv", "prism")
    assert (tmp_path / "again.csv").read_bytes() == file.read_bytes()


def test_prisms_evaluated_explanations_are_facets_with_their_auc(tmp_path):
    file = tmp_path / "evaluated.csv"
    file.write_text("layer,unit,explanation,AUC,U1,p,MAD\n0,3,Sea,.5,1,1,0\n0,3,Sky,.75,1,.1,.2\n")
    labels = read_labels(file)
    assert [(label.concept, label.score) for label in labels.every] == [("Sea", 0.5), ("Sky", 0.75)]


FACETS = "neuron,concept,metric\n7,dog,.9\n7,cat,.8\n7,dog,.9\n3,sea,.5\n"


def test_rows_of_a_unit_are_facets_where_that_is_wanted_or_the_file_says_so(tmp_path):
    plain, columned = tmp_path / "plain.csv", tmp_path / "columned.csv"
    plain.write_text(FACETS)
    assert read_labels(plain).further == ()
    both = [read_labels(plain, facets=True)]
    lines = FACETS.splitlines()
    columned.write_text("\n".join([f"{lines[0]},facet", *(f"{line},{n}" for n, line in enumerate(lines[1:]))]))
    both.append(read_labels(columned))
    for labels in both:
        assert [(label.unit, label.facet, label.concept) for label in labels.every] == [
            (7, 0, "dog"), (7, 1, "cat"), (3, 0, "sea"),
        ]  # fmt: skip
        assert any("which is one facet" in line for line in labels.remarks)
