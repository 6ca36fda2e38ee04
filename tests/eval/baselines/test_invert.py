import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from line_neurons.agent.errors import UsageError
from line_neurons.eval.baselines import invert
from line_neurons.eval.baselines.invert import InvertSettings, search_formulas

NAMES = ("a", "b", "c", "d")
WIDE = 100_000


def holds(formula: str, members: np.ndarray) -> np.ndarray:
    """Read a formula as Python reads it."""
    code = re.sub(r"[A-Z]+", lambda word: {"AND": "&", "OR": "|", "NOT": "~"}[word[0]], formula)
    return eval(code, {name: members[:, place] for place, name in enumerate(NAMES)})


def every_formula(length: int) -> list[str]:
    literals = [*NAMES, *(f"NOT {name}" for name in NAMES)]
    grown, every = literals, list(literals)
    for _ in range(length - 1):
        grown = [
            f"({one}) {word} {two}" for one, two in itertools.product(grown, literals) for word in ("AND", "OR")
        ]
        every += grown
    return every


def allowed(formula: str, members: np.ndarray, least: float, most: float) -> bool:
    share = holds(formula, members).mean()
    return 0 < share < 1 and least <= share <= most


probes = st.integers(4, 14).flatmap(
    lambda images: st.tuples(
        hnp.arrays(np.float32, (images, 2), elements=st.integers(-3, 3).map(float)),
        hnp.arrays(bool, (images, len(NAMES))),
    )
)


@given(probes)
@settings(max_examples=60)
def test_the_auc_of_every_concept_is_scikit_learns(probe):
    activations, members = probe
    found = search_formulas(activations, members, NAMES, settings=InvertSettings(beam=WIDE, most=1))
    for unit, formulas in enumerate(found):
        for one in formulas:
            own = holds(one.formula, members)
            assert one.auc == pytest.approx(roc_auc_score(own, activations[:, unit]), abs=1e-6)
            assert one.share == own.mean()


@given(probes, st.sampled_from([(0.0, 0.5), (0.2, 0.5), (0.0, 1.0)]))
@settings(max_examples=8)
def test_a_wide_beam_finds_what_a_search_of_all_formulas_finds(probe, shares):
    activations, members = probe
    least, most = shares
    every = [holds(one, members) for one in every_formula(3) if allowed(one, members, least, most)]
    distinct = np.unique(every, axis=0) if every else []
    limits = InvertSettings(length=3, beam=WIDE, least=least, most=most)
    # Literals whose own share is not allowed begin no formula, here and in the authors' code.
    begun = [one for one in every_formula(1) if allowed(one, members, least, most)]
    for unit, formulas in enumerate(search_formulas(activations, members, NAMES, settings=limits)):
        if len(begun) == 2 * len(NAMES):
            best = max(roc_auc_score(own, activations[:, unit]) for own in distinct)
            assert formulas[0].auc == pytest.approx(best, abs=1e-6)
        for one in formulas[:5]:
            assert allowed(one.formula, members, least, most)
            own = holds(one.formula, members)
            assert one.auc == pytest.approx(roc_auc_score(own, activations[:, unit]), abs=1e-6)


def test_longer_formulas_are_taken_only_where_they_are_better():
    members = np.zeros((12, 4), bool)
    members[:3, 0] = members[3:6, 1] = members[6:9, 2] = True
    activations = np.zeros((12, 2), np.float32)
    activations[:3, 0] = 1
    activations[:6, 1] = 1
    (alone, *_), (two, *_) = search_formulas(activations, members, NAMES, settings=InvertSettings(length=3))
    assert (alone.formula, alone.length, alone.auc) == ("a", 1, 1.0)
    assert (two.formula, two.length, two.auc, two.share) == ("a OR b", 2, 1.0, 0.5)


def test_the_beam_keeps_formulas_of_the_same_images_once():
    members = np.zeros((10, 4), bool)
    members[:2, 0] = members[:2, 1] = members[2:4, 2] = True
    activations = np.arange(10, 0, -1, dtype=np.float32)[:, None]
    (beam,) = search_formulas(activations, members, NAMES, settings=InvertSettings(length=2, beam=5))
    supports = [tuple(holds(one.formula, members)) for one in beam]
    assert len(set(supports)) == len(supports)
    assert beam == sorted(beam, key=lambda one: -one.auc)


def test_labels_leave_out_what_a_unit_may_not_be_called(measured_task):
    labels = np.repeat([0, 1, 2], 4)
    activations = np.zeros((12, 2), np.float32)
    activations[:4] = 2
    activations[4:8] = 1
    given = {"activations": activations, "labels": labels, "classes": ("cat", "dog", "sofa")}
    free = invert.label(measured_task(**given), hypernyms=False)
    assert [(one.concept, one.score) for one in free.labels] == [("cat", 1.0), ("cat", 1.0)]
    assert free.method == "invert"
    kept_off = measured_task(**given, excluded={1: ("cats",)})
    assert [one.concept for one in invert.label(kept_off, hypernyms=False).labels] == ["cat", "dog"]
    longer = invert.label(kept_off, length=3, hypernyms=False)
    assert longer.method == "invert-3"
    assert "cat" not in longer.labels[1].concept


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 0}, "formulas of 0"),
        ({"beam": 0}, "beam of 0"),
        ({"least": 0.6}, "0.6"),
        ({"least": 0.4}, "40.00%"),
    ],
)
def test_options_that_do_not_fit_are_named(measured_task, options, said):
    task = measured_task(np.eye(4, 2, dtype=np.float32), np.arange(4), ("ant", "bee", "cow", "doe"))
    with pytest.raises(UsageError, match=said):
        invert.label(task, hypernyms=False, **options)


def test_probe_images_without_classes_are_refused(measured_task):
    with pytest.raises(UsageError, match="have no classes"):
        invert.label(measured_task(np.eye(4, 2, dtype=np.float32)))
