import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.activations import compact
from line_neurons.agent.ports import Control
from line_neurons.tools.facets import scores, splits
from line_neurons.tools.facets.control_vectors import ControlVectors
from line_neurons.tools.facets.divided_unit import divide
from line_neurons.tools.facets.scores import (
    clarity,
    monosemanticity,
    polysemanticity_interval,
    published_weights,
    strong_weights,
)
from line_neurons.tools.facets.splits import halves, split_sources, strongest_sources
from line_neurons.tools.facets.vectors import LayerVectors, mean_vector, related_cosine


def unit_vectors(rng, count, size=5):
    rows = rng.normal(size=(count, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_vectors_leave_the_unit_out_and_constant_units_take_no_part():
    rows = np.array([[0, 1, 5], [2, 3, 5], [4, 8, 5]], np.float32)
    vectors = LayerVectors(rows).of(rows, unit=0)
    assert np.allclose(np.abs(vectors[[0, 2], 1]), 1)
    assert not vectors[:, [0, 2]].any()


@settings(max_examples=40)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_clarity_and_ms_equal_the_loops_over_all_pairs(count, seed):
    rng = np.random.default_rng(seed)
    vectors, weights = unit_vectors(rng, count), rng.random(count)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    cosines = [float(vectors[i].astype(float) @ vectors[j].astype(float)) for i, j in pairs]
    products = [weights[i] * weights[j] for i, j in pairs]
    assert clarity(vectors) == pytest.approx(np.mean(cosines), abs=1e-5)
    expected = np.dot(products, cosines) / np.sum(products)
    assert monosemanticity(vectors, weights[:, None]).value == pytest.approx(expected, abs=1e-5)


@settings(max_examples=20)
@given(st.integers(3, 8), st.integers(0, 10_000))
def test_the_interval_of_ms_is_that_of_leaving_out_each_image(count, seed):
    rng = np.random.default_rng(seed)
    vectors, weights = unit_vectors(rng, count), rng.random(count) + 0.1
    without = ((np.delete(vectors, i, 0), np.delete(weights, i)[:, None]) for i in range(count))
    left_out = [monosemanticity(*rest).value[0] for rest in without]
    error = np.sqrt((count - 1) / count * np.sum((left_out - np.mean(left_out)) ** 2))
    value, low, high = monosemanticity(vectors, weights[:, None])
    assert (high - low) / 2 == pytest.approx(1.959964 * error, abs=1e-4)
    assert (high + low) / 2 == pytest.approx(value, abs=1e-5)
    few = monosemanticity(unit_vectors(rng, 4), np.array([[1.0], [1.0], [0], [0]]))
    assert np.isfinite(few.value).all() and np.isnan(few.low).all()


@settings(max_examples=10)
@given(st.integers(3, 6), st.integers(0, 10_000))
def test_ms_of_many_units_is_that_of_each_without_its_own_coordinate(units, seed):
    rng = np.random.default_rng(seed)
    rows, weights = rng.normal(size=(7, units)).astype(np.float32), rng.random((7, units))
    found = monosemanticity(rows, weights, np.arange(units))
    for unit in range(units):
        alone = np.delete(rows, unit, axis=1)
        alone /= np.linalg.norm(alone, axis=1, keepdims=True)
        one = monosemanticity(alone, weights[:, [unit]])
        for many, single in zip(found, one, strict=True):
            assert many[unit] == pytest.approx(single[0], abs=1e-4)


def test_the_interval_of_polysemanticity_is_a_point_for_equal_sources_and_wider_for_different_ones():
    axes, weights = np.eye(6, dtype=np.float32), np.ones(4)
    equal = np.stack([axes[0], axes[0], axes[1], axes[1]])
    assert polysemanticity_interval(equal, weights, (0, 1)) == pytest.approx((1, 1))
    vectors = unit_vectors(np.random.default_rng(1), 12)
    found = halves(vectors, np.ones(12))
    low, high = polysemanticity_interval(vectors, np.ones(12), np.flatnonzero(found.first))
    assert low < found.polysemanticity < high
    assert np.isnan(polysemanticity_interval(vectors, np.ones(12), range(12))).all()


def test_weights_of_ms():
    columns = np.array([[0.0, 5], [1, 5], [2, 5], [4, 5]])
    assert published_weights(columns).T.tolist() == [[0, 0.25, 0.5, 1], [0, 0, 0, 0]]
    assert not strong_weights(np.ones((3, 1))).any()
    many = np.array([[0.0]] * 99 + [[10.0]])
    assert np.flatnonzero(strong_weights(many)).tolist() == [99]
    assert np.isnan(monosemanticity(unit_vectors(np.random.default_rng(0), 3), np.array([[1.0], [0], [0]])).value)
    assert np.isnan(clarity(unit_vectors(np.random.default_rng(0), 1)))


def brute_force(vectors, weights):
    """The least weighted scatter of all divisions into two."""
    best = None
    for mask in range(1, 2 ** (len(weights) - 1)):
        first = np.array([not mask >> place & 1 for place in range(len(weights))])
        scatter = 0.0
        for half in (first, ~first):
            if not half.any():
                break
            centre = np.average(vectors[half], axis=0, weights=weights[half])
            scatter += float((weights[half] * ((vectors[half] - centre) ** 2).sum(1)).sum())
        else:
            best = scatter if best is None else min(best, scatter)
    return best


@settings(max_examples=25)
@given(st.integers(2, 7), st.integers(0, 10_000))
def test_halves_are_the_optimum_of_weighted_k_means(count, seed):
    rng = np.random.default_rng(seed)
    vectors, weights = unit_vectors(rng, count), rng.random(count) + 0.1
    first = halves(vectors, weights).first
    found = 0.0
    for half in (first, ~first):
        centre = np.average(vectors[half], axis=0, weights=weights[half])
        found += float((weights[half] * ((vectors[half] - centre) ** 2).sum(1)).sum())
    assert found == pytest.approx(brute_force(vectors.astype(float), weights), abs=1e-5)


def test_two_groups_split_and_one_does_not():
    axes = np.eye(6, dtype=np.float32)
    two = np.stack([axes[0], axes[0], axes[1], axes[1], axes[0]])
    weights = np.array([5.0, 4, 3, 2, 1])
    assert split_sources(two, weights, limit=0.5).facets == ((0, 1, 4), (2, 3))
    one = np.stack([axes[0]] * 5)
    found = split_sources(one, weights, limit=0.5)
    assert found.facets == ((0, 1, 2, 3, 4),) and found.polysemanticity == pytest.approx(0, abs=1e-6)
    # One source alone is no facet.
    alone = np.stack([axes[0], axes[0], axes[0], axes[0], axes[1]])
    assert len(split_sources(alone, weights, limit=0.5).facets) == 1


def test_there_are_at_most_five_facets():
    axes = np.eye(6, dtype=np.float32)
    vectors = np.repeat(axes, 2, axis=0)
    assert len(split_sources(vectors, np.linspace(2, 1, 12), limit=0.2).facets) == 5


def test_the_strongest_sources_are_weighted_above_the_eighteenth():
    values = np.arange(40, dtype=float)
    found = strongest_sources(values)
    assert found.indices.tolist() == list(range(39, 27, -1))
    assert found.weights[0] == 39 - 22
    assert strongest_sources(np.arange(5, dtype=float)).weights.tolist() == [2, 1]
    assert not strongest_sources(np.zeros(50)).indices.size


def classes_on_axes(classes=24, images=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), images)
    rows = rng.normal(0, 0.3, (len(labels), classes + 1)).astype(np.float32)
    rows[np.arange(len(labels)), labels + 1] += 3
    return Control(tuple(f"class {n}" for n in range(classes)), labels, rows)


def test_a_control_set_knows_its_classes_and_how_alike_they_are():
    control = classes_on_axes()
    vectors = ControlVectors(control)
    assert vectors.of_class(3, unit=0) @ vectors.of_class(3, unit=0) == pytest.approx(1)
    assert vectors.of_class(3)[4] > 0.9
    assert -0.2 < vectors.related < 0.2
    expected = [control.activations[control.labels == index, 4].mean() for index in range(24)]
    np.testing.assert_allclose(vectors.class_means(4), expected, atol=1e-6)
    assert 0 < vectors.single_class_limit < 2


def test_the_order_of_images_and_a_copy_of_one_change_nothing():
    control = classes_on_axes()
    order = np.random.default_rng(3).permutation(len(control.labels))
    mixed = Control(control.classes, control.labels[order], control.activations[order])
    one, other = ControlVectors(control), ControlVectors(mixed)
    np.testing.assert_allclose(one.of_class(5, 0), other.of_class(5, 0), atol=1e-5)
    assert one.related == pytest.approx(other.related, abs=1e-5)


def test_a_unit_of_two_classes_is_divided_and_images_belong_to_the_facet_with_the_nearest_centre(monkeypatch):
    monkeypatch.setattr(ControlVectors, "single_class_limit", 0.5)
    control = classes_on_axes(classes=40)
    rows = control.activations
    # Classes in two groups, and unit 0 responds to four of each.
    rows[:, 1:21] += (control.labels < 20)[:, None] * 1.0
    rows[:, 21:] += (control.labels >= 20)[:, None] * 1.0
    strength = {0: 9, 1: 8, 2: 7, 3: 6.5, 20: 8.5, 21: 7.5, 22: 6.9, 23: 6.1}
    rows[:, 0] = [strength.get(int(label), 0) for label in control.labels]
    space = ControlVectors(control)
    divided = divide(space, 0)
    assert sorted(map(sorted, map(divided.names_of, (0, 1)))) == [
        [f"class {n}" for n in (0, 1, 2, 3)], [f"class {n}" for n in (20, 21, 22, 23)],
    ]  # fmt: skip
    assert sum(map(divided.share, (0, 1))) == pytest.approx(1)
    for index in (5, 30):
        facet = divided.facet_of(space.of_class(index, 0))
        assert ("class 0" in divided.names_of(facet)) == (index < 20)
    assert divide(ControlVectors(classes_on_axes(classes=3, images=2)), 0).startswith("too few to tell")


def test_a_wide_layer_is_read_some_images_at_a_time(monkeypatch):
    narrow = classes_on_axes(classes=40, images=12)
    wide = np.zeros((len(narrow.labels), 8200), np.float32)
    wide[:, ::200][:, :41] = narrow.activations
    monkeypatch.setattr(scores, "_MOST_VALUES", 20 * wide.shape[1])
    monkeypatch.setattr(splits, "_MOST_IMAGES", 30)
    dense, kept = (replace(narrow, activations=rows) for rows in (wide, compact(wide)))
    weights = strong_weights(dense.columns([200, 0]).astype(np.float64))
    one = ControlVectors(dense)
    tracemalloc.start()
    other = ControlVectors(kept)
    found = other.monosemanticity(weights, [200, 0])
    numbers = [other.class_means(0), other.of_class(3, 200), other.related]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < wide.nbytes / 2
    for own, of_dense in zip(found, one.monosemanticity(weights, [200, 0]), strict=True):
        np.testing.assert_allclose(own, of_dense, rtol=1e-9)
    for own, of_dense in zip(numbers, [one.class_means(0), one.of_class(3, 200), one.related], strict=True):
        np.testing.assert_array_equal(own, of_dense)
    assert one.single_class_limit == pytest.approx(other.single_class_limit, abs=1e-5)
    parts = [divide(space, 0) for space in (one, other)]
    assert parts[0].names == parts[1].names and parts[0].split.facets == parts[1].split.facets


def test_few_vectors_tell_nothing():
    assert related_cosine(np.zeros((1, 3), np.float32)) == 1
    assert not mean_vector(np.zeros((2, 3), np.float32)).any()
    assert ControlVectors(classes_on_axes(classes=3)).single_class_limit == float("inf")
