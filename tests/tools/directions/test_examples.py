import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.tools.directions import examples
from line_neurons.tools.directions.examples import ExampleSource

ROWS = np.arange(24, dtype=np.float32).reshape(8, 3)
CONTROL = Control(("dotted", "striped"), np.array([0, 0, 1, 1, 1, -1, -1, -1]), ROWS)


def source(folders=None, control=CONTROL):
    classes = control.classes if control else None
    return ExampleSource(lambda path: folders[path.name], classes, lambda: control, 0)


def test_a_class_is_compared_with_the_rest_of_the_control_set_or_with_another_class():
    found = source().examples("Striped", None)
    assert found.name == "striped"
    np.testing.assert_array_equal(found.positive, ROWS[2:5])
    np.testing.assert_array_equal(found.negative, ROWS[[0, 1, 5, 6, 7]])
    np.testing.assert_array_equal(source().examples("striped", "dotted").negative, ROWS[:2])
    assert found.notes == ()


def test_images_of_a_folder_that_are_also_in_the_control_set_are_on_one_side_only(tmp_path):
    (tmp_path / "zebra_stripes").mkdir()
    inside = np.concatenate([ROWS[2:4], ROWS[2:3], -ROWS[1:2]])
    found = source({"zebra_stripes": inside}).examples(str(tmp_path / "zebra_stripes"), None)
    assert found.name == "zebra stripes"
    assert len(found.positive) == 3
    np.testing.assert_array_equal(found.negative, ROWS[[0, 1, 4, 5, 6, 7]])
    assert found.notes == (
        "1 images of zebra stripes occur more than once, and count once",
        "2 images of the control set are also images of zebra stripes, and are left out there",
    )


def test_of_many_images_some_are_drawn(monkeypatch):
    monkeypatch.setattr(examples, "MOST_IMAGES", 2)
    found = source().examples("striped", None)
    assert (len(found.positive), len(found.negative)) == (2, 2)
    assert found.notes[0] == "2 of the 3 images of striped are used, drawn with the seed"
    again = source().examples("striped", None)
    np.testing.assert_array_equal(found.negative, again.negative)


@pytest.mark.parametrize(
    ("of", "control", "said"),
    [
        ("stripd", CONTROL, "'stripd' is no folder of images and no class of the control set; near: striped"),
        ("striped", None, "'striped' is no folder"),
    ],
)
def test_what_is_neither_folder_nor_class_is_refused(of, control, said):
    with pytest.raises(UsageError, match=said):
        source(control=control).check([of], None)


def test_a_folder_alone_needs_something_to_compare_with(tmp_path):
    with pytest.raises(UsageError, match="no control set to compare with"):
        source(control=None).check([str(tmp_path)], None)
    source(control=None).check([str(tmp_path)], str(tmp_path))


def test_two_directions_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two directions are named 'striped'"):
        source().check(["striped", "dotted", "Striped"], None)
