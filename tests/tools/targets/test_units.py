import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.units import parse_units

NAMES = ["tench", "tabby cat", "great white shark, white shark", "crane", "black-and-tan coonhound", "crane"]


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
        ("20-10", None, "units are 0-1279"),
        ("5-1280", None, "units are 0-1279"),
        ("tabby", None, "have no names"),
        ("taby cat", NAMES, "near: tabby cat"),
        ("crane", NAMES, "names the units 3 and 5"),
        ("", None, "units are 0-1279"),
        (" , ", None, "no unit is named"),
    ],
)
def test_what_names_no_unit_is_refused_with_what_would(selector, names, said):
    with pytest.raises(UsageError, match=said):
        parse_units([selector], 1280, names)
