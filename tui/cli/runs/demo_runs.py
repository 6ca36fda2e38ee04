"""Runs of the demo: what they label, and those that a store has; imports nothing that takes time."""

from __future__ import annotations

from line_neurons.agent.settings import Settings
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore

DEMO_MODEL = "torchvision:mobilenet_v2@IMAGENET1K_V1"
DEMO_COMMAND = "line demo"
# Layer and units: classes whose names tell whether the label is right, and units of the layer before (its mean
# over positions is what the classifier sees), the first three of random.seed(42), random.sample(range(1280), 50).
DEMO_UNITS = (
    ("classifier.1", ("castle", "violin", "killer whale")),
    ("features.18", ("228", "51", "563")),
)


def earlier_runs(known: RunStore, settings: Settings) -> list[Run]:
    """Return the last run of each layer of a demo with this language model and seed, in the demo's order."""
    last: dict[str, Run] = {}
    for run in known.runs():
        same = (run.command, run.settings.get("llm"), run.seed) == (DEMO_COMMAND, settings.llm, settings.seed)
        if same and known.states(run.id):
            last.setdefault(run.layer, run)
    return [last[layer] for layer, _ in DEMO_UNITS if layer in last]
