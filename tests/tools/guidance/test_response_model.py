import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from line_neurons.agent.errors import UsageError
from line_neurons.tools.guidance import response_model
from line_neurons.tools.guidance.response_model import LayerModel, Observation, Prediction

NOISE, SCALE = 0.1, 0.5


def unit_vectors(rng, count, width=16):
    rows = rng.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def known():
    """A control set of 40 classes, 35 candidates, a class to forget, and a history with a class, twice, in it."""
    rng = np.random.default_rng(0)
    classes = unit_vectors(rng, 40)
    candidates = np.concatenate([unit_vectors(rng, 30), classes[:5]])
    scores = rng.normal(size=40) * 3 + 2
    history = [
        Observation("new", unit_vectors(rng, 1)[0], 4.0),
        Observation("class 3", classes[3], 5.0, control=3),
        Observation("class 3", classes[3], 5.5, control=3),
        Observation("other", unit_vectors(rng, 1)[0], -1.0),
    ]
    forgotten = Observation("class 7", classes[7], float(scores[7]), control=7, removed=True)
    return classes, candidates, scores, history, forgotten


def kernel(one, two):
    return np.exp((one.astype(float) @ two.astype(float).T - 1) / SCALE**2)


def direct(points, values, where):
    """The textbook's Gaussian process: mean and deviation at ``where``."""
    centre, spread = values.mean(), values.std()
    inverse = np.linalg.inv(kernel(points, points) + NOISE * np.eye(len(points)))
    near = kernel(where, points)
    mean = centre + spread * near @ inverse @ ((values - centre) / spread)
    return mean, spread * np.sqrt(1 - np.einsum("ij,jk,ik->i", near, inverse, near))


def test_predictions_are_those_of_one_gaussian_process_over_all_that_is_known_but_what_is_forgotten(known):
    classes, candidates, scores, history, forgotten = known
    kept = np.delete(np.arange(40), 7)
    points = np.concatenate([classes[kept], [o.embedding for o in history]])
    values = np.concatenate([scores[kept], [o.value for o in history]])
    model = LayerModel(classes, candidates)
    unit = model.unit(model.prior(scores), [forgotten, *history])
    mean, deviation = direct(points, values, candidates)
    found = unit.predict(unit.rows)
    assert found.mean == pytest.approx(mean, abs=1e-4)
    assert found.deviation == pytest.approx(deviation, abs=1e-4)
    assert unit.predict_at(candidates[4:5]).mean == pytest.approx(mean[4], abs=1e-4)


def test_the_rank_correlation_leaves_out_each_concept_with_all_its_measurements(known):
    classes, candidates, scores, history, forgotten = known
    kept = np.delete(np.arange(40), 7)
    names = [f"class {at}" for at in kept] + [o.concept for o in history]
    points = np.concatenate([classes[kept], [o.embedding for o in history]])
    values = np.concatenate([scores[kept], [o.value for o in history]])
    scaled = (values - values.mean()) / values.std()
    truth, guess = [], []
    for name in dict.fromkeys(names):
        out = np.array([other == name for other in names])
        inverse = np.linalg.inv(kernel(points[~out], points[~out]) + NOISE * np.eye(sum(~out)))
        guess.append((kernel(points[out][:1], points[~out]) @ inverse @ scaled[~out])[0])
        # Of a class that was generated too, it is the own measurements that count.
        truth.append(scaled[out][-2:].mean() if name == "class 3" else scaled[out][0])
    model = LayerModel(classes, candidates)
    unit = model.unit(model.prior(scores), [*history, forgotten])
    assert unit.correlation == pytest.approx(spearmanr(truth, guess).statistic, abs=1e-9)


def test_expected_improvement_is_that_of_the_normal_distribution():
    found = Prediction(np.array([1.0, 3.0, -8.0, -2.5]), np.array([2.0, 0.5, 1.0, 1.01]))
    z = (found.mean - 2.5) / found.deviation
    expected = (found.mean - 2.5) * norm.cdf(z) + found.deviation * norm.pdf(z)
    assert found.improvement(2.5) == pytest.approx(expected, abs=1e-6)
    # Hopeless ones keep their order.
    assert found.improvement(2.5)[2:] == pytest.approx(expected[2:], rel=0.05)
    assert Prediction(np.array([1.0, 3.0]), np.zeros(2)).improvement(2.5).tolist() == [0.0, 0.5]


def test_a_unit_that_is_the_same_on_everything_promises_nothing(known):
    classes, candidates, _, _, _ = known
    model = LayerModel(classes, candidates)
    unit = model.unit(model.prior(np.full(40, 2.0)), [Observation("new", candidates[0], 2.0)])
    found = unit.predict(unit.rows)
    assert (set(found.mean), set(found.deviation), unit.correlation) == ({2.0}, {0.0}, None)
    assert unit.knows_nothing
    assert not found.improvement(2.0).any()


def test_without_a_control_set_it_learns_from_the_history_alone(known):
    _, candidates, _, history, _ = known
    model = LayerModel(candidates[:0], candidates)
    unit = model.unit(model.prior([]), history)
    points, values = np.array([o.embedding for o in history]), np.array([o.value for o in history])
    mean, deviation = direct(points, values, candidates)
    found = unit.predict(unit.rows)
    assert found.mean == pytest.approx(mean, abs=1e-4)
    assert found.deviation == pytest.approx(deviation, abs=1e-4)


def test_of_many_candidates_the_promising_ones_and_neighbours_of_the_best_are_predicted(known, monkeypatch):
    classes, candidates, scores, history, _ = known
    monkeypatch.setattr(response_model, "_WEIGHED", 6)
    monkeypatch.setattr(response_model, "_NEIGHBOURS", 2)
    whole = LayerModel(classes, candidates)
    rows = whole.unit(whole.prior(scores), history[:1]).rows
    best = np.argsort(-(candidates @ history[0].embedding))[:2]
    assert set(best) <= set(rows)
    assert 6 <= len(rows) <= 8
    assert sorted(set(rows)) == rows.tolist()


def test_more_classes_than_features_still_predict_what_they_teach(monkeypatch):
    rng = np.random.default_rng(1)
    classes, direction = unit_vectors(rng, 300, 6), unit_vectors(rng, 1, 6)[0]
    monkeypatch.setattr(response_model, "_FEATURES", 100)
    model = LayerModel(classes, classes[:50])
    unit = model.unit(model.prior(classes @ direction), [])
    assert unit.correlation > 0.9
    assert np.corrcoef(unit.predict(unit.rows).mean, classes[:50] @ direction)[0, 1] > 0.95


def test_an_embedding_that_is_not_finite_is_refused(known):
    _, candidates, _, _, _ = known
    with pytest.raises(UsageError, match="not finite"):
        LayerModel(candidates, np.where(candidates > 0.3, np.nan, candidates))
