import pytest

from line_neurons.agent.ports import Message, Prompt
from line_neurons.tools.language_models.ollama.chat import OllamaEngine
from line_neurons.tools.language_models.proposer import Proposer
from support.fake_ollama import MODEL


class Waiting:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0
        self.slept = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def waiting():
    """The time, and the waits so far."""
    return Waiting()


@pytest.fixture
def prompt():
    """A short chat."""
    messages = (Message("system", "Answer with JSON only."), Message("user", "Scoreboard: ..."))
    return Prompt(messages, shared=1)


@pytest.fixture
def engine_at(waiting):
    """Makes an engine for servers at these addresses."""

    def make(*urls, **settings):
        defaults = {"top_p": 0.9, "context": 4096, "reply_tokens": 512, "timeout": 20, "think": "auto"}
        chosen = {"name": MODEL} | defaults | settings
        return OllamaEngine(chosen.pop("name"), urls, clock=waiting.clock, sleep=waiting.sleep, **chosen)

    return make


@pytest.fixture
def ask(prompt):
    """Asks an engine for a proposal."""

    def proposal(engine, cache=None, seed=7):
        proposer = Proposer(lambda: engine, lambda: engine.fingerprint, cache)
        return proposer.propose(prompt, seed=seed, temperature=0.5)

    return proposal
