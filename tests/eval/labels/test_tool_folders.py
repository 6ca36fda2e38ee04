"""Results of MAIA, OpenMAIA and DEXTER as labels, and what strangers may put into them."""

import json
import tracemalloc

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels import maia
from line_neurons.eval.labels.dexter import dexter_runs, read_dexter
from line_neurons.eval.labels.library import find_labels, import_labels
from line_neurons.eval.labels.maia import maia_units, read_maia

LAST = """\
Some reasoning with a "quote" \\ and a backslash.
[DESCRIPTION]: Dogs that run
over grass.
[LABEL 1]: dogs running on grass
[LABEL 2]: the texture of grass
"""
RUN = "291_20250101-120000-0123abcd"


def history(last=LAST, image="data:image/png;base64,AAAA"):
    return [
        {"role": "system", "content": [{"type": "text", "text": "[LABEL 1]: of an example"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]},
        {"role": "assistant", "content": [{"type": "text", "text": last}]},
    ]


def put(folder, unit="7", place="claude/resnet152/layer4", **files):
    path = folder / place / unit
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        ending = "json" if name == "history" else "txt"
        text = content if isinstance(content, str) else json.dumps(content)
        (path / f"{name}.{ending}").write_text(text)
    return path


@pytest.mark.parametrize("below", ["", "claude", "claude/resnet152", "claude/resnet152/layer4"])
def test_labels_of_maia_are_facets_and_the_description_is_kept(tmp_path, below):
    put(tmp_path, history=history())
    put(tmp_path, "12", description="Wheels of cars.\n", label="wheels\n")
    labels = read_maia(tmp_path / below)
    assert (labels.method, labels.model, labels.layer) == ("maia", "resnet152", "layer4")
    assert [(one.unit, one.facet, one.concept) for one in labels.every] == [
        (7, 0, "dogs running on grass"), (7, 1, "the texture of grass"), (12, 0, "wheels"),
    ]  # fmt: skip
    assert labels.labels[0].text == "Dogs that run over grass."
    assert labels.labels[1].text == "Wheels of cars."


def test_an_agent_may_have_a_slash_in_its_name(tmp_path):
    put(tmp_path, place="local-google/gemma-3-27b-it/clip-RN50/layer4", history=history())
    assert read_maia(tmp_path).model == "clip-RN50"


def test_several_layers_are_told_apart(tmp_path):
    put(tmp_path, history=history())
    put(tmp_path, place="claude/resnet152/layer3", history=history())
    with pytest.raises(UsageError, match="claude/resnet152/layer3, claude/resnet152/layer4"):
        read_maia(tmp_path)
    assert read_maia(tmp_path, layer="layer3").layer == "layer3"
    with pytest.raises(UsageError, match="no labels of MAIA of layer 'layer2'"):
        read_maia(tmp_path, layer="layer2")


def test_units_without_labels_and_folders_without_numbers_are_remarked(tmp_path):
    put(tmp_path, history=history())
    put(tmp_path, "8", history=history("I give up."))
    put(tmp_path, "unit 9", label="x")
    remarks = " ".join(read_maia(tmp_path).remarks)
    assert "unit 8: without a label" in remarks
    assert "unit 9: a folder without the number of a unit" in remarks


def test_images_in_a_history_are_passed_over_while_it_is_read(tmp_path):
    put(tmp_path, history=history(image="A" * (24 << 20)))
    tracemalloc.start()
    labels = read_maia(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.labels[0].concept == "dogs running on grass"
    assert peak < 8 << 20


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_parts_of_any_size_are_put_together_again(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(maia, "_CHUNK", chunk)
    monkeypatch.setattr(maia, "_LONG", 400)
    content = history(image='\\"' * 300)
    path = put(tmp_path, history=content)
    with (path / "history.json").open("rb") as file:
        read = json.loads(maia._without_images(file, path))
    content[1]["content"][0]["image_url"]["url"] = ""
    assert read == content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no JSON of a dialogue"),
        ('[{"role": "a", "content": "x', "is no JSON of a dialogue"),
        ("[" * 100_000, "is no JSON of a dialogue"),
        ("{}", "is no list of messages"),
        ("[]", "is no list of messages"),
        ('[{"content": 7}]', "is no list of messages"),
        ("\x00", "is no JSON of a dialogue"),
    ],
)
def test_a_broken_history_is_one_line_with_its_name(tmp_path, content, said):
    put(tmp_path, history=content)
    with pytest.raises(UsageError, match=rf"history\.json {said}") as caught:
        read_maia(tmp_path)
    assert "\n" not in str(caught.value)


def test_limits_of_size_are_told(tmp_path, monkeypatch):
    path = put(tmp_path, history=history())
    monkeypatch.setattr(maia, "_MAX_BYTES", 100)
    with pytest.raises(UsageError, match="has more than 0 MB"):
        read_maia(tmp_path)
    monkeypatch.setattr(maia, "_MAX_BYTES", 1 << 28)
    monkeypatch.setattr(maia, "_MAX_TEXT", 100)
    with pytest.raises(UsageError, match="without its images"):
        read_maia(tmp_path)
    (path / "history.json").unlink()
    (path / "label.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"label\.txt is not UTF-8"):
        read_maia(tmp_path)


def test_control_characters_and_long_texts_of_labels_are_cleaned(tmp_path):
    put(tmp_path, history=history(f"[LABEL 1]: red\x1b[31m {'x' * 9000}\n[LABEL 2]:    \n"))
    (label,) = read_maia(tmp_path).every
    assert "\x1b" not in label.concept
    assert len(label.concept) <= 300


def test_links_that_lead_back_end(tmp_path):
    path = put(tmp_path, history=history())
    (path.parent / "loop").symlink_to(tmp_path)
    assert [one.unit for one in maia_units(tmp_path)] == [7]


def dexter(folder, name=RUN, **files):
    path = folder / name
    (path / "frames").mkdir(parents=True)
    for file, text in files.items():
        (path / f"{file}.{'json' if file == 'args' else 'txt'}").write_text(text)
    return path


def test_words_of_dexter_are_those_it_ended_with(tmp_path):
    dexter(tmp_path, args='{"class_to_activate": 291, "classifier": "robust50"}',
           pred_words="('cat', 'b', 'c')\n('lion', 'mane', 'lion', 'sun')\n")  # fmt: skip
    dexter(tmp_path, "340_20250101-120000-0123abce", best_words="horse;0.2;3\nzebra;0.9;8\nnan\n", words="pony\n")
    dexter(tmp_path, "7_20250101-120000-0123abcf", words="cock\nrooster\n")
    dexter(tmp_path, "8_20250101-120000-0123abcf")
    labels = read_dexter(tmp_path)
    assert [(one.unit, one.facet, one.concept) for one in labels.every] == [
        (291, 0, "lion"), (291, 1, "mane"), (291, 2, "sun"), (340, 0, "zebra"), (7, 0, "rooster"),
    ]  # fmt: skip
    assert dexter_runs(tmp_path / RUN)[0].classifier == "robust50"
    assert "8_20250101-120000-0123abcf: a run without words" in " ".join(labels.remarks)


@pytest.mark.parametrize(
    "line", ["(" * 5000, "__import__('os').system('x')", "(1, 2)", "('a',", "('a', " + "'b', " * 2000 + ")"]
)
def test_words_that_are_no_tuple_are_passed_over(tmp_path, line):
    dexter(tmp_path, pred_words=f"('lion', 'mane')\n{line}\n")
    assert read_dexter(tmp_path).labels[0].concept == "lion"


@pytest.mark.parametrize("settings", ["[1]", '{"class_to_activate": -4}', '{"class_to_activate": "x"}'])
def test_settings_of_another_form_leave_the_name_of_the_run(tmp_path, settings):
    dexter(tmp_path, args=settings, words="lion")
    assert dexter_runs(tmp_path)[0].unit == 291


def test_settings_that_are_no_json_are_named(tmp_path):
    dexter(tmp_path, args="{", words="lion")
    with pytest.raises(UsageError, match=r"args\.json is no JSON"):
        read_dexter(tmp_path)


def test_a_folder_is_imported_and_found_again(tmp_path):
    put(tmp_path / "results", history=history())
    kept, _ = import_labels(tmp_path / "store", tmp_path / "results")
    assert kept.name == "maia/resnet152-layer4"
    again = find_labels("maia", tmp_path / "store", facets=True)
    assert [one.concept for one in again.every] == ["dogs running on grass", "the texture of grass"]
    assert again.labels[0].text == "Dogs that run over grass."
    straight = find_labels(f"theirs={tmp_path}/results", tmp_path / "store")
    assert (straight.method, len(straight.every)) == ("theirs", 2)
    with pytest.raises(UsageError, match="does not name its model"):
        dexter(tmp_path / "out", words="lion")
        import_labels(tmp_path / "store", tmp_path / "out")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"has no labels of MAIA.*MODEL/LAYER/UNIT/history\.json"):
        find_labels(f"{tmp_path}/", tmp_path)
