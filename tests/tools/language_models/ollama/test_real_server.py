import json
import threading
import time

import httpx
import pytest
from ollama import Client

from line_neurons.agent.errors import BackendError, MissingPartError, ReplyError, UsageError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.agent.prompts import summary_prompt
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.settings import Settings
from line_neurons.tools.doctor import installation
from line_neurons.tools.doctor.installation import check
from line_neurons.tools.language_models.langchain import LangChainEngine
from line_neurons.tools.language_models.ollama.chat import OllamaEngine
from line_neurons.tools.language_models.ollama.models import installed, pull
from line_neurons.tools.language_models.ollama.presence import OllamaPresence
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache
from support.ollama_server import GOOD, SMALL

pytestmark = pytest.mark.e2e

BOARD = Scoreboard((Entry("crow", 9.0), Entry("magpie", 7.0), Entry("hammer", 0.1)), 10)
# Of half the tokens of a proposal's, which the large model reads in half the time.
SUMMARY = summary_prompt(BOARD, ["robin"])
# The small model reads sixty tokens a second.
SHORT = Prompt((Message("user", "Name a bird."),))


def engine(name, *servers, **settings):
    sampling = {"top_p": 0.9, "sampling": OLLAMA_SAMPLING}
    defaults = sampling | {"context": 2048, "reply_tokens": 300, "timeout": 300, "think": "auto"}
    return OllamaEngine(name, [server.url for server in servers], **defaults | settings)


def ask(model, seed, temperature=0.7, prompt=SUMMARY):
    return Proposer(lambda: model, "m", None).propose(prompt, seed=seed, temperature=temperature)


def test_a_real_model_answers_with_a_usable_proposal(ollama):
    reply = ask(engine(GOOD, ollama), seed=0)
    assert 1 <= len(reply.concept.split()) <= 3 and reply.reasoning
    assert list(json.loads(reply.raw)) == ["reasoning", "concept"]


def test_langchains_own_class_answers_too(ollama):
    arguments = {"model": GOOD, "base_url": ollama.url, "num_ctx": 2048, "num_predict": 300}
    model = LangChainEngine("langchain_ollama.ChatOllama", arguments, top_p=0.9)
    assert 1 <= len(ask(model, seed=1).concept.split()) <= 3


def test_a_community_class_answers_over_the_servers_openai_interface(ollama):
    # This class passes on neither schema nor seed: the prompt alone asks for JSON.
    path = "langchain_community.chat_models.llama_edge.LlamaEdgeChatService"
    arguments = {"service_url": ollama.url, "model": GOOD, "request_timeout": 300}
    model = LangChainEngine(path, arguments, top_p=0.9)
    # One usable reply of three is enough, so the first one is.
    for seed in range(3):
        try:
            assert ask(model, seed).concept
            break
        except ReplyError as error:
            assert error.raw
    else:
        pytest.fail("none of three replies is usable")


def test_the_seed_decides_the_answer(ollama):
    model = engine(SMALL, ollama, reply_tokens=20)
    model.complete(SHORT, seed=0, temperature=1.0)
    texts = [model.complete(SHORT, seed=seed, temperature=1.0).text for seed in (1, 2, 3, 1)]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3


def test_the_digest_in_the_fingerprint_is_the_servers(ollama):
    found = engine(SMALL.upper(), ollama).fingerprint
    (server,) = installed([ollama.url])
    digests = {model.name: model.digest for model in server.models}
    assert found.startswith(f"ollama:{SMALL} digest={digests[SMALL][:16]} ")
    assert found.endswith("think=off")
    assert digests[SMALL] != digests[GOOD]


def test_an_answer_that_needs_more_tokens_than_it_may_have_is_refused_as_cut_off(ollama):
    with pytest.raises(ReplyError) as caught:
        ask(engine(SMALL, ollama, reply_tokens=5), seed=1, prompt=SHORT)
    assert caught.value.kind == "truncated"


def test_a_model_without_eyes_and_one_that_is_not_pulled_are_refused_as_verifiers(ollama, tmp_path):
    cache = ReplyCache(tmp_path / "replies.db")
    for name, error, said in (
        (GOOD, UsageError, "cannot read images"),
        ("llava:7b", MissingPartError, "line pull"),
    ):
        with pytest.raises(error, match=said) as caught:
            OllamaPresence(name, [ollama.url], timeout=60, cache=cache).fingerprint  # noqa: B018
        assert "\n" not in str(caught.value)


def test_a_prompt_longer_than_the_context_is_refused_rather_than_answered_in_part(ollama):
    # Short words: more tokens than their number of letters says.
    long = Prompt((Message("user", "a b c d " * 50),))
    with pytest.raises(BackendError, match="does not fit into the context of 128 tokens"):
        engine(SMALL, ollama, context=128).complete(long, seed=1, temperature=0.5)


def test_a_model_that_is_not_pulled_is_told_with_the_command(ollama):
    with pytest.raises(MissingPartError, match="llama3.1:8b") as caught:  # noqa: RUF043
        engine("llama3.1:8b", ollama).fingerprint  # noqa: B018
    assert "line pull llama3.1:8b" in caught.value.remedy


def test_a_pull_without_a_network_is_one_line(ollama):
    with pytest.raises(BackendError, match="cannot reach its registry") as caught:
        pull("llama3.1:8b", ollama.url, lambda step: None)
    assert "\n" not in str(caught.value)


def test_the_doctor_lists_the_models_and_misses_the_default(ollama, monkeypatch):
    monkeypatch.setattr(installation, "_probe", lambda *_: iter(()))
    settings = Settings(ollama=ollama.url)
    found = [finding for finding in check(works=False, settings=settings) if finding.part == "ollama"]
    assert [finding.status for finding in found] == ["ok", "warn"]
    assert f"{SMALL} 0.1 GB" in found[0].detail
    assert f"{GOOD} 1.1 GB" in found[0].detail
    assert found[1].remedy == "line pull llama3.1:8b"


def test_a_server_killed_in_mid_answer_and_started_again_finishes_the_question(ollama_servers):
    server = ollama_servers()
    waited = []
    dead = threading.Event()

    def restart(seconds):
        waited.append(seconds)
        if len(waited) == 1:
            dead.wait(60)
            server.start()

    model = engine(SMALL, server, sleep=restart, reply_tokens=20)
    model.complete(SHORT, seed=1, temperature=0.5)
    # So long a prompt that the server is still reading it when it is killed.
    long = Prompt((Message("user", "Name a bird. " * 100),))
    found = []
    thread = threading.Thread(target=lambda: found.append(model.complete(long, seed=1, temperature=0.5)))
    thread.start()
    time.sleep(0.2)
    server.kill()
    dead.set()
    thread.join()
    assert waited
    assert found[0].text


def test_two_real_servers_share_the_questions_and_one_takes_over_when_the_other_dies(ollama_servers):
    servers = [ollama_servers(), ollama_servers()]
    model = engine(SMALL, *servers, reply_tokens=20)
    answers = [None, None]

    def answer(index):
        answers[index] = model.complete(SHORT, seed=index, temperature=0.7)

    threads = [threading.Thread(target=answer, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loaded = [httpx.get(f"{server.url}/api/ps", trust_env=False).json()["models"] for server in servers]
    assert all(answers)
    assert [len(models) for models in loaded] == [1, 1]
    servers[0].kill()
    assert all(model.complete(SHORT, seed=seed, temperature=0.7).text for seed in (3, 4))


THINKING_TEMPLATE = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{- range .Messages }}<|im_start|>{{ .Role }}
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""


@pytest.fixture(scope="module")
def thinker(ollama):
    """A model that the server takes for a thinking one, for its template has a place for thoughts."""
    client = Client(ollama.url)
    client.create(model="thinker", from_=GOOD, template=THINKING_TEMPLATE)
    yield "thinker"
    client.delete("thinker")


THOUGHT = '<think>Crows and magpies are birds.</think>{"reasoning": "Black birds.", "concept": "raven"}'
ECHO = Prompt((Message("user", f"Repeat this line exactly, with nothing before or after it:\n{THOUGHT}"),))


def test_an_older_server_is_not_let_think_for_it_would_keep_to_the_schema_at_once(ollama, thinker):
    model = engine(thinker, ollama)
    assert model.fingerprint.endswith("think=off")
    assert ask(model, seed=1, temperature=0, prompt=ECHO).concept == "raven"


def test_the_thoughts_that_a_server_takes_out_of_an_answer_are_reasoning(ollama, thinker):
    model = engine(thinker, ollama, think="on")
    assert model.fingerprint.endswith("think=on")
    found = ask(model, seed=1, temperature=0, prompt=ECHO)
    assert found.reasoning == "Crows and magpies are birds. Black birds."
    assert json.loads(found.raw) == {"reasoning": "Black birds.", "concept": "raven"}
