"""A run in whose searches people intervened: what forks and replays have to do again."""

from pathlib import Path

from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.steering_queue import submit
from support.fakes import LAYER


def intervened(components: Components, store: Path) -> Run:
    """Work on two units; of unit 0 a concept is banned, tried, asked anew and pinned, and one tried at the end."""
    run = start(components, LAYER, ["0-1"])
    wanted = [("ban", "ant"), ("try", "red panda"), ("again", ""), ("pin", "")]

    def watch(progress):
        if progress.unit == 0 and progress.node == "propose" and progress.step in {1, 2, 7} and wanted:
            kind, concept = wanted.pop(0)
            first = next(one.concept for one in components.runs.steps(run.id, 0) if one.concept != "ant")
            submit(store, run.id, 0, kind, first if kind == "pin" else concept)

    work(components, run, watch)
    submit(store, run.id, 0, "try", "blue heron")
    return work(components, run)
