"""The columns of a table of units, for any width and any scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from line_neurons.tui.app.units.columns import SORTABLE, RowContext, fit_columns, fit_text, sort_lines, sparkline
from line_neurons.tui.app.units.model import UnitLine
from line_neurons.tui.formatting import bar, fit_middle

scores = st.none() | st.floats(-1e6, 1e6)


def line(unit, score):
    return UnitLine(unit, "", "", score, None, None, None, "", "", None, None, "finished", "", "", "")


@given(st.integers(40, 400), st.booleans())
def test_columns_fit_the_width_and_begin_with_the_unit(width, named):
    columns = fit_columns(width, named=named)
    assert sum(cells + 1 for _, cells in columns) <= width
    assert [column.key for column, _ in columns][:2] == (
        ["unit", "name"] if named and width >= 74 else ["unit", "label"]
    )


@given(st.lists(scores), st.booleans())
def test_sorting_keeps_every_unit_and_puts_those_without_a_value_last(values, descending):
    by_score = next(column for column in SORTABLE if column.key == "score")
    lines = [line(unit, score) for unit, score in enumerate(values)]
    result = sort_lines(lines, by_score, descending=descending)
    assert sorted(one.unit for one in result) == list(range(len(values)))
    known = [value for value in values if value is not None]
    assert [one.score for one in result] == sorted(known, reverse=descending) + [None] * (len(values) - len(known))


@given(st.floats(-10, 1e9), st.floats(0, 1e9), st.integers(3, 40))
def test_a_bar_is_as_wide_as_its_cell(value, top, width):
    assert len(bar(value, 0, top, width).ljust(width)) == width


@given(st.floats(-10, 10), st.floats(-10, -0.1), st.floats(0, 10), st.integers(4, 40))
def test_bars_of_scores_of_both_signs_start_at_one_axis(value, low, high, width):
    value = min(max(value, low), high)
    drawn = bar(value, low, high, width)
    assert len(drawn) <= width
    assert drawn.index("│") == bar(0, low, high, width).index("│")
    assert not (value >= 0 and drawn.partition("│")[0].strip())
    assert not (value < 0 and drawn.partition("│")[2])


def test_a_bar_is_in_proportion_to_its_score():
    assert [len(bar(score, 10, 12, 12)) for score in (12, 6, 3)] == [12, 6, 3]
    assert bar(-2, -4, 4, 9) == "  ██│"


@given(st.text("ab狐", max_size=30), st.integers(1, 20))
def test_a_name_is_shortened_in_its_middle(text, width):
    shown = fit_middle(text, width)
    assert cell_len(shown) <= width
    assert (shown == text) == (cell_len(text) <= width)


def test_a_shortened_name_has_both_ends():
    assert fit_middle("torchvision:mobilenet_v2", 15) == "torchv…lenet_v2"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60).map(sorted), st.integers(1, 14))
def test_a_trend_that_rises_never_falls(values, width):
    drawn = sparkline(values, width)
    assert len(drawn) == min(len(values), width)
    assert list(drawn) == sorted(drawn)


@pytest.mark.parametrize(("text", "shown"), [("fox", "fox  "), ("foxes and", "foxe…"), ("狐狐狐", "狐狐…")])
def test_text_is_cut_by_cells_with_a_sign(text, shown):
    assert fit_text(text, 5) == shown


@given(
    st.integers(40, 400), st.text("fox 狐", max_size=40), st.sampled_from(["", "dead", "not above chance, tied"])
)
def test_every_cell_of_several_pieces_fills_its_column(width, label, marks):
    unit = line(1, 2.5)._replace(label=label, marks=marks)
    for column, cells in fit_columns(width, named=True):
        pieces = column.cell(unit, RowContext(None, (1.0, 2.5), (-1.0, 5.0)), cells)
        if len(pieces) > 1:
            assert sum(cell_len(piece.text) for piece in pieces) == cells
