"""The image bank and MobileNetV2 in workers: the images, activations and labels of a single process."""

import sqlite3
from contextlib import closing

import pytest

from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from support.fakes import outcome

LAYER = "classifier.1"


def finished(assets, store, **options):
    settings = Settings(
        store=store, assets=assets, llm="random", generator="bank", control_images=1, iterations=1, summary=False,
        images=2, top=2, random=1, hints=0, max_concurrent_units=2, vocabulary_share=0.05, **options,
    )  # fmt: skip
    components = Components("torchvision:mobilenet_v2", settings, distributed=True)
    with closing(components):
        run = work(components, start(components, LAYER, ["3", "7"]))
        control = components.control(LAYER)
    with closing(sqlite3.connect(store / "bank.db")) as db:
        images = db.execute("SELECT prompt, seed, image, provenance FROM draws ORDER BY 1, 2").fetchall()
        vectors = db.execute("SELECT image, target, layer, vector FROM activations ORDER BY 1, 2, 3").fetchall()
    return run.status, outcome(components, run.id), images, vectors, control.activations.tobytes()


@pytest.mark.e2e
def test_two_workers_make_the_store_of_a_single_process(assets, tmp_path):
    plain = finished(assets, tmp_path / "plain")
    assert plain[0] == "finished"
    assert finished(assets, tmp_path / "workers", devices="cpu,cpu") == plain
