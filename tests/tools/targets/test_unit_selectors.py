import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets import unit_selectors as units

NAMES = ["tench", "tabby cat", "great white shark, white shark", "crane", "black-and-tan coonhound", "crane"]


def parse_units(selectors, n_units, names=None, seed=0, layer="avgpool"):
    return units.parse_units(selectors, n_units, names, seed=seed, layer=layer)


@given(st.lists(st.integers(0, 99), min_size=1))
def test_numbers_come_back_in_order_each_once(units):
    assert parse_units([str(unit) for unit in units], 100) == list(dict.fromkeys(units))


@given(st.integers(0, 99), st.integers(0, 99))
def test_a_range_includes_both_ends(a, b):
    first, last = sorted((a, b))
    assert parse_units([f"{first}-{last}"], 100) == list(range(first, last + 1))


@given(st.lists(st.integers(0, 99), min_size=1))
def test_a_list_with_commas_is_the_same_as_separate_selectors(units):
    texts = [str(unit) for unit in units]
    assert parse_units([",".join(texts)], 100) == parse_units(texts, 100)


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        (["Tabby Cat"], [1]),
        (["great white shark, white shark"], [2]),
        (["tench, tabby cat"], [0, 1]),
        (["black-and-tan coonhound", "4"], [4]),
        (["all"], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_class_names_are_read_in_any_case_and_with_commas(selectors, expected):
    assert parse_units(selectors, len(NAMES), NAMES) == expected


@pytest.mark.parametrize(
    ("selector", "names", "said"),
    [
        ("1280", None, "units are 0-1279"),
        ("-1", None, "units are 0-1279"),
        ("20-10", None, "runs backwards .write 10-20"),
        ("5-1280", None, "units are 0-1279"),
        ("tabby", None, "have no names"),
        ("taby cat", NAMES, "near: tabby cat"),
        (
            "purple",
            ["purse", "nipple", "pole"],
            "named .purple.; near: purse .units are named purse",
        ),
        ("shark", NAMES, "near: great white shark, white shark"),
        ("xyz", NAMES, "named 'xyz' .units are named tench, tabby cat, great white shark, white shark, crane"),
        ("crane", NAMES, "names the units 3 and 5"),
        ("", None, "units are 0-1279"),
        (" , ", None, "no unit is named"),
        ("9" * 5000, None, "units are 0-1279"),
        ("random:1281", None, "layer avgpool has 1 to 1280"),
        ("random:0", None, "layer avgpool has 1 to 1280"),
        ("random:some", None, "'random:some' does not say how many"),
        ("random:-3", None, "layer avgpool has 1 to 1280"),
        ("random:" + "9" * 5000, None, "layer avgpool has 1 to 1280"),
    ],
)
def test_what_names_no_unit_is_refused_with_what_would(selector, names, said):
    with pytest.raises(UsageError, match=said):
        parse_units([selector], 1280, names)


@given(st.integers(1, 60), st.integers(0, 2**31 - 1))
def test_random_units_are_the_seeds_own_sample_in_its_order(count, seed):
    expected = random.Random(seed).sample(range(60), count)
    assert parse_units([f"random:{count}"], 60, seed=seed) == expected


@pytest.mark.parametrize(
    ("n_units", "first"),
    [(512, [114, 25, 281, 250]), (2048, [456, 102, 1126, 1003]), (768, [654, 114, 25, 759])],
)
def test_cosy_is_the_benchmarks_choice_whatever_the_seed(n_units, first):
    chosen = parse_units(["cosy"], n_units, seed=7)
    assert (chosen[:4], len(chosen)) == (first, 50)


def test_cosy_takes_all_units_of_a_smaller_layer():
    assert sorted(parse_units(["cosy"], 20)) == list(range(20))


def test_a_class_that_is_called_like_a_selector_is_the_class():
    assert parse_units(["cosy"], 2, ["tench", "cosy"]) == [1]


def test_selectors_are_mixed_and_each_unit_is_taken_once():
    assert parse_units(["3,random:5", "3-4"], 5, seed=1) == [
        3,
        *(u for u in random.Random(1).sample(range(5), 5) if u != 3),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "4\n\n1\n2\n",
        "\ufeff4\r\n1-2\r\n",
        "unit\n4\n1\n2\n",
        "neuron,concept\n4,a\n1,b\n2,c\n",
        'Concept, Unit\n"a\nb",4\n\n"c, d",1\ne,2\n',
        "layer,unit\navgpool,4\nlayer4,0\navgpool,1\navgpool,2\n",
        '{"layer4": [0], "avgpool": [4, 1, 2]}',
        '\n{"avgpool":\n ["4", "1-2"]}',
    ],
)
def test_a_file_names_units_as_a_list_or_in_a_column(tmp_path, text):
    file = tmp_path / "units, mine.csv"
    file.write_text(text, encoding="utf-8", newline="")
    assert parse_units([f"@{file}"], 5) == [4, 1, 2]


def test_a_file_and_other_selectors_are_told_apart_by_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "units.txt").write_text("4\n")
    assert parse_units(["@units.txt,0"], 5) == [4, 0]


def test_a_file_names_output_classes(tmp_path):
    (tmp_path / "units.txt").write_text("Tabby Cat\ngreat white shark, white shark\n")
    assert parse_units([f"@{tmp_path / 'units.txt'}"], len(NAMES), NAMES) == [1, 2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "names no unit"),
        (b"\n \n", "names no unit"),
        (b"unit\n", "names no unit"),
        (b"4\nnine\n", "line 2: unit 'nine' is not a number"),
        (b"4\n5\n", "line 2: unit 5 is not one"),
        (b"4\n@units.csv\n", "line 2: unit '@units.csv' is not a number"),
        (b"layer,unit\navgpool,1\navgpool\n", "line 3 has no unit"),
        (b"layer,unit\nlayer4,1\nlayer3,1\n", "no unit of layer avgpool .its layers: layer4, layer3"),
        (b'{"avgpool": [4, 5]}', "csv: unit 5 is not one"),
        (b'{"layer4": [1], "layer3": [1]}', "no unit of layer avgpool .its layers: layer4, layer3"),
        (b'{"avgpool": []}', "names no unit of layer avgpool"),
        (b'{"avgpool": 4}', "has no list of units for 'avgpool'"),
        (b'{"avgpool": [true]}', "has no list of units for 'avgpool'"),
        (b'{"avgpool": [4]', "is no JSON"),
        (b"4\n\xff\n", "not UTF-8"),
        (b"a," + b"x" * 200_000, "line 1 is no CSV"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_names_no_unit_is_refused_with_its_line(tmp_path, content, said):
    file = tmp_path / "units.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        parse_units([f"@{file}"], 5)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_folder_is_no_file_of_units(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        parse_units([f"@{tmp_path}"], 5)


class Responses:
    density = np.array([0.0, 0.002, 0.05, 0.5, 1.0])
    maximum = np.array([0, 3, 9, 1, 5], np.float32)
    alive = np.array([False, True, True, True, True])


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("alive", [1, 2, 3, 4]),
        ("density:.001-.1", [1, 2]),
        ("density:0-0", [0]),
        ("strongest:2", [2, 4]),
        ("0,alive", [0, 1, 2, 3, 4]),
    ],
)
def test_units_are_selected_by_how_they_respond(selector, expected):
    assert units.parse_units([selector], 5, seed=0, layer="l", statistics=Responses) == expected


def test_some_of_the_units_that_respond_are_drawn_with_the_seed():
    def drawn(seed):
        return units.parse_units(["alive:random:2"], 5, seed=seed, layer="l", statistics=Responses)

    assert len(set(drawn(0))) == 2
    assert drawn(0) == drawn(0)
    assert {tuple(drawn(seed)) for seed in range(20)} != {tuple(drawn(0))}
    assert 0 not in {unit for seed in range(20) for unit in drawn(seed)}


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("alive:random:9", "'alive:random:9' does not say how many.*1 to 4"),
        ("strongest:0", "does not say how many"),
        ("density:.1-.01", "runs backwards.*density:.01-.1"),
        ("density:2-3", "names no share"),
        ("density:.7-.8", "fits none of the 5 units"),
    ],
)
def test_a_selector_of_responses_that_fits_nothing_is_refused(selector, said):
    with pytest.raises(UsageError, match=said):
        units.parse_units([selector], 5, seed=0, layer="l", statistics=Responses)
    with pytest.raises(UsageError, match="needs a control set"):
        parse_units([selector], 5)
