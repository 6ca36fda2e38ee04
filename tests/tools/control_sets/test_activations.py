import threading
import time
from io import BytesIO
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.ports import Control
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.cache.reader import control_path
from line_neurons.tools.control_sets import control_activations, open_control_set

BOTH = ("positive", "negative")


@pytest.fixture
def many(tmp_path, paint):
    """Three chunks of images, the middle one with a file that is no image."""
    root = tmp_path / "many"
    for name in ("bee", "owl", "tabby cat"):
        for number in range(50):
            paint(root / name / f"{number:02}.png", (number, 5, 9))
    (root / "owl" / "20.png").write_text("text")
    return str(root)


def stopping_after(chunks):
    calls = count()

    def progress(done, total):
        # The first call is before any chunk.
        if next(calls) == chunks:
            raise KeyboardInterrupt

    return progress


def same(one, other):
    assert (one.classes, one.skipped) == (other.classes, other.skipped)
    assert one.labels.tolist() == other.labels.tolist()
    assert one.activations.tobytes() == other.activations.tobytes()


def test_there_is_a_row_for_each_image_and_it_is_computed_once(bank, new_target, folder):
    target, seen = new_target(), []
    control = open_control_set(str(folder))
    found = control_activations(bank, target, ["layer"], control, lambda *told: seen.append(told))["layer"]
    assert found.classes == ("bee", "owl", "tabby cat")
    assert found.labels.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert found.activations[4:, 0].tolist() == [0, 1, 2]
    assert found.activations.dtype == np.float32
    assert seen == [(0, 7), (7, 7)]
    again = control_activations(Cache(bank.root), target, ["layer"], open_control_set(str(folder)))
    same(again["layer"], found)
    assert target.calls == [(7, ("layer",))]
    assert len(list((bank.root / "controls").iterdir())) == 1


def test_several_layers_take_one_pass(bank, new_target, many):
    target = new_target()
    found = control_activations(bank, target, BOTH, open_control_set(many))
    assert list(found) == list(BOTH)
    assert target.calls == [(64, BOTH), (63, BOTH), (22, BOTH)]
    assert (found["negative"].activations == -found["positive"].activations).all()


def test_a_layer_that_is_kept_is_not_computed_again_with_another(bank, new_target, many):
    control_activations(bank, new_target(), ["positive"], open_control_set(many))
    target = new_target()
    found = control_activations(bank, target, BOTH, open_control_set(many))
    assert [layers for _, layers in target.calls] == [("negative",)] * 3
    assert (found["negative"].activations == -found["positive"].activations).all()


@pytest.mark.parametrize("done", [1, 2, 3])
def test_work_that_was_cut_off_goes_on_where_it_stopped_and_ends_the_same(bank, new_target, many, tmp_path, done):
    with pytest.raises(KeyboardInterrupt):
        control_activations(bank, new_target(), BOTH, open_control_set(many), stopping_after(done))
    target, seen = new_target(), []
    resumed = control_activations(
        Cache(bank.root), target, BOTH, open_control_set(many), lambda *told: seen.append(told)
    )
    assert [count for count, _ in target.calls] == [64, 63, 22][done:]
    assert seen == [(0, 150), (64, 150), (127, 150), (149, 150), (150, 150)]
    whole = control_activations(Cache(tmp_path / "other"), new_target(), BOTH, open_control_set(many))
    for layer in BOTH:
        same(resumed[layer], whole[layer])
    assert resumed["positive"].skipped == ("owl/20.png: not an image",)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_two_that_work_on_the_same_end_the_same_and_leave_no_parts_behind(bank, new_target, many, chunk):
    results, calls = [], count()

    def other(done, total):
        # The first call is before any chunk.
        if next(calls) == chunk:
            bank_of_other = Cache(bank.root)
            results.append(control_activations(bank_of_other, new_target(), ["layer"], open_control_set(many)))

    results.append(control_activations(bank, new_target(), ["layer"], open_control_set(many), other))
    same(results[0]["layer"], results[1]["layer"])
    assert len(list((bank.root / "controls").iterdir())) == 1


@pytest.mark.parametrize("place", ["before the chunks go", "amid their files", "before their rows go"])
def test_what_a_kill_amid_joining_left_goes_when_the_activations_are_next_used(bank, new_target, many, place):
    whole = control_activations(bank, new_target(), ["layer"], open_control_set(many))
    (key,) = bank.control_keys("")
    part = Control((), np.array([0]), np.ones((1, 2), np.float32))
    chunks = [f"{key}\nchunk {number}" for number in range(3)]
    for chunk in chunks:
        bank.put_control(chunk, part)
    gone = {"before the chunks go": [], "amid their files": chunks[:2], "before their rows go": chunks}[place]
    for chunk in gone:
        control_path(bank.root, chunk).unlink()

    again = control_activations(Cache(bank.root), new_target(), ["layer"], open_control_set(many))

    same(whole["layer"], again["layer"])
    assert Cache(bank.root).control_keys("") == [key]
    assert [file.name for file in (bank.root / "controls").iterdir()] == [control_path(bank.root, key).name]


def test_only_the_chunks_that_a_layer_lacks_are_read(bank, new_target, listed, encoded):
    chunks = [((encoded((number, 0, 0)),), (-1,), ()) for number in range(5)]
    with pytest.raises(KeyboardInterrupt):
        control_activations(bank, new_target(), BOTH, listed(chunks), stopping_after(5))
    files = sorted((bank.root / "controls").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    # Two files a chunk: the second chunk's first layer, and both layers of the fourth.
    for number in (2, 6, 7):
        files[number].write_bytes(b"damaged")
    control, target = listed(chunks), new_target()
    found = control_activations(Cache(bank.root), target, BOTH, control)
    assert control.read == [1, 3]
    assert target.calls == [(1, ("positive",)), (1, BOTH)]
    assert found["positive"].activations[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert found["negative"].activations[:, 0].tolist() == [0, -1, -2, -3, -4]


def test_one_chunk_of_images_is_alive_beside_the_next(bank, new_target, listed, encoded):
    control = listed([((encoded((number, 0, 0)),), (-1,), ()) for number in range(6)])
    control_activations(bank, new_target(), ["layer"], control)
    assert len(control.read) == 6
    assert control.most_alive <= 1


def test_the_next_chunk_is_read_while_one_is_measured(bank, new_target, listed, encoded):
    chunks = [((encoded((number, 0, 0)),), (-1,), ()) for number in range(4)]
    control = listed(chunks, total=4)
    target = new_target()
    measure = target.activate

    def slowly(images, layers, progress=None):
        following = min(len(target.calls) + 2, 4)
        until = time.monotonic() + 30
        while len(control.read) < following and time.monotonic() < until:
            time.sleep(0.001)
        # One ahead, and no more.
        assert len(control.read) == following
        return measure(images, layers, progress)

    target.activate = slowly
    found = control_activations(bank, target, ["layer"], control)
    assert found["layer"].activations[:, 0].tolist() == [0, 1, 2, 3]


def test_as_many_chunks_are_measured_at_a_time_as_there_are_workers(bank, new_target, listed, encoded):
    chunks = [((encoded((number, 0, 0)),), (-1,), ()) for number in range(7)]
    target, seen = new_target(), []
    measure, together = target.activate, threading.Barrier(2, timeout=30)

    def beside_another(images, layers, progress=None):
        if np.asarray(Image.open(BytesIO(images[0])))[0, 0, 0] < 6:
            together.wait()
        return measure(images, layers, progress)

    target.activate, target.parallel = beside_another, 2
    found = control_activations(bank, target, ["layer"], listed(chunks, total=7), lambda *told: seen.append(told))
    assert found["layer"].activations[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert seen == [(number, 7) for number in range(8)]


def test_what_fails_while_it_is_read_ahead_fails_in_its_place_and_keeps_what_came_before(
    bank, new_target, listed, encoded
):
    class Broken(type(listed([]))):
        def chunks(self, start=0):
            for number, chunk in enumerate(super().chunks(start), start):
                if number == 2:
                    raise BackendError("the images could not be downloaded")
                yield chunk

    control = Broken([((encoded((number, 0, 0)),), (-1,), ()) for number in range(4)])
    with pytest.raises(BackendError, match="downloaded"):
        control_activations(bank, new_target(), ["layer"], control)
    assert len(bank.control_keys("")) == 2


def test_a_set_of_unknown_length_is_read_to_its_end(bank, new_target, listed, encoded):
    control, seen = listed([((encoded((9, 0, 0)),), (-1,), ())] * 3, total=None), []
    found = control_activations(bank, new_target(), ["layer"], control, lambda *told: seen.append(told))
    assert len(found["layer"].labels) == 3
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 3)]


def test_images_without_classes_have_no_label(bank, new_target, tmp_path, paint):
    for number in range(3):
        paint(tmp_path / "flat" / f"{number}.png", (number, 0, 0))
    control = open_control_set(str(tmp_path / "flat"))
    found = control_activations(bank, new_target(), ["layer"], control)["layer"]
    assert (found.classes, found.labels.tolist()) == ((), [-1, -1, -1])
    assert found.activations[:, 0].tolist() == [0, 1, 2]


def test_a_class_without_a_readable_image_is_left_out(bank, new_target, folder):
    (folder / "owl" / "a.webp").write_text("text")
    found = control_activations(bank, new_target(), ["layer"], open_control_set(str(folder)))["layer"]
    assert found.classes == ("bee", "tabby cat")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_chunk_without_a_readable_image_takes_no_forward_pass(bank, new_target, listed, encoded):
    image = encoded((7, 0, 0))
    control = listed([((), (), ("a: broken",)), ((image,), (0,), ())], ("bee",), total=2)
    target = new_target()
    found = control_activations(bank, target, ["layer"], control)["layer"]
    assert target.calls == [(1, ("layer",))]
    assert (found.classes, found.skipped, found.activations.shape) == (("bee",), ("a: broken",), (1, 3))


def test_a_set_without_any_readable_image_is_refused(bank, new_target, tmp_path):
    (tmp_path / "control" / "owl").mkdir(parents=True)
    (tmp_path / "control" / "owl" / "a.png").write_text("text")
    with pytest.raises(UsageError, match=r"can be read; the first is owl/a\.png: not an image"):
        control_activations(bank, new_target(), ["layer"], open_control_set(str(tmp_path / "control")))


@given(data=st.data(), colours=st.lists(st.integers(0, 255), min_size=1, max_size=9))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_how_images_are_cut_into_chunks_and_interrupted_never_changes_the_matrix(
    tmp_path_factory, new_target, listed, encoded, data, colours
):
    images = [encoded((colour, 1, 2)) for colour in colours]
    labels = [colour % 3 - 1 for colour in colours]
    cuts = data.draw(st.sets(st.integers(1, len(colours))))
    bounds = [0, *sorted(cuts - {len(colours)}), len(colours)]
    chunks = [(tuple(images[first:end]), tuple(labels[first:end]), ()) for first, end in pairwise(bounds)]
    bank = Cache(tmp_path_factory.mktemp("store"))
    for stop in data.draw(st.lists(st.integers(1, len(chunks)), max_size=2)):
        with pytest.raises(KeyboardInterrupt):
            control_activations(bank, new_target(), ["layer"], listed(chunks, ("a", "b")), stopping_after(stop))
    found = control_activations(bank, new_target(), ["layer"], listed(chunks, ("a", "b")))["layer"]
    assert found.activations[:, 0].tolist() == colours
    assert ["" if label < 0 else found.classes[label] for label in found.labels] == [
        {-1: "", 0: "a", 1: "b"}[label] for label in labels
    ]
