"""Modules that notebooks of the last release import."""

from line_neurons.eval import comparison, histories
from line_neurons.eval.reports import histories as present
from line_neurons.eval.reports.run_comparison import comparison as compare


def test_former_places_of_the_reports_have_what_notebooks_import():
    assert comparison.comparison is compare
    assert (histories.histories, histories.history) == (present.histories, present.history)
    assert (histories.History, histories.Search) == (present.History, present.UnitSearch)
