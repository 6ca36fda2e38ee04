"""A run with a unit for each of some texts, and that text wherever a store holds one: what reports are made of."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing

import numpy as np

from line_neurons.agent.ports import Control
from line_neurons.agent.settings import Settings
from line_neurons.agent.text import storable_text
from line_neurons.graphs.runs.lifecycle import recorded_settings
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.cache.reader import control_key
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import submit
from support.store_factory import painted

RUN, LAYER = "net-head-1", "head"
TARGET, CONTROL = "net 0123", "control 4567"
IMAGES = 3


def write(store, texts, *, control="bank", control_fingerprint=CONTROL, **settings):
    """Write the run; of each unit every kind of step, a restart, and a wish that waits."""
    texts = [storable_text(text) for text in texts]
    images = _images(store, texts)
    with closing(RunStore(store)) as runs:
        known = recorded_settings(Settings(iterations=3, control=control, restarts=1, **settings))
        fingerprints = {"target": TARGET, "generator": texts[0], "language_model": texts[0],
                        "control": control_fingerprint}  # fmt: skip
        run = Run(
            RUN, f"module:{texts[0]}", LAYER, 0, "finished", 1.0, known, fingerprints, {"torch": texts[0]},
            f"line batch {texts[0]}", finished=62.0, error=texts[0],
        )  # fmt: skip
        runs.add_run(run, [_unit(place, text, images) for place, text in enumerate(texts)])
        runs.put_steps([step for place, text in enumerate(texts) for step in _steps(place, text, images)])
    submit(store, RUN, 0, "pin", "owl")


def _images(store, texts):
    """Three images, measured for as many units as there are texts; and control activations of 12 images."""
    contents = [painted(f"concept {number}", number) for number in range(IMAGES)]
    images = [hashlib.sha256(content).hexdigest() for content in contents]
    with closing(Cache(store)) as bank:
        for number, (image, content) in enumerate(zip(images, contents, strict=True)):
            path = store / "images" / image[:2] / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            subject = {"caption": texts[-1], "similarity": 0.5, "file": texts[-1]}
            vector = np.full(len(texts), number + 0.5, "<f4").tobytes()
            with bank._folder.transaction() as db:
                account = json.dumps({"subjects": [subject]})
                db.execute(
                    "INSERT INTO draws VALUES (?, ?, ?, ?, ?, '{}', ?, NULL)",
                    (
                        "painter",
                        texts[-1].encode("utf-8", "replace").decode(),
                        number,
                        image,
                        len(content),
                        account,
                    ),
                )
                db.execute(
                    "INSERT INTO activations VALUES (?, ?, ?, ?, NULL, NULL)", (image, TARGET, LAYER, vector)
                )
        rows = np.arange(12, dtype=np.float32)[:, None] + np.zeros((1, len(texts)), np.float32)
        names = tuple(f"{texts[number % len(texts)]} {number}" for number in range(6))
        bank.put_control(control_key(TARGET, LAYER, CONTROL), Control(names, np.arange(12) % 6, rows))
    return tuple(images)


def _unit(number, text, images):
    return Unit(
        RUN, number, number, "finished", text, text, 3.0 + number, "proposed", 2, True, text, 1.0, 0.9, 2.0, 60.0,
        text, images, text, 2.0, 7, None, None, text, 3.0 + number,
    )  # fmt: skip


def _steps(number, text, images):
    board = ((text, 3.0 + number), ("owl", 0.5))

    def step(at, attempt, kind, outcome, score=None, **more):
        given = {"reasoning": text, "reply": text, "board": board if score is not None else (), "model": text,
                 "concept": text, "images": images if score is not None else (), **more}  # fmt: skip
        return Step(
            RUN, number, at, attempt, kind, outcome, score=score, seconds=1.5, temperature=0.5, seed=1, **given
        )

    return [
        step(0, 0, "initial", "scored", 1.0, origin="predefined", reasoning="", reply=""),
        step(0, 1, "initial", "scored", 0.5, origin="predefined", concept="owl", images=(images[0], "0" * 64)),
        step(1, 0, "iteration", "invalid", concept=None, detail={"reason": text}),
        step(1, 1, "iteration", "duplicate", detail={"reason": text}),
        step(1, 2, "iteration", "not_drawable", detail={"nearest": [[text, 0.1]]}),
        step(1, 3, "iteration", "withdrawn"),
        step(1, 4, "iteration", "stalled", concept=None),
        step(2, 0, "iteration", "scored", 3.0 + number, origin="proposed", removed=text),
        step(3, 0, "summary", "scored", 2.0, origin="summary", concept=f"{text} again", removed="owl"),
        step(4, 0, "initial", "scored", 0.2, origin="predefined", concept="fox"),
        step(5, 0, "iteration", "scored", 2.5, origin="typed", concept="red fox", removed=text),
    ]
