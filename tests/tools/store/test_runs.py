import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.tools.store.records import Run, Step, Trial, Unit
from line_neurons.tools.store.runs import SCHEMA_NUMBER, RunStore
from line_neurons.tools.store.schema import SCHEMA

RUN = Run(
    "r-1", "torchvision:x", "head", 7, "interrupted", 1.0, {"llm": "random"}, {"target": "t"}, {"torch": "2"}
)
UNITS = [Unit("r-1", 5, 0, name="cat"), Unit("r-1", 3, 1)]


@pytest.fixture
def store(tmp_path):
    opened = RunStore(tmp_path)
    opened.add_run(RUN, UNITS)
    return opened


def test_a_run_and_its_units_come_back_as_they_were_in_the_order_asked_for(store):
    assert store.run("r-1") == RUN
    assert store.units("r-1") == UNITS


def test_the_vocabulary_and_changed_columns_come_back_as_they_were(store):
    store.add_run(Run(**{**vars(RUN), "id": "r-2", "vocabulary": ("cat", "'); --")}), [])
    store.update_run("r-2", settings={"llm": "other"}, status="running")
    kept = store.run("r-2")
    assert (kept.vocabulary, kept.settings, kept.status) == (("cat", "'); --"), {"llm": "other"}, "running")


def test_a_store_of_an_earlier_schema_can_be_looked_at_as_it_is(tmp_path):
    db = Database(tmp_path / "runs.db")
    SCHEMA.apply(db, stop_before="m002_vocabulary_and_model_of_each_step")
    db["runs"].insert({"id": "old", "model": "m", "layer": "l", "seed": 1, "status": "finished", "created": 1.0})
    db.close()
    before = (tmp_path / "runs.db").read_bytes()
    assert RunStore(tmp_path, read_only=True).run("old").vocabulary is None
    assert (tmp_path / "runs.db").read_bytes() == before
    assert RunStore(tmp_path).run("old").model == "m"


def test_a_run_is_written_whole_or_not_at_all(store):
    with pytest.raises(StoreError):
        store.add_run(Run(**{**vars(RUN), "id": "r-2"}), [Unit("r-2", 1, 0), Unit("r-2", 1, 1)])
    assert [run.id for run in store.runs()] == ["r-1"]


def test_a_unit_needs_its_run(store):
    with pytest.raises(StoreError):
        store.put_step(Step("nothing", 1, 0, 0, "initial", "scored"))


def test_a_step_comes_back_whole_and_is_replaced_when_written_again(store):
    step = Step(
        "r-1", 5, 1, 0, "iteration", "scored", "fox", 1.5, "because", "{}", "proposed", ("a", "b"),
        (("fox", 1.5),), "cat", 9, 0.5, 0.25, "model", {"reason": "x"}, 3.0,
    )  # fmt: skip
    store.put_step(step)
    assert store.steps("r-1", 5) == [step]
    store.put_step(Step("r-1", 5, 1, 0, "iteration", "duplicate", "fox", created=4.0))
    assert [(s.outcome, s.score) for s in store.steps("r-1", 5)] == [("duplicate", None)]


@given(st.text(), st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_is_kept_as_data(tmp_path_factory, concept, reasoning, score):
    concept, reasoning = (text.encode("utf-8", "ignore").decode() for text in (concept, reasoning))
    store = RunStore(tmp_path_factory.mktemp("store"))
    store.add_run(RUN, UNITS)
    store.put_step(
        Step("r-1", 5, 1, 0, "iteration", "scored", concept, score, reasoning, board=((concept, score),))
    )
    kept = store.steps("r-1", 5)[0]
    assert (kept.concept, kept.reasoning, kept.score, kept.board) == (
        concept,
        reasoning,
        score,
        ((concept, score),),
    )
    assert len(store.runs()) == 1


def test_a_run_is_found_by_the_beginning_of_its_name_if_that_is_unique(store):
    store.add_run(Run(**{**vars(RUN), "id": "r-12"}), [])
    assert store.run("r-1").id == "r-1"
    assert store.run("r-12").id == "r-12"
    for name in ("r", "", "x", "r-1'; drop table runs; --", "\udcff"):
        with pytest.raises(UsageError) as caught:
            store.run(name)
        assert "r-1" in caught.value.remedy
    assert len(store.runs()) == 2


def test_a_viewer_reads_while_the_runner_writes_and_cannot_write(store, tmp_path):
    viewer = RunStore(tmp_path, read_only=True)
    store.update_unit("r-1", 5, status="finished", label="fox", discovered=True)
    seen = viewer.units("r-1")[0]
    assert (seen.status, seen.label, seen.discovered) == ("finished", "fox", True)
    assert viewer.progress("r-1") == (1, 2)
    with pytest.raises(StoreError):
        viewer.update_unit("r-1", 5, label="owl")


def test_events_are_kept_in_order_and_can_be_followed(store):
    for kind in ("work", "stopped", "work"):
        store.add_event("r-1", kind, process=1)
    events = store.events("r-1")
    assert [event["kind"] for event in events] == ["work", "stopped", "work"]
    assert store.events("r-1", after=events[1]["id"]) == events[2:]


def test_a_store_is_looked_at_with_the_schema_that_it_is_written_with():
    assert [one.name[:4] for one in SCHEMA._migrations] == [f"m{n:03}" for n in range(1, SCHEMA_NUMBER + 1)]


def test_a_newer_store_is_refused_and_left_as_it_is(tmp_path):
    RunStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "runs.db") as db:
        db.execute("insert into _sqlite_migrations values (99, 'line-runs', 'm999_future', '2040-01-01')")
        before = list(db.iterdump())
    with pytest.raises(StoreError, match="newer version"):
        RunStore(tmp_path)
    with sqlite3.connect(tmp_path / "runs.db") as db:
        assert list(db.iterdump()) == before


def test_the_margin_is_over_the_best_initial_label():
    assert Unit("r", 0, 0, score=3.0, initial_score=2.0).margin == 1.0
    assert Unit("r", 0, 0).margin is None


def test_trials_are_the_searches_of_all_units_in_order_without_revisits(store, monkeypatch):
    monkeypatch.setattr("line_neurons.tools.store.runs._TRIALS_AT_ONCE", 2)
    kept = {}
    for unit in (5, 3):
        for step, attempt in ((1, 1), (0, 0), (1, 0), (2, 0)):
            kept[unit, step, attempt] = Trial(unit, step, attempt, "iteration", "fox", 1.5, "proposed", ("a", "b"))
            store.put_step(
                Step("r-1", unit, step, attempt, "iteration", "scored", "fox", 1.5, "because", origin="proposed",
                     images=("a", "b"))
            )  # fmt: skip
        store.put_step(Step("r-1", unit, 3, 0, "revisit", "scored", "owl", 2.0))
    store.put_step(Step("r-1", 7, 0, 0, "initial", "invalid"))
    refused = Trial(7, 0, 0, "initial", None, None, None, ())
    assert list(store.trials("r-1")) == [*(kept[place] for place in sorted(kept)), refused]
    assert list(store.trials("r-1", 5)) == [kept[place] for place in sorted(kept) if place[0] == 5]
    assert list(store.trials("r-1", 4)) == []


def test_steps_of_one_kind_can_be_dropped(store):
    for step, kind in enumerate(("initial", "iteration", "revisit")):
        store.put_step(Step("r-1", 5, step, 0, kind, "scored", "fox", 1.0))
    store.drop_steps("r-1", "revisit")
    assert [step.kind for step in store.steps("r-1", 5)] == ["initial", "iteration"]


def test_what_is_written_together_is_written_whole_or_not_at_all(store, tmp_path):
    viewer = RunStore(tmp_path, read_only=True)

    def write():
        store.update_unit("r-1", 5, label="fox")
        store.put_step(Step("r-1", 5, 0, 0, "initial", "scored", "fox", 1.0))
        assert viewer.units("r-1")[0].label is None

    with pytest.raises(StoreError), store.atomic():
        write()
        store.add_event("nothing", "work")
    assert (store.units("r-1"), store.steps("r-1", 5)) == (UNITS, [])
    with store.atomic():
        write()
    assert viewer.units("r-1")[0].label == "fox"


def test_the_former_place_of_the_store_can_be_imported_for_one_more_release():
    from line_neurons.tools import run_store

    assert run_store.RunStore is RunStore
