"""Tables of many rows are printed row by row, and look as those of few."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from line_neurons.tui.cli import output as terminal

WORDS = st.text("abcé漢字-", max_size=12)
TEXTS = st.lists(WORDS, max_size=5).map(" ".join)
NUMBERS = st.none() | st.integers(0, 10**6) | st.floats(0, 1000)


@st.composite
def tables(draw):
    kinds = draw(st.lists(st.sampled_from([TEXTS, NUMBERS, st.just(""), TEXTS | NUMBERS]), min_size=1, max_size=9))
    headings = [draw(st.sampled_from(["unit", "its score", "second best", "a"])) for _ in kinds]
    return headings, draw(st.lists(st.tuples(*kinds), min_size=1, max_size=12)), draw(TEXTS)


def printed(table, width, many, *, terminal_there=False, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    with pytest.MonkeyPatch.context() as patched:
        console = Console(
            file=file, width=width, markup=False, highlight=False, emoji=False, force_terminal=terminal_there
        )
        patched.setattr(terminal, "out", console)
        patched.setattr(terminal, "_MANY", many)
        terminal.table(*table)
    file.seek(0)
    return file.read()


@settings(max_examples=80, deadline=None)
@given(tables(), st.sampled_from([30, 80, 160]), st.booleans())
def test_a_table_of_many_rows_looks_as_rich_prints_it(table, width, terminal_there):
    few = printed(table, width, 10**9, terminal_there=terminal_there)
    assert printed(table, width, 0, terminal_there=terminal_there) == few


def test_a_terminal_without_the_characters_of_lines_gets_others():
    table = (["unit", "label"], [(number, "dog") for number in range(3)], "a layer")
    shown = printed(table, 80, 0, encoding="ascii")
    assert shown == printed(table, 80, 10**9, encoding="ascii")
    assert "---" in shown
