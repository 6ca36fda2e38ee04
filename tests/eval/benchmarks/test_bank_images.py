from pathlib import Path

import numpy as np
import pytest

from line_neurons.eval.benchmarks.bank_images import agreement, judgeable, of_packs, recognition, sample
from line_neurons.tools.image_bank.bank import Bank, Entry


def entry(name, caption, split, kind="cutout"):
    return Entry(name, Path(name), caption, (), (), kind, (), split, name)


BANK = Bank(
    "small",
    [
        entry("stamps/cat.png", "cat", "search"),
        entry("icons/cat.png", "cat", "heldout"),
        entry("icons/sofa.png", "sofa", "search"),
        entry("backgrounds/wood.jpg", "wood", "shared", "background"),
    ],
)


def test_a_class_is_recognised_by_its_place_among_the_units():
    rows = {
        "cat": np.array([[9, 0, 1, 2, 3, 4, 5], [0, 9, 8, 7, 6, 5, 4]], np.float32),
        "sofa": np.array([[1, 2, 3, 4, 5, 9, 8]], np.float32),
    }
    found = recognition("icons", rows, {"cat": frozenset({0}), "sofa": frozenset({6})})
    assert (found.captions, found.top1, found.top5) == (2, pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found.areas == {"cat": 0.5, "sofa": 1.0}
    assert "icons: 2 captions of a class, top-1 0.33, top-5 0.67, AUC median 0.750" in found.line


def test_captions_of_the_same_class_are_not_compared_with_each_other():
    rows = {name: np.array([[level, 0]], np.float32) for name, level in (("cat", 1), ("tabby", 2), ("sofa", 0))}
    classes = {"cat": frozenset({0}), "tabby": frozenset({0}), "sofa": frozenset({1})}
    assert recognition("stamps", rows, classes).areas["cat"] == 1.0


def test_the_bank_of_some_packs_keeps_its_images_and_all_backgrounds():
    part = of_packs(BANK, ["icons"])
    assert [item.id for item in part.entries] == ["backgrounds/wood.jpg", "icons/cat.png", "icons/sofa.png"]


def test_sources_agree_where_they_put_the_labels_of_units_in_the_same_order():
    first = {"a": np.eye(3, dtype=np.float32)[:1] * 5, "b": np.eye(3, dtype=np.float32)[1:2] * 3,
             "c": np.array([[2, 0, 9]], np.float32)}  # fmt: skip
    classes = {name: frozenset({unit}) for unit, name in enumerate("abc")}
    same = agreement(first, {name: values * 2 + 1 for name, values in first.items()}, classes)
    assert (same.every, same.wrong, same.captions) == (pytest.approx(1), pytest.approx(1), 3)
    assert same.means["the class"] == (1.0, 1.0)
    # c excites the unit of a more than b does, and no other unit.
    assert same.means["the most similar wrong caption"][0] >= same.means["another caption"][0]
    turned = agreement(first, {name: -values for name, values in first.items()}, classes)
    assert turned.every < 0 and turned.means["the class"] == (1.0, 0.0)


def test_captions_with_held_out_images_can_be_judged():
    assert judgeable(BANK) == (1, 2)


def test_a_sample_of_captions_is_the_same_each_time():
    names = [f"thing {number}" for number in range(20)]
    assert sample(names, 5) == sample(names[::-1], 5) and len(sample(names, 5)) == 5
    assert sample(names, None) == sample(names, 50) == sorted(names)
