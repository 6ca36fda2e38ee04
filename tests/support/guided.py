"""A search over "thing 00" to "thing 40", whose neighbours are similar, with scripted parts."""

import numpy as np

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.language_models.registry import open_language_model
from support.fakes import LAYER, ScriptedTarget, scripted_components

CLASSES = tuple(f"thing {at:02}" for at in range(0, 40, 2))
WORDS = tuple(f"thing {at:02}" for at in range(41))


class Line:
    """Places "thing NN" at an angle, so that neighbours are similar."""

    fingerprint = "line"

    def encode(self, texts):
        angles = np.radians([6 * int(text.split()[-1]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def peaked(at, width=4.0):
    """Scores with a peak."""
    return ScriptedTarget({word: 10 * float(np.exp(-(((i - at) / width) ** 2))) for i, word in enumerate(WORDS)})


def components(store, llm="guided", *, target=None, model=None, **given):
    given = {"llm": llm, "summary": False, "iterations": 3, "top": 2, "random": 2} | given
    opened = scripted_components(store, model, target=target or peaked(17), classes=CLASSES, **given)
    if model is None:
        opened = opened.with_(
            language_model=open_language_model(
                llm, settings=opened.settings, assets=store, cache=None, words=tuple
            )
        )
    return opened.with_(text_encoder=Line(), candidates=WORDS)


def explain(store, *arguments, units=("0",), **options):
    opened = components(store, *arguments, **options)
    return opened, work(opened, start(opened, LAYER, units))


def proposals(opened, run, unit=0):
    return [step for step in opened.runs.steps(run.id, unit) if step.kind != "initial"]
