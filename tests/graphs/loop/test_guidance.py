"""A search that learns: ``--llm guided`` and ``near``, hints by improvement, and ``--until``."""

import pytest
from langgraph.runtime import RunControl

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.reconstruct import recorded_prompt, state_after
from line_neurons.graphs.runs.fork import fork
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.reopening import refuse_changed
from line_neurons.tools.language_models.registry import open_language_model
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, outcome, scripted_components
from support.guided import WORDS, components, explain, peaked, proposals


def test_guided_finds_a_peak_between_the_control_classes_without_a_language_model(tmp_path):
    opened, run = explain(tmp_path)
    unit = opened.runs.units(run.id)[0]
    assert (unit.label, unit.discovered) == ("thing 17", True)
    first = proposals(opened, run)[0]
    assert first.reasoning.startswith("Highest expected improvement of 41 candidates: ")
    assert (first.model, first.prompt, first.reply) == ("guided", None, "")
    guidance = first.detail["guidance"]
    assert guidance["score"] == pytest.approx(first.score, abs=2)
    assert guidance["knows"] > 0.5
    assert guidance["candidates"][0] == [first.concept, guidance["improvement"]]
    assert len(guidance["candidates"]) == 5


def test_near_takes_the_nearest_to_the_best_three(tmp_path):
    opened, run = explain(tmp_path, "near")
    first = proposals(opened, run)[0]
    assert first.reasoning == "Nearest of 41 candidates to the best concepts."
    # The board's best are 18, 16 and 10; of equally near ones the first.
    assert first.concept == "thing 09"
    assert first.detail is None


def test_nothing_is_proposed_twice_and_a_search_of_all_candidates_stalls(tmp_path):
    opened, run = explain(tmp_path, iterations=40, retries=0)
    steps = proposals(opened, run)
    concepts = [step.concept for step in steps if step.outcome == "scored"]
    assert len(set(concepts)) == len(concepts) == len(WORDS) - 4
    assert {step.outcome for step in steps[len(concepts) :]} == {"invalid", "stalled"}
    assert "every candidate was tried" in steps[len(concepts)].detail["reason"]


def test_what_cannot_be_generated_is_refused_and_the_next_best_taken(tmp_path):
    opened, run = explain(tmp_path, generator=ScriptedGenerator(unknown=frozenset({"thing 17"})), iterations=1)
    assert [(step.outcome, step.concept) for step in proposals(opened, run)][:1] != [("scored", "thing 17")]
    assert opened.runs.units(run.id)[0].label in {"thing 16", "thing 18"}


def test_choices_do_not_depend_on_which_units_are_searched_beside_or_before(tmp_path):
    alone = [explain(tmp_path / str(unit), units=(str(unit),)) for unit in range(3)]
    together, run = explain(tmp_path / "all", units=("2", "0", "1"), max_concurrent_units=3)
    in_turn, other = explain(tmp_path / "turn", units=("1", "2", "0"))
    for unit, (opened, own) in enumerate(alone):
        expected = [(s.concept, s.score, s.detail) for s in opened.runs.steps(own.id, unit)]
        assert [(s.concept, s.score, s.detail) for s in together.runs.steps(run.id, unit)] == expected
        assert [(s.concept, s.score, s.detail) for s in in_turn.runs.steps(other.id, unit)] == expected


def test_a_class_kept_off_the_board_is_not_learnt_from(tmp_path):
    target = peaked(30)
    guesses = []
    for excluded in ("thing 10", "thing 30"):
        model = ScriptedModel(["thing 31"])
        opened, run = explain(
            tmp_path / excluded, "random", target=target, model=model, iterations=1, hints_by="improvement",
            top=0, random=2, exclude_for={0: (excluded,)},
        )  # fmt: skip
        guesses.append(proposals(opened, run)[0].detail["guidance"])
    seen, blind = guesses
    assert seen["score"] > blind["score"] + 0.1


def test_a_unit_that_the_model_knows_nothing_of_is_searched_by_nearness_and_says_so(tmp_path):
    # Neighbours differ as much as they can: what is predicted from the others is always wrong.
    target = ScriptedTarget({word: float(at // 2 % 2) for at, word in enumerate(WORDS)})
    opened, run = explain(tmp_path, target=target, iterations=1)
    (step,) = proposals(opened, run)
    assert step.reasoning.startswith("The response model knows nothing of this unit. Nearest of 41 candidates")
    assert step.detail["guidance"]["by"] == "nearness"
    assert step.detail["guidance"]["knows"] <= 0


def test_hints_by_improvement_come_best_first_and_in_the_prompt(tmp_path):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed % 41}")
    opened, run = explain(tmp_path, "random", model=model, hints_by="improvement", hints=3, iterations=1)
    step = proposals(opened, run)[0]
    hints = step.detail["hints"]
    assert hints == [name for name, _ in step.detail["guidance"]["candidates"][:3]]
    assert f"for example: {', '.join(hints)}\n" in model.asked[0][0].messages[-1].content
    assert recorded_prompt(opened.runs, run.id, 0, 1).matches
    assert step.detail["guidance"]["score"] is not None


def test_without_guidance_nothing_of_it_is_opened_or_recorded(tmp_path):
    opened = scripted_components(tmp_path, ScriptedModel(["owl"]), iterations=1, summary=False)
    run = work(opened, start(opened, LAYER, ("0",)))
    assert not {"text_encoder", "candidates"} & opened.opened().keys()
    assert "guide" not in run.fingerprints
    assert proposals(opened, run)[0].detail is None


def test_until_ends_a_search_once_little_is_to_be_expected(tmp_path):
    patient, run = explain(tmp_path / "all", iterations=20)
    ended, other = explain(tmp_path / "until", iterations=20, until=0.01)
    few, many = proposals(ended, other), proposals(patient, run)
    assert 0 < len(few) < len(many)
    assert [step.concept for step in few] == [step.concept for step in many[: len(few)]]
    best = [max(score for _, score in step.board) for step in few]
    assert few[-1].detail["expected"] < 0.01 * best[-1]
    assert all(step.detail["expected"] >= 0.01 * top for step, top in list(zip(few, best, strict=True))[:-1])
    assert ended.runs.units(other.id)[0].label == "thing 17"


def test_the_state_after_a_step_is_reconstructed_with_what_is_expected(tmp_path):
    opened, run = explain(tmp_path, iterations=20, until=0.01)
    history = opened.runs.steps(run.id, 0)
    last = history[-1].step
    assert state_after(opened.settings, history, [], last)["kind"] == "end"
    assert state_after(opened.settings, history, [], last - 1)["kind"] == "iteration"


def test_a_fork_of_a_language_models_run_is_guided(tmp_path):
    model = ScriptedModel(lambda prompt, seed, temperature: "owl 3" if seed % 2 else "crow 5")
    _, run = explain(tmp_path, "random", model=model, iterations=1)
    guided = components(tmp_path, iterations=3)
    forked = work(guided, fork(guided, run, 0, 1))
    steps = proposals(guided, forked)
    assert [step.model for step in steps] == ["scripted model", "guided", "guided"]
    # It learns from what the language model's concepts scored, too.
    assert guided.runs.units(forked.id)[0].label == "thing 17"


def test_a_resumed_search_chooses_as_an_uninterrupted_one(tmp_path):
    whole, run = explain(tmp_path / "whole", until=0.0001, iterations=6)
    opened, drain = components(tmp_path / "parts", until=0.0001, iterations=6), RunControl()
    started = start(opened, LAYER, ("0",))

    def stop(progress):
        if progress.step >= 2:
            drain.request_drain("far enough")

    assert work(opened, started, stop, drain).status == "interrupted"
    again = components(tmp_path / "parts", until=0.0001, iterations=6)
    work(again, again.runs.run(started.id))
    assert outcome(again, started.id) == outcome(whole, run.id)


def test_a_run_is_not_resumed_with_other_candidates_or_another_text_encoder(tmp_path):
    opened, run = explain(tmp_path)
    assert run.fingerprints["guide"].startswith("guide:1 encoder=line candidates=41 sha256=")
    fewer = opened.with_(candidates=WORDS[1:]).fingerprints(LAYER)
    with pytest.raises(UsageError, match=f"the guide of run {run.id} has changed since it began"):
        refuse_changed(run, fewer, opened.language_model, {})
    # With a language model it needs none.
    other = {name: value for name, value in run.fingerprints.items() if name != "guide"}
    refuse_changed(run, other, opened.language_model, {"llm": "random"})


@pytest.mark.parametrize("llm", ["guided", "near"])
def test_no_language_model_names_a_first_board(llm):
    with pytest.raises(ValueError, match=f"init model needs a language model, and llm is {llm}"):
        Settings(llm=llm, init="model")


def test_it_answers_no_prompts(tmp_path):
    model = open_language_model("near", settings=Settings(), assets=tmp_path, cache=None, words=tuple)
    with pytest.raises(UsageError, match="llm near answers no prompts"):
        model.propose(None, seed=0, temperature=0)
