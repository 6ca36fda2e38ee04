"""The image bank as a control set."""

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.tools.image_bank.control import BankControl


def test_classes_are_sorted_and_each_has_m_different_images(bank):
    control = BankControl(bank, ["dog", "cat"], m=3, size=48)
    assert control.classes() == ("cat", "dog")
    for name in control.classes():
        assert len(set(control.images(name))) == 3


def test_images_are_the_same_every_time_and_whatever_else_is_in_the_set(bank):
    alone = BankControl(bank, ["dog"], m=2, size=48).images("dog")
    assert BankControl(bank, ["cat", "dog"], m=2, size=48).images("dog") == alone


def test_chunks_hold_the_images_class_by_class(bank):
    control = BankControl(bank, ["dog", "cat", "ball"], m=3, size=48)
    assert control.total == 1
    (chunk,) = control.chunks()
    assert chunk.labels == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert chunk.images == tuple(png for name in ("ball", "cat", "dog") for png in control.images(name))


@pytest.mark.parametrize("m", [20, 40])
def test_chunks_hold_whole_classes_and_may_begin_at_any(bank, m):
    control = BankControl(bank, ["dog", "cat", "ball"], m=m, size=32)
    chunks = list(control.chunks())
    assert control.total == 3
    assert [chunk.labels for chunk in chunks] == [(0,) * m, (1,) * m, (2,) * m]
    assert list(control.chunks(1)) == chunks[1:]


def test_the_fingerprint_follows_classes_and_count(bank):
    sets = [
        BankControl(bank, ["dog"]),
        BankControl(bank, ["dog", "cat"]),
        BankControl(bank, ["dog"], m=2),
        BankControl(bank, ["dog"], size=48),
    ]
    assert len({control.fingerprint for control in sets}) == 4


def test_a_held_out_set_has_other_images_and_no_class_without_them(bank):
    searched, held_out = BankControl(bank, ["dog"]), BankControl(bank, ["dog"], split="heldout")
    assert not set(searched.images("dog")) & set(held_out.images("dog"))
    assert searched.fingerprint != held_out.fingerprint
    with pytest.raises(UsageError, match="no heldout image of 'cat'"):
        BankControl(bank, ["dog", "cat"], split="heldout")


@pytest.mark.parametrize(("classes", "m"), [(["horse"], 4), ([], 4), (["dog"], 0)])
def test_unknown_or_empty_classes_are_refused(bank, classes, m):
    with pytest.raises(UsageError):
        BankControl(bank, classes, m=m)


def test_a_class_outside_the_set_is_refused(bank):
    with pytest.raises(UsageError, match="cat"):
        BankControl(bank, ["dog"]).images("cat")
