import sqlite3
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pytest

from line_neurons.agent.concepts import distinct
from line_neurons.agent.errors import BackendError, StoreError, UsageError
from line_neurons.agent.seeds import derive_seed
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.revisit import check_comparable, revisit, revisit_recorded
from line_neurons.tools.scorers import SCORERS
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.records import Run
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, said_by, scripted_components

CLASSES = ("gravel", "pebble", "sand")


@dataclass
class TableTarget(ScriptedTarget):
    """Each unit's activation on the images of a concept, by concept; 0 where the table has none."""

    table: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def activate(self, images, layers, progress=None):
        self.passes += len(images)
        rows = [self.table.get(said_by(image)[0], (0.0, 0.0, 0.0)) for image in images]
        return dict.fromkeys(layers, np.array(rows, np.float32).reshape(-1, 3))


def components_for(store, proposals, table, seed=0, **settings):
    """Parts of a run in which the unit proposes ``proposals[unit][step - 1]``."""
    asked = {
        derive_seed("ask", seed, unit, step, attempt): concept
        for unit, concepts in proposals.items()
        for step, concept in enumerate(concepts, 1)
        for attempt in range(4)
    }

    def answer(prompt, seed, temperature):
        if seed not in asked:
            raise BackendError("the model fell over")
        return asked[seed]

    # The classes of the control set are 0 unless the table says otherwise.
    defaults = {
        "iterations": 1, "summary": False, "top": 2, "random": 0, "images": 2, "seed": seed, "label_dead": True,
    }  # fmt: skip
    return scripted_components(
        store, ScriptedModel(answer), target=TableTarget(table=table), classes=CLASSES, **(defaults | settings)
    )


def ran(store, proposals, table, units=("0-2",), **settings):
    components = components_for(store, proposals, table, **settings)
    return components, work(components, start(components, LAYER, units))


def revisited(components, *runs):
    return revisit(components.deps(LAYER), runs)


def rows(components, run):
    """What is recorded of the units and their histories, but for places and times."""
    left_out = {"position", "seconds"}
    units = {unit.unit: asdict(unit) for unit in components.runs.units(run.id)}
    history = {
        number: [asdict(step) | {"created": 0} for step in components.runs.steps(run.id, number)]
        for number in units
    }
    for step in (step for steps in history.values() for step in steps):
        step["seconds"] = None
    return {
        number: {k: v for k, v in unit.items() if k not in left_out} for number, unit in units.items()
    }, history


FOX_FOR_BOTH = {"red fox": (5, 9, 1), "barn owl": (1, 4, 1), "teapot": (0, 0, 7), "pebble": (2, 2, 2)}
# No class ties with another for the first board.
FOX_FOR_BOTH |= {"gravel": (0.5, 0.5, 0.5)}
EACH_ITS_OWN = {0: ["red fox"], 1: ["barn owl"], 2: ["teapot"]}


@pytest.fixture
def batch(tmp_path):
    """Unit 0 finds what is better for unit 1 too."""
    return ran(tmp_path, EACH_ITS_OWN, FOX_FOR_BOTH)


def test_a_better_concept_of_another_unit_becomes_the_label_with_its_evidence(batch):
    components, run = batch
    drawn, passes = len(components.generator.drawn), components.target.passes
    answer = revisited(components, run)
    found = [(one.unit, one.label, one.search_label, one.found_by, one.found_in) for one in answer]
    assert found == [
        (0, "red fox", "red fox", None, None),
        (1, "red fox", "barn owl", 0, run.id),
        (2, "teapot", "teapot", None, None),
    ]
    source, unit, _ = components.runs.units(run.id)
    assert (unit.label, unit.score, unit.search_label, unit.search_score) == ("red fox", 9, "barn owl", 4)
    assert (unit.origin, unit.label_step, unit.found_by, unit.found_in) == ("revisit", None, 0, run.id)
    assert (unit.second_label, unit.second_score, unit.margin) == ("barn owl", 4, 9 - 2)
    assert (unit.images, unit.auc, unit.discovered) == (source.images, 1.0, True)
    assert (source.origin, source.label_step, source.found_by) == ("proposed", 1, None)
    assert (len(components.generator.drawn), components.target.passes) == (drawn, passes)


def test_the_history_tells_where_the_label_came_from_and_keeps_the_board(batch):
    components, run = batch
    before = components.runs.steps(run.id, 1)
    revisited(components, run)
    *search, entry = components.runs.steps(run.id, 1)
    assert search == before
    assert (entry.step, entry.attempt, entry.kind, entry.outcome) == (2, 0, "revisit", "scored")
    assert (entry.concept, entry.score, entry.origin) == ("red fox", 9, "revisit")
    assert entry.images == components.runs.units(run.id)[1].images
    assert entry.board == before[-1].board
    # Two classes on each board, the same for all units, and the three proposals.
    assert entry.detail == {"found_by": 0, "found_in": run.id, "compared": 5}
    assert {step.kind for unit in (0, 2) for step in components.runs.steps(run.id, unit)} == {
        "initial",
        "iteration",
    }
    event = components.runs.events(run.id)[-1]
    assert (event["kind"], event["detail"]) == (
        "revisited",
        {"units": 3, "better": 1, "compared": 5, "runs": [run.id]},
    )


def test_nothing_depends_on_the_order_of_the_units(tmp_path):
    results = []
    for order in (["0-2"], ["2", "1", "0"], ["1", "2", "0"]):
        components, run = ran(tmp_path / "".join(order), EACH_ITS_OWN, FOX_FOR_BOTH, order)
        assert [one.unit for one in revisited(components, run)] == [
            unit.unit for unit in components.runs.units(run.id)
        ]
        results.append(rows(components, run))
    assert results[0] == results[1] == results[2]


def test_revisiting_again_changes_nothing(batch):
    components, run = batch
    revisited(components, run)
    once = rows(components, run)
    revisited(components, run)
    assert rows(components, run) == once


def test_a_revisit_starts_from_the_search_whatever_was_revisited_before(tmp_path):
    table = {"red fox": (5, 9, 1), "barn owl": (8, 4, 1)}
    components, first = ran(tmp_path, {0: ["red fox"]}, table, ["0"])
    second = work(other := components_for(tmp_path, {1: ["barn owl"]}, table, seed=1), start(other, LAYER, ["1"]))
    untouched = rows(components, first), rows(components, second)
    revisited(components, first, second)
    one, two = (components.runs.units(run.id)[0] for run in (first, second))
    assert (one.label, one.found_by, one.found_in) == ("barn owl", 1, second.id)
    assert (two.label, two.found_by, two.found_in) == ("red fox", 0, first.id)
    together = rows(components, first), rows(components, second)
    revisited(components, first)
    assert components.runs.units(first.id)[0].label == "red fox"
    revisited(components, second)
    assert (rows(components, first), rows(components, second)) == untouched
    # In the other order, and with a run named twice.
    assert [one.run for one in revisited(components, second, first, second)] == [second.id, first.id]
    assert (rows(components, first), rows(components, second)) == together


@pytest.fixture
def two_runs(tmp_path):
    """Unit 0 of the first run finds what is better for unit 1 of the second, whose vocabulary had it."""
    words = tmp_path / "words.txt"
    words.write_text("red fox\nteapot\ngravel\n")
    table = {"red fox": (5, 9, 1), "barn owl": (1, 4, 1)}
    first, run = ran(tmp_path, {0: ["red fox"]}, table, ["0"])
    options = {"init": "vocabulary", "vocabulary": words, "control": "none", "exclude_for": {1: ["red fox"]}}
    second, other = ran(tmp_path, {1: ["barn owl"]}, table, ["1"], seed=1, **options)
    words.unlink()
    return (first, run), (second, other)


def test_another_run_s_own_control_set_and_vocabulary_count_for_its_units(two_runs):
    (components, first), (plain, second) = two_runs
    own = {second.id: plain.deps(LAYER, second.vocabulary)}
    revisit(components.deps(LAYER), [first, second], own=own)
    unit = components.runs.units(second.id)[0]
    assert (unit.label, unit.auc, unit.discovered) == ("red fox", None, False)
    assert components.runs.units(first.id)[0].auc is not None


def test_recorded_runs_are_opened_with_one_target_and_revisited_each_with_its_own_record(two_runs, monkeypatch):
    (components, first), (_, second) = two_runs
    opened = []

    def reopened(run, *_):
        opened.append(run.id)
        return components

    monkeypatch.setattr("line_neurons.graphs.runs.revisit.reopen", reopened)
    answer = revisit_recorded([first, second], components.store, None)
    assert opened == [first.id]
    assert [(one.unit, one.label, one.found_in) for one in answer] == [
        (0, "red fox", None),
        (1, "red fox", first.id),
    ]
    assert components.runs.units(second.id)[0].discovered is False


def test_a_recorded_run_that_is_worked_on_or_whose_control_set_changed_is_not_revisited(two_runs, monkeypatch):
    (components, first), (_, second) = two_runs
    monkeypatch.setattr("line_neurons.graphs.runs.revisit.reopen", lambda *_: components)
    with acquire(components.runs, [second.id]), pytest.raises(UsageError, match=f"{second.id} is in use"):
        revisit_recorded([first, second], components.store, None)
    changed = replace(second, fingerprints=second.fingerprints | {"control": "another"})
    with pytest.raises(UsageError, match=f"control set none of run {second.id} has changed"):
        revisit_recorded([first, changed], components.store, None)
    assert [unit.origin for unit in components.runs.units(second.id)] == ["proposed"]


def test_of_equally_good_concepts_the_first_by_its_text_counts_and_the_unit_s_own_before_all(tmp_path):
    table = {"red fox": (1, 9, 5), "ant": (3, 9, 5), "barn owl": (0, 4, 0), "teapot": (0, 0, 5)}
    components, run = ran(
        tmp_path, {0: ["red fox", "ant"], 1: ["barn owl", "x"], 2: ["teapot", "y"]}, table, iterations=2
    )
    revisited(components, run)
    _, one, two = components.runs.units(run.id)
    assert (one.label, one.second_label) == ("ant", "red fox")
    assert (two.label, two.found_by, two.second_label) == ("teapot", None, "ant")


def test_a_label_is_credited_to_the_lowest_unit_that_found_it(tmp_path):
    proposals = {0: ["barn owl"], 1: ["red fox"], 2: ["red fox"]}
    components, run = ran(tmp_path, proposals, {"red fox": (9, 5, 5), "barn owl": (4, 0, 0)}, ["2", "1", "0"])
    revisited(components, run)
    unit = next(unit for unit in components.runs.units(run.id) if unit.unit == 0)
    assert (unit.label, unit.found_by) == ("red fox", 1)


def test_of_several_runs_the_first_by_its_name_is_credited(tmp_path):
    table = {"red fox": (5, 9, 5), "barn owl": (0, 4, 0)}
    components, first = ran(tmp_path, {2: ["red fox"]}, table, ["2"])
    _, second = ran(tmp_path, {0: ["red fox"], 1: ["barn owl"]}, table, ["0-1"])
    revisited(components, second, first)
    unit = components.runs.units(second.id)[1]
    assert (unit.label, unit.found_in, unit.found_by) == ("red fox", first.id, 2)


def test_a_failed_unit_is_a_source_and_is_left_as_it_is(tmp_path):
    proposals = {0: ["red fox"], 1: ["barn owl", "teapot"]}
    components, run = ran(tmp_path, proposals, FOX_FOR_BOTH, ["0-1"], iterations=2, max_consecutive_failures=5)
    failed, _ = components.runs.units(run.id)
    assert failed.status == "failed"
    assert [one.unit for one in revisited(components, run)] == [1]
    assert [unit.label for unit in components.runs.units(run.id)] == [None, "red fox"]
    assert components.runs.units(run.id)[0] == failed


def test_a_run_without_a_finished_unit_is_left_as_it_is(tmp_path):
    components = components_for(tmp_path, {}, {})
    run = start(components, LAYER, ["0"])
    events = components.runs.events(run.id)
    assert revisited(components, run) == []
    assert components.runs.events(run.id) == events


def test_images_whose_vectors_were_lost_are_measured_again_and_not_drawn(batch, tmp_path):
    components, run = batch
    revisited(components, run)
    whole, drawn, passes = rows(components, run), len(components.generator.drawn), components.target.passes
    with sqlite3.connect(tmp_path / "bank.db") as bank:
        bank.execute("DELETE FROM activations")
    revisited(components, run)
    assert rows(components, run) == whole
    assert (len(components.generator.drawn), components.target.passes - passes) == (drawn, 5 * 2)


def test_a_unit_is_never_its_own_source_though_a_lost_vector_is_measured_a_little_higher(batch, tmp_path):
    components, run = batch
    with sqlite3.connect(tmp_path / "bank.db") as bank:
        bank.execute("DELETE FROM activations")
    components.target.table = {
        concept: tuple(v * 1.001 for v in values) for concept, values in FOX_FOR_BOTH.items()
    }
    assert [one.found_by for one in revisited(components, run)] == [None, 0, None]
    assert [unit.score for unit in components.runs.units(run.id)] == [5, pytest.approx(9.009), 7]


def test_a_revisit_that_breaks_off_changes_nothing(batch, monkeypatch):
    components, run = batch
    before = rows(components, run)

    def full(*_, **__):
        raise StoreError("the disk is full")

    monkeypatch.setattr(components.runs, "add_event", full)
    with pytest.raises(StoreError):
        revisited(components, run)
    assert rows(components, run) == before


def test_the_progress_ends_when_all_concepts_are_compared_twice(batch, monkeypatch):
    monkeypatch.setattr("line_neurons.graphs.runs.cross_scores._IMAGES_AT_ONCE", 4)
    components, run = batch
    told = []
    revisit(components.deps(LAYER), [run], lambda done, total: told.append((done, total)))
    assert told == [(2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]


@pytest.mark.parametrize("at_once", [2, 512])
@pytest.mark.parametrize("scorer", SCORERS)
def test_labels_and_second_best_are_the_best_of_all_concepts(tmp_path, monkeypatch, scorer, at_once):
    monkeypatch.setattr("line_neurons.graphs.runs.cross_scores._IMAGES_AT_ONCE", at_once)
    rng = np.random.default_rng(at_once)
    words = ["red fox", "fox cub", "cub scout", "scout", "red", "owl", "owl nest", "nest", "ant", *CLASSES]
    # Few distinct values, so that ties are common; each class has an image in the control set.
    table = {word: tuple(rng.integers(0, 4, 3).tolist()) for word in words}
    proposals = {unit: rng.permutation(words[:9])[:4].tolist() for unit in range(3)}
    components, run = ran(tmp_path, proposals, table, iterations=4, scorer=scorer)
    before = components.runs.units(run.id)
    revisited(components, run)
    control = np.array([table[name] for name in CLASSES], np.float32)

    def value(concept, unit):
        return SCORERS[scorer].one(np.full(2, table[concept][unit], np.float32), control[:, unit])

    scored = {step.concept for unit in range(3) for step in components.runs.steps(run.id, unit) if step.concept}
    for search, unit in zip(before, components.runs.units(run.id), strict=True):
        best = min(scored, key=lambda concept: (-value(concept, unit.unit), concept))
        label = best if value(best, unit.unit) > search.score else search.label
        others = [concept for concept in scored if distinct(concept, label)]
        second = min(others, key=lambda concept: (-value(concept, unit.unit), concept))
        assert (unit.label, unit.score) == (label, value(label, unit.unit))
        assert (unit.second_label, unit.second_score) == (second, value(second, unit.unit))


RUN = Run(
    "a", "m", LAYER, 0, "finished", 0.0,
    {"scorer": "mean", "images": 5, "template": "{concept}", "modifiers": "per-image", "generator": "sdxl",
     "control": "bank"},
    {"target": "t", "generator": "g", "control": "c"}, {},
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprints": {"target": "u"}}, "runs a and b differ in their target"),
        ({"fingerprints": {"target": "u"}, "model": "n"}, "target: 'm' and 'n'"),
        ({"layer": "neck"}, "layer: 'head' and 'neck'"),
        ({"fingerprints": {"generator": "h"}}, "generator"),
        ({"settings": {"scorer": "auc"}}, "scorer: 'mean' and 'auc'"),
        ({"settings": {"images": 4}}, "images: 5 and 4"),
        ({"settings": {"template": "a {concept}"}}, "template"),
        ({"settings": {"modifiers": "per-concept"}}, "modifiers"),
    ],
)
def test_runs_whose_scores_mean_something_else_are_refused_with_what_differs(changes, message):
    def other(name):
        nested = {
            key: {**getattr(RUN, key), **changes[key]} for key in ("settings", "fingerprints") if key in changes
        }
        return replace(RUN, id=name, **(changes | nested))

    check_comparable([other("b"), other("c")])
    with pytest.raises(UsageError, match=message):
        check_comparable([RUN, replace(RUN, id="a2"), other("b")])


@pytest.mark.parametrize(("scorer", "fits"), [("mean", True), ("auc", False), ("mad", False)])
def test_control_sets_have_to_be_the_same_only_where_the_scorer_compares_with_them(scorer, fits):
    one = replace(RUN, settings=RUN.settings | {"scorer": scorer})
    two = replace(one, id="b", fingerprints=RUN.fingerprints | {"control": "d"})
    if fits:
        check_comparable([one, two])
    else:
        with pytest.raises(UsageError, match="control set"):
            check_comparable([one, two])
