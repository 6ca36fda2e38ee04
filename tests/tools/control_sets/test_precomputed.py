import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.errors import UsageError
from line_neurons.tools.control_sets import PrecomputedControl, open_control_set

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def save(tmp_path):
    def saved(**arrays):
        np.savez(tmp_path / "control.npz", **arrays)
        return str(tmp_path / "control.npz")

    return saved


def test_activations_with_labels_come_back_under_sorted_names(save):
    control = open_control_set(save(activations=MATRIX, labels=[1, 0, -1, 1], classes=["tabby_cat", "bee"]))
    assert isinstance(control, PrecomputedControl)
    assert control.classes() == ("bee", "tabby cat")
    found = control.control(3, "layer")
    assert found.classes == control.classes()
    assert found.labels.tolist() == [0, 1, -1, 0]
    np.testing.assert_array_equal(found.activations, MATRIX)


def test_activations_without_labels_are_a_set_without_classes(save):
    control = open_control_set(save(activations=MATRIX.astype(np.float64)))
    assert control.classes() == ()
    found = control.control(3, "layer")
    assert found.labels.tolist() == [-1] * 4
    assert found.activations.dtype == np.float32


def test_a_class_without_a_image_is_left_out(save):
    control = open_control_set(save(activations=MATRIX, labels=[2, 2, 0, 0], classes=["a", "b", "c"]))
    assert control.classes() == ("a", "c")
    assert control.control(3, "layer").labels.tolist() == [1, 1, 0, 0]


def test_the_first_images_of_each_class_count_if_a_number_is_given(save):
    path = save(activations=MATRIX, labels=[1, 0, 1, 1], classes=["a", "b"])
    few = open_control_set(path, images=1)
    assert few.control(3, "layer").activations.tolist() == MATRIX[:2].tolist()
    assert few.fingerprint != open_control_set(path).fingerprint


def test_the_fingerprint_is_of_the_content(save):
    first = open_control_set(save(activations=MATRIX)).fingerprint
    assert open_control_set(save(activations=MATRIX)).fingerprint == first
    assert open_control_set(save(activations=MATRIX + 1)).fingerprint != first


def test_activations_of_another_layer_are_refused_with_both_widths(save):
    control = open_control_set(save(activations=MATRIX))
    with pytest.raises(UsageError, match=r"activations of 3 units, but 'layer4' has 512"):
        control.control(512, "layer4")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": MATRIX}, "no array 'activations'"),
        ({"activations": MATRIX[0]}, r"shape \(3,\) and type float32"),
        ({"activations": MATRIX[:0]}, r"shape \(0, 3\)"),
        ({"activations": MATRIX.astype("U3")}, "type <U3"),
        ({"activations": np.where(MATRIX == 5, np.nan, MATRIX)}, "not finite"),
        ({"activations": MATRIX.astype(np.float64) * 1e300}, "not finite"),
        ({"activations": MATRIX, "labels": [0, 0, 0, 0]}, "only one of 'labels' and 'classes'"),
        ({"activations": MATRIX, "classes": ["a"]}, "only one of 'labels' and 'classes'"),
        (
            {"activations": MATRIX, "labels": [0, 0, 0], "classes": ["a"]},
            r"shape \(3,\).* not 4 integers",
        ),
        ({"activations": MATRIX, "labels": [0.0] * 4, "classes": ["a"]}, "type float64, not 4 integers"),
        ({"activations": MATRIX, "labels": [0, 0, 1, 0], "classes": ["a"]}, "the label 1, but 1 classes"),
        ({"activations": MATRIX, "labels": [0, 0, -2, 0], "classes": ["a"]}, "the label -2, but 1 classes"),
        ({"activations": MATRIX, "labels": [0] * 4, "classes": [7]}, "not a list of names"),
        ({"activations": np.array([[object()]])}, "holds pickled objects, which are not loaded"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(save, arrays, message):
    with pytest.raises(UsageError, match=message) as refused:
        open_control_set(save(**arrays))
    assert "\n" not in str(refused.value)


def test_files_that_are_no_npz_files_are_refused(tmp_path, save):
    (tmp_path / "notes.npz").write_text("text")
    np.save(tmp_path / "single.npy", MATRIX)
    whole = (tmp_path / save(activations=np.zeros((200, 9)))).read_bytes()
    (tmp_path / "damaged.npz").write_bytes(whole[:300] + b"\xff" * 40 + whole[340:])
    for name, message in (
        ("notes.npz", "not an .npz file"),
        ("single.npy", "not an .npz file"),
        ("damaged.npz", "is damaged"),
    ):
        with pytest.raises(UsageError, match=message):
            open_control_set(str(tmp_path / name))


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.none() | st.integers(1, 4))
def test_each_row_keeps_its_class_and_no_class_has_more_images_than_asked_for(tmp_path_factory, labels, images):
    names = np.array(["d", "b", "a", "c"])
    path = tmp_path_factory.mktemp("npz") / "control.npz"
    np.savez(path, activations=np.arange(len(labels))[:, None], labels=labels, classes=names)
    found = open_control_set(str(path), images=images).control(1, "layer")
    rows = found.activations[:, 0].astype(int)
    told = ["" if label < 0 else found.classes[label] for label in found.labels]
    assert told == ["" if labels[row] < 0 else names[labels[row]] for row in rows]
    for label in set(labels):
        expected = [row for row, other in enumerate(labels) if other == label][:images]
        assert [row for row in rows if labels[row] == label] == expected
