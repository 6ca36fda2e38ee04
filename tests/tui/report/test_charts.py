from line_neurons.tui.report.charts import SCATTER_SIDE, prediction_scatter


def test_predicted_and_measured_scores_share_an_axis():
    chart = prediction_scatter(
        [("1", "cow", 0.0, 2.0, 4.0), ("2", "ox", 4.0, 1.0, 0.0), ("S", "bull", 2.0, 0.5, 2.0)]
    )
    first, second, middle = chart.dots
    assert (first.x, first.y) == (0.0, 0.0)
    assert (second.x, second.y) == (SCATTER_SIDE, SCATTER_SIDE)
    # As predicted: on the diagonal.
    assert middle.x == SCATTER_SIDE - middle.y
    # A deviation ends at the edge of the chart.
    assert (first.ends, second.ends) == ((0.0, SCATTER_SIDE / 2), (SCATTER_SIDE * 3 / 4, SCATTER_SIDE))
    assert [tick.value for tick in chart.ticks] == [0, 1, 2, 3, 4]


def test_a_scatter_needs_two_finite_points():
    one = ("1", "cow", 0.0, 2.0, 4.0)
    assert prediction_scatter([one]) is None
    assert prediction_scatter([one, ("2", "ox", float("nan"), 1.0, 0.0)]) is None
    assert prediction_scatter([one, ("2", "ox", 1e308, 1.0, 0.0)]) is None
    assert len(prediction_scatter([one, one]).dots) == 2
