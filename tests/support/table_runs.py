"""Made-up runs whose tables can be worked out by hand."""

from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.lifecycle import recorded_settings
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.steering_queue import mark_applied, submit_all

MODEL, LAYER = "net:x", "head"

# By unit: the best score of the first board, then the scores of the iterations, then that of the summary.
SEARCHES = {
    0: (1.0, [0.5, 2.0, 3.0], 0.1),
    1: (2.0, [1.0, 1.0, 1.0], 4.0),
    2: (5.0, [1.0, 1.0, 1.0], 1.0),
    3: (1.0, [1.5, 1.0, 1.0], 1.0),
}


def add(store, name, searches=None, names=None, labels=None, layer=LAYER, **settings):
    """A finished run of made-up searches."""
    searches = searches or SEARCHES
    iterations = len(next(iter(searches.values()))[1])
    settings = recorded_settings(Settings(iterations=iterations, control="bank", **settings))
    run = Run(name, MODEL, layer, 0, "finished", 1.0, settings, {}, {}, finished=2.0)
    units, steps = [], []
    for place, (unit, (initial, scores, summary)) in enumerate(searches.items()):
        first = [("first", initial), ("other", initial - 1)]
        walked = [(f"step {n}", "iteration", score) for n, score in enumerate(scores, 1)]
        walked.append(("general", "summary", summary))
        kinds = {"iteration": "proposed", "summary": "summary"}
        every = [("first", "predefined", 0, initial)]
        for concept, score in first:
            steps.append(_step(name, unit, 0, len(steps), "initial", concept, score, "predefined", first))
        for n, (concept, kind, score) in enumerate(walked, 1):
            every.append((concept, kinds[kind], n, score))
            steps.append(_step(name, unit, n, 0, kind, concept, score, kinds[kind], first))
        label, origin, step, score = max(every, key=lambda one: one[3])
        units.append(
            Unit(
                name, unit, place, "finished", (names or {}).get(unit), (labels or {}).get(unit, label), score,
                origin, step, origin != "predefined", "first", initial, 0.5 + score / 20, score / 2,
            )
        )  # fmt: skip
    store.add_run(run, units)
    store.put_steps(steps)
    return run


def _step(run, unit, step, attempt, kind, concept, score, origin, board):
    return Step(
        run, unit, step, attempt, kind, "scored", concept, score, f"because of {concept}", origin=origin,
        board=tuple(board),
    )  # fmt: skip


def steer(store, name, unit, kind, concept="", outcome="granted"):
    """What a person asked of a unit of a made-up run, as the runner marks it when it is taken."""
    (wish,) = submit_all(store, store.run(name), unit, [(kind, concept)])
    mark_applied(store, name, wish.id, step=1, attempt=0, node="update", outcome=outcome)


def tables(report):
    """The rows of a report's tables by name, each a mapping by heading."""
    return {
        table.name: [dict(zip(table.headings, row, strict=True)) for row in table.rows] for table in report.tables
    }
