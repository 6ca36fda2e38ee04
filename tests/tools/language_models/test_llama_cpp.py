from concurrent.futures import ThreadPoolExecutor

import pytest

from line_neurons.agent.errors import ReplyError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.agent.prompts import summary_prompt
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.tools.language_models import llama_cpp
from line_neurons.tools.language_models.engine import EnginePool
from line_neurons.tools.language_models.llama_cpp import LlamaCppEngine
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.registry import EMBEDDED

BOARD = Scoreboard((Entry("crow", 9.0), Entry("magpie", 7.0), Entry("hammer", 0.1)), 10)
# Of half the tokens of a proposal's, which are read in half the time.
SUMMARY = summary_prompt(BOARD, ["robin"])


def short_prompt(instruction, question="Which?"):
    """A prompt of a few tokens: the small model reads sixty a second."""
    return Prompt((Message("system", instruction), Message("user", question)), shared=1)


pytestmark = pytest.mark.e2e


@pytest.fixture
def short_answers(monkeypatch):
    """Answers are cut off after their first words: enough to tell them apart."""
    monkeypatch.setattr(llama_cpp, "MAX_REPLY_TOKENS", 16)


@pytest.fixture(scope="module")
def small_model(assets):
    """The small model on all cores, loaded once; what was asked before makes no difference."""
    return LlamaCppEngine(assets / "smollm2-135m" / EMBEDDED["smollm2-135m"][0])


def test_the_embedded_model_answers_in_the_form_asked_for(assets):
    pack, (file, _) = next(iter(EMBEDDED.items()))
    engine = LlamaCppEngine(assets / pack / file)
    proposer = Proposer(lambda: engine, "m", None)
    concept = proposer.propose(SUMMARY, seed=0, temperature=0.5).concept
    assert 1 <= len(concept.split()) <= 3


def test_an_answer_does_not_depend_on_what_was_asked_before(small_model, short_answers):
    prompts = [short_prompt("Name a bird. Reason first.", "It is black. " * i + "Which?") for i in range(3)]
    forwards = [small_model.complete(prompt, seed=3, temperature=1.0).text for prompt in prompts]
    backwards = [small_model.complete(prompt, seed=3, temperature=1.0).text for prompt in reversed(prompts)]
    assert backwards[::-1] == forwards
    assert small_model.complete(prompts[1], seed=4, temperature=1.5).text != forwards[1]


def test_the_small_model_speaks_the_protocol(small_model):
    proposer = Proposer(lambda: small_model, "m", None)
    # One usable reply of five is enough, so the first one is.
    for seed in range(5):
        try:
            assert proposer.propose(SUMMARY, seed=seed, temperature=0.5).concept
            break
        except ReplyError as error:
            assert error.kind in {"truncated", "concept"}
    else:
        pytest.fail("none of five replies is usable")


def test_an_answer_is_the_same_whatever_kinds_of_prompts_were_asked_between_and_however_many_are_kept(
    assets, short_answers
):
    file = EMBEDDED["smollm2-135m"][0]
    kinds = [
        short_prompt("Name a tool that a carpenter has, and say what it is for. Reason first."),
        short_prompt("Name a bird. It is black. Reason first."),
        short_prompt("Name a bird."),
    ]

    def answers(kept, order):
        engine = LlamaCppEngine(assets / "smollm2-135m" / file, threads=1, kept=kept)
        return {(kind, engine.complete(kinds[kind], seed=kind, temperature=0.8).text) for kind in order}

    # Each kind is the first that one of the engines is asked.
    found = answers(2, [0, 1, 0, 2, 1, 0]) | answers(1, [2, 1, 0]) | answers(1, [1])
    assert [kind for kind, _ in sorted(found)] == [0, 1, 2]


def test_what_prompts_of_a_kind_share_is_computed_once_though_other_kinds_come_between(
    assets, short_answers, monkeypatch
):
    engine = LlamaCppEngine(assets / "smollm2-135m" / EMBEDDED["smollm2-135m"][0], threads=1)
    ask, read = engine._ask, []

    def asking(request):
        answer = ask(request)
        read.append(answer["timings"]["prompt_n"])
        return answer

    monkeypatch.setattr(engine, "_ask", asking)
    for prompt in [short_prompt("Name a black bird, and reason first. " * 15), SUMMARY] * 2:
        engine.complete(prompt, seed=0, temperature=0.5)
    first, again = read[:4:2], read[4::2]
    assert all(new > 100 for new in first)
    assert all(new < 20 for new in again)


def test_a_pool_answers_the_same_whatever_runs_beside_a_question_and_in_whatever_order(assets, short_answers):
    file = EMBEDDED["smollm2-135m"][0]
    pool = EnginePool(lambda: LlamaCppEngine(assets / "smollm2-135m" / file, threads=1), 2)
    asked = [(short_prompt("Name a bird. Reason first.", "It is black. " * i + "Which?"), i) for i in range(1, 4)]

    def answers(questions):
        with ThreadPoolExecutor(2) as threads:
            return list(
                threads.map(lambda one: pool.complete(one[0], seed=one[1], temperature=0.8).text, questions)
            )

    assert answers(asked[::-1])[::-1] == answers(asked)
