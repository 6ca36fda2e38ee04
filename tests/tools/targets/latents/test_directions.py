import json

import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.tools.component_opening import open_code
from line_neurons.tools.targets.latents.directions import read_directions, write_directions

RECORD = {
    "model": "torchvision:mobilenet_v2", "layer": "conv", "tokens": "patches", "pool": "mean",
    "directions": [
        {"name": "striped", "auc": 0.97, "random_auc": 0.61, "is_random": False},
        {"name": "odd", "auc": 0.55, "random_auc": 0.64, "is_random": True},
    ],
}  # fmt: skip
VECTORS = np.array([[3.0, 4, 0], [0, 0, 2]])


def written(path, **changes):
    write_directions(path, VECTORS, np.array([1.0, -1]), ["striped", "odd"], RECORD | changes)
    return path


def test_what_a_fit_writes_is_read_with_its_record(tmp_path):
    found = read_directions(written(tmp_path / "d.npz"))
    np.testing.assert_allclose(found.vectors, VECTORS / [[5], [2]])
    assert (list(found.unit_names), found.layer, found.model) == (
        ["striped", "odd"], "conv", "torchvision:mobilenet_v2",
    )  # fmt: skip
    assert (found.tokens, found.pool) == ("patches", "mean")
    assert found.random == {1: "AUC 0.55, random splits up to 0.64"}
    assert found.identity.endswith(" pool=mean")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"directions": RECORD["directions"][:1]}, "of other directions"),
        ({"pool": "median"}, "pool is 'median'"),
        ({"tokens": "some"}, "cannot be read"),
        ({"layer": None}, "cannot be read"),
        ({"directions": [{}, {}]}, "cannot be read"),
    ],
)
def test_a_damaged_record_is_refused(changes, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        read_directions(written(tmp_path / "d.npz", **changes))


def test_a_record_that_is_no_json_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", directions=VECTORS, fit=np.array("{"))
    with pytest.raises(UsageError, match=r"the record of the fit .* cannot be read"):
        read_directions(tmp_path / "d.npz")


def test_directions_of_another_model_are_refused_unless_the_user_insists(tmp_path):
    path = written(tmp_path / "d.npz")
    assert open_code(Settings(directions=path), "torchvision:mobilenet_v2@IMAGENET1K_V1").units == 2
    with pytest.raises(UsageError, match="is of the model torchvision:mobilenet_v2, not torchvision:resnet50"):
        open_code(Settings(directions=path), "torchvision:resnet50")
    assert open_code(Settings(directions=path, sae_force=True), "torchvision:resnet50").units == 2


def test_the_record_is_plain_text_in_the_file(tmp_path):
    with np.load(written(tmp_path / "d.npz"), allow_pickle=False) as file:
        assert json.loads(str(file["fit"])) == RECORD
