from hypothesis import given
from hypothesis import strategies as st

from line_neurons.tools.control_sets.sampling import first_of_each


@given(st.lists(st.integers(-1, 3)), st.integers(1, 4))
def test_the_first_rows_of_each_class_and_of_none_count_in_their_order(labels, images):
    rows, kept = first_of_each(labels, images, classes=5)
    assert kept == [labels[row] for row in rows]
    assert rows == sorted(
        row for label in set(labels) for row in [at for at, other in enumerate(labels) if other == label][:images]
    )


def test_reading_stops_once_every_class_is_full_whether_or_not_images_without_one_are():
    labels = iter([-1, 0, -1, -1, 1, 1, 0, 1, 0])
    rows, _ = first_of_each(labels, 2, classes=2)
    assert rows == [0, 1, 2, 4, 5, 6]
    assert list(labels) == [1, 0]


def test_reading_stops_once_there_are_enough_images_without_a_class():
    labels = iter([-1] * 5)
    assert first_of_each(labels, 3, classes=0) == ([0, 1, 2], [-1, -1, -1])
    assert len(list(labels)) == 2
