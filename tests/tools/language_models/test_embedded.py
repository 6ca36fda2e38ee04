from concurrent.futures import ThreadPoolExecutor

import pytest

from line_neurons.agent.errors import ReplyError
from line_neurons.agent.prompts import propose_prompt
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.tools.language_models.embedded import LlamaCppEngine
from line_neurons.tools.language_models.engine_pool import EnginePool
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.registry import EMBEDDED

BOARD = Scoreboard((Entry("crow", 9.0), Entry("magpie", 7.0), Entry("hammer", 0.1)), 10)
PROMPT = propose_prompt(BOARD, ["robin"])

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def engine(assets):
    pack, (file, _) = next(iter(EMBEDDED.items()))
    return LlamaCppEngine(assets / pack / file)


def test_the_embedded_model_answers_in_the_form_asked_for(engine):
    proposer = Proposer(lambda: engine, "m", None)
    concepts = [proposer.propose(PROMPT, seed=seed, temperature=0.5).concept for seed in range(3)]
    assert all(1 <= len(concept.split()) <= 3 for concept in concepts)


def test_an_answer_does_not_depend_on_what_was_asked_before(engine):
    prompts = [propose_prompt(BOARD, [f"word {i}"] * i) for i in range(4)]
    forwards = [engine.complete(prompt, seed=3, temperature=1.0).text for prompt in prompts]
    backwards = [engine.complete(prompt, seed=3, temperature=1.0).text for prompt in reversed(prompts)]
    assert backwards[::-1] == forwards
    assert engine.complete(prompts[1], seed=4, temperature=1.5).text != forwards[1]


def test_the_small_model_speaks_the_protocol(assets):
    file = EMBEDDED["smollm2-135m"][0]
    proposer = Proposer(lambda: LlamaCppEngine(assets / "smollm2-135m" / file), "m", None)
    usable = 0
    for seed in range(5):
        try:
            usable += bool(proposer.propose(PROMPT, seed=seed, temperature=0.5).concept)
        except ReplyError as error:
            assert error.kind in {"truncated", "concept"}
    assert usable >= 1


def test_a_pool_answers_the_same_whatever_runs_beside_a_question_and_in_whatever_order(assets):
    file = EMBEDDED["smollm2-135m"][0]
    pool = EnginePool(lambda: LlamaCppEngine(assets / "smollm2-135m" / file, threads=1), 2)
    asked = [(propose_prompt(BOARD, [f"word {i}"] * i), i) for i in range(1, 4)]

    def answers(questions):
        with ThreadPoolExecutor(2) as threads:
            return list(
                threads.map(lambda one: pool.complete(one[0], seed=one[1], temperature=0.8).text, questions)
            )

    assert answers(asked[::-1])[::-1] == answers(asked)
