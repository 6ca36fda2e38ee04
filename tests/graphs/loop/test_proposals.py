"""Several proposals of one request: checks, choice, waiting ones, records, resume, fork and steering."""

import json

import pytest
from langgraph.runtime import RunControl

from line_neurons.agent.errors import ReplyError, UsageError
from line_neurons.agent.prompts import paper_propose_prompt, propose_prompt
from line_neurons.agent.replies import parse_reply, reply_schema
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.proposals import waiting_concepts
from line_neurons.graphs.loop.reconstruct import recorded_prompt, state_after
from line_neurons.graphs.runs.fork import fork
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.language_models.registry import open_language_model
from line_neurons.tools.store.queries import cost
from line_neurons.tools.store.refused_replies import refusals
from line_neurons.tools.store.steering_queue import submit
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, outcome
from support.guided import WORDS, components, explain, peaked, proposals

SEVERAL = {"proposals": 3, "hints": 0}


def answers(prompt, seed, temperature):
    """Five reasonable proposals, and what is wrong in every reply."""
    first = seed % 20
    return ", ".join(f"thing {at % 41:02}" for at in (first, first + 5, first + 11))


def test_the_best_of_a_request_is_generated_and_the_others_wait(tmp_path):
    model = ScriptedModel(["thing 33, thing 17, thing 15", "thing 01, thing 03, thing 05"])
    opened, run = explain(tmp_path, "random", model=model, iterations=2, **SEVERAL)
    first, second = proposals(opened, run)
    assert (first.concept, first.outcome, first.attempt) == ("thing 17", "scored", 0)
    waiting = first.detail["proposals"]["waiting"]
    assert [(name, step) for name, _, step in waiting] == [("thing 15", 1), ("thing 33", 1)]
    assert waiting[0][1] > waiting[1][1] >= 0
    assert first.detail["guidance"]["improvement"] >= waiting[0][1]
    # A concept of the first request comes back, with the second request recorded beside it.
    assert second.concept == "thing 15"
    assert second.detail["proposals"]["step"] == 1
    assert (second.detail["proposals"]["named"], second.seed is not None) == (3, True)
    assert len(model.asked) == 2
    assert all(
        prompt.concepts == 3 and "Name 3 new concepts" in prompt.messages[-1].content for prompt, *_ in model.asked
    )


def test_several_of_a_request_are_generated_before_the_next_request(tmp_path):
    model = ScriptedModel(answers)
    opened, run = explain(tmp_path, "random", model=model, iterations=4, generate=2, **SEVERAL)
    steps = [step for step in proposals(opened, run) if step.outcome == "scored"]
    assert len(steps) == 4
    assert [step.seed is not None for step in steps] == [True, False, True, False]
    assert [step.model for step in steps] == ["scripted model", None, "scripted model", None]
    assert len(model.asked) == 2
    took = cost(opened.runs, run.id, [0])
    assert took.requests == 2


def test_where_all_are_generated_they_come_in_order_and_nothing_is_predicted(tmp_path):
    model = ScriptedModel(["thing 33, thing 17, thing 15"])
    opened, run = explain(tmp_path, "random", model=model, iterations=3, generate=3, **SEVERAL)
    steps = proposals(opened, run)
    assert [step.concept for step in steps] == ["thing 33", "thing 17", "thing 15"]
    assert "guide" not in run.fingerprints
    assert all("guidance" not in step.detail for step in steps)


def test_each_concept_is_checked_alone_and_the_refused_are_attempts(tmp_path):
    reply = {"reasoning": "so", "concepts": ["thing 17", "Thing 17", "a b c d e f", 5, "thing 18", "thing 19"]}
    model = ScriptedModel([json.dumps(reply)])
    opened, run = explain(tmp_path, "random", model=model, iterations=1, proposals=5, hints=0, top=4, random=0)
    first, *others = proposals(opened, run)
    assert (first.concept, first.outcome) == ("thing 17", "scored")
    assert first.detail["proposals"]["named"] == 6
    assert first.detail["proposals"]["cut"] == 1
    assert [step.attempt for step in others] == [1, 2, 3, 4]
    assert [(step.outcome, step.seed, step.model) for step in others[:2]] == [
        ("duplicate", None, None),
        ("invalid", None, None),
    ]
    reasons = [step.detail["reason"] for step in others]
    assert reasons[0] == '"thing 17" was named already.'
    assert reasons[3] == '"thing 18" was tried already.'
    # One reply, of which something was used.
    assert (refusals(opened.runs, run.id).answers, refusals(opened.runs, run.id).refused) == (1, 0)
    assert recorded_prompt(opened.runs, run.id, 0, 1).matches


def test_a_request_with_nothing_usable_is_sent_again_and_ends_stalled(tmp_path):
    model = ScriptedModel(lambda prompt, seed, temperature: "thing 18, thing 16, thing 14")
    opened, run = explain(tmp_path, "random", model=model, iterations=1, retries=2, top=4, random=0, **SEVERAL)
    steps = proposals(opened, run)
    assert len(model.asked) == 3
    assert [step.outcome for step in steps] == ["duplicate"] * 9 + ["stalled"]
    assert [step.attempt for step in steps] == list(range(10))
    assert [step.seed is not None for step in steps[:9]] == [True, False, False] * 3
    # Temperatures rise with requests, not with refused concepts.
    assert [round(temperature, 1) for _, _, temperature in model.asked] == [0.5, 0.7, 0.9]
    last = model.asked[-1][0].messages[-1].content
    assert last.count("Refused: ") == 6
    assert [recorded_prompt(opened.runs, run.id, 0, 1, attempt).matches for attempt in (0, 3, 6)] == [True] * 3
    with pytest.raises(UsageError, match="step 1 has no request 1"):
        recorded_prompt(opened.runs, run.id, 0, 1, 1)


def test_a_broken_reply_is_refused_whole(tmp_path):
    model = ScriptedModel(["garbage", "thing 17, thing 19, thing 21"])
    opened, run = explain(tmp_path, "random", model=model, iterations=1, **SEVERAL)
    assert [step.outcome for step in proposals(opened, run)] == ["invalid", "scored"]


def test_after_one_that_cannot_be_generated_the_next_best_follows_without_a_request(tmp_path):
    model = ScriptedModel(["thing 17, thing 15, thing 33"])
    generator = ScriptedGenerator(unknown=frozenset({"thing 17"}))
    opened, run = explain(
        tmp_path, "random", model=model, iterations=1, proposals=3, generate=2, hints=0, generator=generator
    )
    assert [(step.concept, step.outcome, step.attempt) for step in proposals(opened, run)] == [
        ("thing 17", "not_drawable", 0), ("thing 15", "scored", 1)
    ]  # fmt: skip
    assert len(model.asked) == 1


def test_attempts_do_not_collide_with_refused_concepts(tmp_path):
    model = ScriptedModel(["thing 17, thing 17, thing 17", "thing 15, thing 13, thing 11"])
    generator = ScriptedGenerator(unknown=frozenset({"thing 17"}))
    opened, run = explain(tmp_path, "random", model=model, iterations=1, generator=generator, **SEVERAL)
    found = [(step.outcome, step.attempt) for step in proposals(opened, run)]
    assert found == [("not_drawable", 0), ("duplicate", 1), ("duplicate", 2), ("scored", 3)]
    assert recorded_prompt(opened.runs, run.id, 0, 1).matches
    assert model.asked[1][0].messages[-1].content.count("Refused: ") == 3


def test_a_unit_that_the_model_knows_nothing_of_is_ranked_by_nearness_and_says_so(tmp_path):
    target = ScriptedTarget({word: float(at // 2 % 2) for at, word in enumerate(WORDS)})
    model = ScriptedModel(["thing 39, thing 03, thing 21"])
    opened, run = explain(tmp_path, "random", target=target, model=model, iterations=1, **SEVERAL)
    (step,) = proposals(opened, run)
    assert step.detail["guidance"]["by"] == "nearness"
    assert [promise for _, promise, _ in step.detail["proposals"]["waiting"]] == [None, None]


@pytest.mark.parametrize("generate", [1, 2])
def test_a_resumed_search_ends_as_an_uninterrupted_one(tmp_path, generate):
    given = {"iterations": 6, "generate": generate, **SEVERAL}
    whole, run = explain(tmp_path / "whole", "random", model=ScriptedModel(answers), **given)
    opened, drain = components(tmp_path / "parts", "random", model=ScriptedModel(answers), **given), RunControl()
    started = start(opened, LAYER, ("0",))

    def stop(progress):
        if progress.step >= 2:
            drain.request_drain("far enough")

    assert work(opened, started, stop, drain).status == "interrupted"
    again = components(tmp_path / "parts", "random", model=ScriptedModel(answers), **given)
    work(again, again.runs.run(started.id))
    assert outcome(again, started.id) == outcome(whole, run.id)


def test_a_fork_continues_with_the_concepts_that_wait(tmp_path):
    given = {"iterations": 6, "generate": 2, **SEVERAL}
    opened, run = explain(tmp_path, "random", model=ScriptedModel(answers), **given)
    for step in (1, 2, 3):
        forked = work(opened, fork(opened, run, 0, step))
        strip = [
            (s.step, s.attempt, s.concept, s.outcome, s.score, s.detail) for s in opened.runs.steps(run.id, 0)
        ]
        assert [
            (s.step, s.attempt, s.concept, s.outcome, s.score, s.detail) for s in opened.runs.steps(forked.id, 0)
        ] == strip
    state = state_after(opened.settings, opened.runs.steps(run.id, 0), [], 1)
    assert (state["left"], len(state["waiting"])) == (1, 2)


def test_a_concept_that_was_tried_or_banned_no_longer_waits():
    state = {"waiting": [["owl", 1], ["crow", 2], ["gull", 2]], "tried": ["owls"], "banned": ["gull"]}
    assert waiting_concepts(state, Settings()) == [["crow", 2]]
    # Where concepts may be scored again, only a ban counts.
    assert waiting_concepts(state, Settings(duplicates="accept")) == [["owl", 1], ["crow", 2]]


def test_a_banned_concept_of_a_reply_is_refused_alone(tmp_path):
    model = ScriptedModel(["thing 17, thing 15, thing 33"])
    opened = components(tmp_path, "random", model=model, iterations=2, generate=2, **SEVERAL)
    run = start(opened, LAYER, ("0",))
    submit(tmp_path, run.id, 0, "ban", "thing 17")
    work(opened, run)
    found = [(step.concept, step.outcome, step.attempt) for step in proposals(opened, run)]
    assert found == [("thing 15", "scored", 0), ("thing 17", "duplicate", 1), ("thing 33", "scored", 0)]


def test_random_words_name_several(tmp_path):
    words = [f"word {at}" for at in range(9)]
    model = open_language_model("random", settings=Settings(), assets=tmp_path, cache=None, words=lambda: words)
    prompt = propose_prompt(Scoreboard((Entry("word 1", 1.0),), 3), ["word 2"], concepts=4)
    named = model.propose(prompt, seed=3, temperature=0).named
    assert len(set(named)) == 4
    assert not {"word 1", "word 2"} & set(named)


def test_the_schema_and_the_reply_have_an_array():
    schema = reply_schema(7)
    assert schema["properties"]["concepts"]["maxItems"] == 7
    assert schema["required"] == ["reasoning", "concepts"]
    assert list(schema["properties"]) == ["reasoning", "concepts"]
    proposal = parse_reply('{"reasoning": "r", "concepts": ["A", 3, "b"]}', concepts=7)
    assert proposal.named == ("A", "", "b")
    for broken in ('{"reasoning": "r", "concept": "a"}', '{"reasoning": "r", "concepts": []}',
                   '{"reasoning": 1, "concepts": ["a"]}', '{"reasoning": "r", "concepts": "a"}'):  # fmt: skip
        with pytest.raises(ReplyError) as refused:
            parse_reply(broken, concepts=7)
        assert refused.value.kind == "schema"


def test_the_prompt_names_the_number_and_its_examples_have_as_many():
    board = Scoreboard((Entry("a", 1.0),), 3)
    for write in (propose_prompt, paper_propose_prompt):
        prompt = write(board, (), concepts=5)
        said = [message.content for message in prompt.messages]
        assert "propose 5 different things" in said[0]
        assert [len(json.loads(text)["concepts"]) for text in (said[2], said[4])] == [5, 5]
        assert "5 new concepts" in said[-1]
        assert prompt.concepts == 5
        assert write(board, (), concepts=1) == write(board, ())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"proposals": 51}, "less than or equal to 50"),
        ({"proposals": 0}, "greater than or equal to 1"),
        ({"proposals": 2, "generate": 3}, "generate 3 is above proposals 2"),
    ],
)
def test_impossible_numbers_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Settings(**given)


def test_a_peak_is_found_with_fewer_requests(tmp_path):
    asked = ScriptedModel(answers)
    opened, run = explain(tmp_path, "random", model=asked, target=peaked(17), iterations=8, generate=2, **SEVERAL)
    assert len(asked.asked) < 8
    assert opened.runs.units(run.id)[0].label in {"thing 16", "thing 17", "thing 18"}
