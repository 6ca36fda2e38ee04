from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from line_neurons.agent.ports import Control
from line_neurons.tools.cache.activation_cache import PUT_VECTOR, Cache, vector_row
from line_neurons.tools.cache.reader import control_key
from line_neurons.tools.scorers import SCORERS, standard_error
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.store.records import Run, Step, Unit

TARGET, LAYER, CONTROL = "net", "head", "photos"
IMAGES = tuple(f"{number:064x}" for number in range(6))
VECTORS = np.random.default_rng(0).normal(1, 1, (6, 3)).astype(np.float32)
CONTROLS = np.random.default_rng(1).normal(0, 1, (20, 3)).astype(np.float32)
RUN = Run("r-1", "net", LAYER, 0, "finished", 1.0, {"scorer": "mean"}, {"target": TARGET, "control": CONTROL}, {})


@pytest.fixture
def store(tmp_path):
    with closing(Cache(tmp_path)) as cache:
        with cache._folder.transaction() as db:
            rows = [vector_row(*key, row) for row, key in zip(VECTORS, keys(), strict=True)]
            db.executemany(PUT_VECTOR, rows)
        labels = np.zeros(len(CONTROLS), np.int64)
        cache.put_control(control_key(TARGET, LAYER, CONTROL), Control(("photo",), labels, CONTROLS))
    return tmp_path


def keys():
    return [(image, TARGET, LAYER) for image in IMAGES]


def unit(number, images, score=1.0):
    return Unit("r-1", number, number, "finished", label="owl", score=score, images=tuple(images))


def step(number, concept, score, images, **changes):
    return replace(Step("r-1", 1, number, 0, "iteration", "scored", concept, score, images=images), **changes)


def drop(store, image):
    with closing(Cache(store)) as cache, cache._folder.transaction() as db:
        db.execute("DELETE FROM activations WHERE image = ?", [image])


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_label_has_the_standard_error_of_its_activations_with_the_runs_scorer(store, scorer):
    run = replace(RUN, settings={"scorer": scorer})
    expected = [standard_error(scorer, VECTORS[2:5, number], CONTROLS[:, number]) for number in (2, 0)]
    assert Spreads(store, run).of_units([unit(2, IMAGES[2:5]), unit(0, IMAGES[2:5])]) == expected
    assert None not in expected


def test_a_missing_or_corrupt_activation_makes_the_spread_unknown_until_it_is_measured_again(store):
    spreads = Spreads(store, RUN)
    drop(store, IMAGES[1])
    with closing(Cache(store)) as cache, cache._folder.transaction() as db:
        db.execute("UPDATE activations SET vector = ? WHERE image = ?", (bytes(12), IMAGES[4]))
    labels = [unit(1, IMAGES[:3]), unit(1, IMAGES[3:]), unit(1, (IMAGES[0], IMAGES[2]))]
    assert [spread is None for spread in spreads.of_units(labels)] == [True, True, False]
    with closing(Cache(store)) as cache, cache._folder.transaction() as db:
        db.execute(PUT_VECTOR, vector_row(*keys()[1], VECTORS[1]))
    assert spreads.of_units(labels[:1]) == [standard_error("mean", VECTORS[:3, 1], CONTROLS[:, 1])]


def test_a_known_spread_is_not_read_again(store):
    spreads = Spreads(store, RUN)
    before = spreads.of_units([unit(1, IMAGES)])
    for image in IMAGES:
        drop(store, image)
    assert spreads.of_units([unit(1, IMAGES)]) == before != [None]


@pytest.mark.parametrize(
    ("label", "run"),
    [
        (unit(1, IMAGES, score=None), RUN),
        (unit(1, ()), RUN),
        (unit(7, IMAGES), RUN),
        (unit(1, IMAGES[:1] * 5), RUN),
        (unit(1, IMAGES), replace(RUN, settings={})),
        (unit(1, IMAGES), replace(RUN, settings={"scorer": "median"})),
        (unit(1, IMAGES), replace(RUN, fingerprints={})),
        (unit(1, IMAGES), replace(RUN, settings={"scorer": "auc"}, fingerprints={"target": TARGET})),
    ],
)
def test_what_has_no_spread_is_unknown(store, label, run):
    assert Spreads(store, run).of_units([label]) == [None]


def test_a_store_without_a_cache_has_unknown_spreads(tmp_path):
    assert Spreads(tmp_path, RUN).of_units([unit(1, IMAGES)]) == [None]


def test_repeated_images_count_once(store):
    once, often = Spreads(store, RUN).of_units([unit(1, IMAGES[:2]), unit(1, IMAGES[:2] * 3)])
    assert once == often


def test_an_entry_of_a_board_has_the_spread_of_the_step_that_gave_its_score(store):
    steps = [
        step(1, "owl", 2.0, IMAGES[:3]),
        step(2, "owl", 1.0, IMAGES[3:]),
        step(3, "fox", None, (), outcome="stalled"),
    ]
    found = Spreads(store, RUN).of_board([("owl", 2.0), ("fox", 1.0)], steps)
    assert found == {("owl", 2.0): standard_error("mean", VECTORS[:3, 1], CONTROLS[:, 1]), ("fox", 1.0): None}
