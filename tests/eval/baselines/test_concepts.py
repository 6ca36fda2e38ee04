import numpy as np
import pytest

from line_neurons.agent.errors import MissingPartError
from line_neurons.agent.settings import Settings
from line_neurons.eval.baselines.invert import concepts_of
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.graphs.runs.components import Components

from .conftest import PixelTarget, png


def images_of(names, members):
    return {name: np.flatnonzero(members[:, place]).tolist() for place, name in enumerate(names)}


@pytest.fixture
def bank_task(tmp_path):
    """A task on a bank of a crow, an owl, a bird that is no more than that, and a boat."""
    rows = {"crow": "bird;animal", "owl": "bird;animal", "bird": "animal", "boat": "vehicle"}
    folder = tmp_path / "bank"
    folder.mkdir()
    for place, caption in enumerate(rows):
        (folder / f"{caption}.png").write_bytes(png((60 * place, 20, 90), (200, 200, 10 * place)))
    lines = [f"{caption}.png,{caption},{broader},search" for caption, broader in rows.items()]
    (folder / "captions.csv").write_text("\n".join(["file,caption,broader,split", *lines]))
    settings = Settings(
        store=tmp_path / "store", generator=f"bank:{folder}", control="bank", control_images=1, vocabulary_share=1
    )
    return BaselineTask(Components("own:pixels", settings).with_(target=PixelTarget()), "pixels", (0,))


def test_groups_of_the_image_bank_are_concepts_of_all_their_images(bank_task):
    names, members = concepts_of(bank_task, hypernyms=True)
    # Of vehicles there is but one, which is the boat.
    assert images_of(names, members) == {
        "bird": [0, 2, 3],
        "boat": [1],
        "crow": [2],
        "owl": [3],
        "animal": [0, 2, 3],
    }


def test_without_groups_the_concepts_are_the_classes(bank_task):
    names, members = concepts_of(bank_task, hypernyms=False)
    assert names == ("bird", "boat", "crow", "owl")
    assert members.sum(0).tolist() == [1, 1, 1, 1]


def test_images_without_a_class_are_of_no_concept(measured_task):
    task = measured_task(np.ones((4, 1), np.float32), np.array([0, -1, 1, 1]), ("ant", "bee"))
    names, members = concepts_of(task, hypernyms=False)
    assert images_of(names, members) == {"ant": [0], "bee": [2, 3]}


@pytest.mark.e2e
def test_classes_of_other_sets_have_the_hypernyms_of_wordnet(measured_task, assets):
    # ImageNet's crane (517) is the machine, which its name alone does not tell.
    classes = ("crane", "hammer", "lion", "tiger")
    task = measured_task(np.ones((4, 1), np.float32), np.arange(4), classes, assets=assets)
    names, members = concepts_of(task, hypernyms=True)
    found = images_of(names, members)
    assert found["big cat"] == [2, 3]
    assert found["instrumentality"] == [0, 1]
    assert "physical entity" in found


def test_missing_wordnet_names_the_pack(measured_task, tmp_path):
    task = measured_task(np.ones((2, 1), np.float32), np.arange(2), ("ant", "bee"), assets=tmp_path)
    with pytest.raises(MissingPartError, match="line assets install wordnet"):
        concepts_of(task, hypernyms=True)
