"""Verdicts on features, from the relation of label and class and from edits."""

from math import nan

import pytest

from line_neurons.eval.audit.verdicts import relation_of, verdict_of
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.eval.reports.label_quality import TrueClass, Truth

# A jeep is a car, and a car has wheels, which have tyres; a wing mirror is a mirror, a part of a car.
DATA = """\
00000001 00 n 01 thing 0 000 | gloss
00000002 00 n 01 car 0 003 @ 00000001 n 0000 %p 00000004 n 0000 %p 00000006 n 0000 | gloss
00000003 00 n 01 jeep 0 001 @ 00000002 n 0000 | gloss
00000004 00 n 01 wheel 0 002 @ 00000001 n 0000 %p 00000005 n 0000 | gloss
00000005 00 n 01 tyre 0 001 @ 00000001 n 0000 | gloss
00000006 00 n 01 mirror 0 001 @ 00000001 n 0000 | gloss
00000007 00 n 01 wing_mirror 0 001 @ 00000006 n 0000 | gloss
00000008 00 n 01 grass 0 001 @ 00000001 n 0000 | gloss
00000009 00 n 01 minivan 0 001 @ 00000002 n 0000 | gloss
"""


@pytest.fixture
def words(tmp_path):
    (tmp_path / "data.noun").write_text(DATA)
    names = [line.split()[4] for line in DATA.splitlines()]
    index = (f"{name} n 1 0 1 0 {at:08}" for at, name in enumerate(names, 1))
    (tmp_path / "index.noun").write_text("\n".join(index))
    return WordNet(tmp_path)


@pytest.mark.parametrize(
    ("label", "relation"),
    [
        ("jeep", "exact"), ("old jeep", "modified"), ("wheel", "part"), ("tyre", "part"), ("wing mirror", "part"),
        ("broken wing mirror", "part"), ("minivan", "sibling"),
        ("grass", "other"), ("jeep cage", "compound"), ("nowhere", "other"), ("", ""),
    ],
)  # fmt: skip
def test_parts_of_the_class_are_of_the_thing(words, label, relation):
    jeep = TrueClass(0, "jeep", 3)
    assert relation_of(Truth(words, [jeep]), label, jeep) == relation


def test_a_class_that_wordnet_does_not_have_has_no_parts(words):
    own = TrueClass(0, "zorp", None)
    assert relation_of(Truth(words, [own]), "wheel", own) == "other"


@pytest.mark.parametrize(
    ("relation", "z", "p", "verdict"),
    [
        ("exact", nan, nan, "core"),
        ("part", 1.0, 0.01, "core"),
        ("hypernym", 1.0, 0.2, "unclear"),
        ("exact", -1.0, 0.01, "unclear"),
        ("other", 1.0, 0.01, "spurious"),
        ("other", 0.05, 0.01, "unclear"),
        ("other", -1.0, 0.01, "unclear"),
        ("other", nan, nan, "unclear"),
        ("sibling", 1.0, 0.01, "unclear"),
        ("compound", 1.0, 0.01, "unclear"),
        ("same images", 1.0, 0.01, "core"),
        ("", nan, nan, "unclear"),
    ],
)
def test_a_verdict_needs_both(relation, z, p, verdict):
    assert verdict_of(relation, z, p) == verdict
