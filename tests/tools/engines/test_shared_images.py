"""A store's folder of images that workers share, and write themselves."""

import pickle
from contextlib import closing

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.prompts import image_requests
from line_neurons.agent.settings import load_settings
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.engines.hands import Hands, recipe_of
from line_neurons.tools.engines.shared_images import SharedImages, shared_images
from support.fakes import LAYER, outcome
from support.workers import ScriptedRecipe, in_process, with_workers

REQUESTS = image_requests("crow", 2, 1)


def finished(components):
    with closing(components):
        run = work(components, start(components, LAYER, ["0-3"]))
        return run.status, outcome(components, run.id)


def images(store):
    return {path.name: path.read_bytes() for path in (store / "images").rglob("*.png")}


def test_workers_write_the_files_of_a_single_process_and_send_none(tmp_path):
    seen = tmp_path / "seen by workers"
    seen.symlink_to(tmp_path / "shared" / "images")
    recipe = ScriptedRecipe(shared=shared_images(tmp_path / "shared", str(seen)))
    assert finished(with_workers(tmp_path / "shared", 2, recipe)) == finished(in_process(tmp_path / "plain"))
    assert images(tmp_path / "shared") == images(tmp_path / "plain") != {}


def test_what_travels_is_the_activations_and_the_name_of_the_file(tmp_path):
    sent = {}
    for shared in (None, shared_images(tmp_path, str(tmp_path / "images"))):
        hands = Hands()
        hands.begin(ScriptedRecipe(shared=shared), "here")
        sent[shared is not None] = hands.generate(REQUESTS, [LAYER])
    plain, stored = sent[False], sent[True]
    assert len(pickle.dumps(plain)) - len(pickle.dumps(stored)) > sum(image.png.nbytes for image in plain) - 500
    assert [image.stored[1] for image in stored] == [image.png.nbytes for image in plain]
    for one, other in zip(plain, stored, strict=True):
        assert one.measured[LAYER].tolist() == other.measured[LAYER].tolist()


def test_a_file_that_a_worker_wrote_and_that_is_lost_is_written_again(tmp_path):
    recipe = ScriptedRecipe(shared=shared_images(tmp_path, str(tmp_path / "images")))
    first = finished(with_workers(tmp_path, 1, recipe))
    before = images(tmp_path)
    for path in list((tmp_path / "images").rglob("*.png"))[::3]:
        path.unlink()
    for path in list((tmp_path / "images").rglob("*.png"))[::2]:
        path.write_bytes(path.read_bytes()[:-4])
    again = finished(with_workers(tmp_path, 1, recipe, iterations=4))
    assert first[0] == again[0] == "finished"
    assert {name: content for name, content in images(tmp_path).items() if name in before} == before


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "is not the store's folder of images: "),
        (lambda folder: shared_images(folder.parent, ""), "is of another store"),
    ],
)
def test_a_worker_that_does_not_see_the_folder_cannot_start(tmp_path, make, said):
    make(tmp_path / "other" / "images")
    mark = shared_images(tmp_path / "store", "").mark
    recipe = ScriptedRecipe(shared=SharedImages(tmp_path / "other" / "images", mark))
    with pytest.raises(UsageError, match="the worker on there cannot start: .*" + said):
        Hands().begin(recipe, "there")


def test_the_mark_of_a_folder_stays(tmp_path):
    assert shared_images(tmp_path, "/a") == shared_images(tmp_path, "/a")


def test_a_recipe_shares_the_folder_that_settings_name(tmp_path):
    settings = load_settings(None, ray="local", worker_files="/shared/images")
    shared = recipe_of(settings, "model", None, assets=tmp_path, store=tmp_path).shared
    assert (str(shared.folder), shared.mark) == ("/shared/images", (tmp_path / "images/.shared").read_text())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ray": "local", "worker_files": "images"}, "'images' is no absolute path"),
        ({"worker_files": "/images"}, "worker_files is for workers on Ray"),
    ],
)
def test_a_folder_that_no_worker_can_see_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        load_settings(None, **options)
