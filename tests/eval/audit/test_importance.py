"""Importance of features for classes: the class layer, the layer that it weighs, and the formula."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.eval.audit.importance import Head, NoFeaturesError, class_features, find_head, importance
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget


def prepare(image):
    return v2.functional.resize(v2.functional.pil_to_tensor(image).float() / 255, [16, 16], antialias=True)


def target(*parts, **options):
    torch.manual_seed(0)
    module = nn.Sequential(*parts).eval()
    return HookedTarget(ModelBundle("own:net", "0", "0", prepare, lambda: module), device="cpu", **options)


def backbone():
    torch.manual_seed(1)
    return nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5)


class Scaled(nn.Module):
    """A head on values that no layer puts out."""

    def __init__(self):
        super().__init__()
        self.flat, self.head = nn.Flatten(), nn.Linear(768, 4)

    def forward(self, images):
        return self.head(self.flat(images) * 2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_class_layer_and_the_pooled_features_before_it_are_found(precision):
    net = target(*backbone(), nn.Linear(6, 4), precision=precision)
    head = find_head(net)
    assert (head.layer, head.features, head.weights.shape) == ("5", "2", (4, 6))
    # A map of which the features are the mean has the same values; the map before the ReLU does not.
    assert find_head(net, "1").features == "1"
    with pytest.raises(UsageError, match="0 does not put out the 6 values that the class layer 5 weighs"):
        find_head(net, "0")
    with pytest.raises(UsageError, match=r"5 is the class layer.*line audit MODEL CLASS"):
        find_head(net, "5")


def test_features_that_a_nonlinearity_changes_are_those_after_it():
    head = find_head(target(*backbone()[:4], nn.Sigmoid(), nn.Linear(6, 4)))
    assert head.features == "4"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "ends in 0"),
        ((Scaled(),), "no layer of own:net has the 768 values that its class layer 0.head weighs"),
    ],
)
def test_other_models_are_refused_in_one_line(parts, said):
    with pytest.raises(UsageError, match=said) as caught:
        find_head(target(*parts))
    assert "\n" not in str(caught.value)


def test_importance_is_the_mean_of_activation_times_weight():
    rng = np.random.default_rng(0)
    features, weights = rng.random((7, 5), np.float32), rng.standard_normal(5)
    expected = [sum(float(row[j]) * weights[j] for row in features) / 7 for j in range(5)]
    np.testing.assert_allclose(importance(features, weights), expected, rtol=1e-6)


def control_of(features, labels=(), classes=()):
    return Control(tuple(classes), np.array(labels or [-1] * len(features)), features)


def head_of(weights, bias=None):
    weights = np.array(weights, np.float64)
    return Head("fc", "pool", weights, np.zeros(len(weights)) if bias is None else np.array(bias, np.float64))


def test_the_features_of_a_class_are_those_of_the_images_predicted_as_it():
    features = np.array([[2, 1, 0, 3], [4, 1, 0, 1], [0, 0, 9, 0]], np.float32)
    head = head_of([[1, 2, 0, -1], [0, 0, 1, 0]])
    found = class_features(head, control_of(features), features, head.predictions(features), 0, "ox", top=5)
    assert (found.basis, found.rows) == ("predicted", (1, 0))
    assert [(one.unit, one.rank, one.importance) for one in found.features] == [(0, 1, 3.0), (1, 2, 2.0)]
    assert [one.share for one in found.features] == [0.6, 0.4]
    assert (
        len(
            class_features(
                head, control_of(features), features, head.predictions(features), 0, "ox", top=1
            ).features
        )
        == 1
    )


def test_without_such_images_those_of_the_class_count_and_without_these_none():
    features = np.array([[1, 0], [0, 1]], np.float32)
    head = head_of([[1, 1], [1, 1], [0, 0]], [0, -9, -9])
    control = control_of(features, [0, 1], ["Ox", "sea lion"])
    found = class_features(head, control, features, head.predictions(features), 1, "ox", top=5)
    assert (found.basis, found.rows) == ("class", (0,))
    with pytest.raises(NoFeaturesError, match=r"no image of the control set is predicted as 'crane' \(class 1\)"):
        class_features(head, control, features, head.predictions(features), 1, "crane", top=5)
    with pytest.raises(NoFeaturesError, match="none has an importance above 0"):
        class_features(head, control, features, head.predictions(features), 2, "sea lion", top=5)
