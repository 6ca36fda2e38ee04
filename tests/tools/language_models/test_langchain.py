import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from line_neurons.agent.errors import BackendError, LineError, MissingPartError, UsageError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.tools.language_models.langchain import (
    LangChainEngine,
)
from line_neurons.tools.language_models.proposer import Proposer
from support.fake_ollama import MODEL, serving

GOOD = '{"reasoning": "r", "concept": "owl"}'
FAKE = "langchain_core.language_models.FakeListChatModel"
MESSAGES = "langchain_core.language_models.FakeMessagesListChatModel"
PAI = "langchain_community.chat_models.PaiEasChatEndpoint"
PROMPT = Prompt((Message("system", "Answer with JSON only."), Message("user", "?")), shared=1)


def ask(path, arguments, seed=7, **settings):
    engine = LangChainEngine(path, arguments, top_p=0.9, **settings)
    return Proposer(lambda: engine, lambda: engine.fingerprint, None).propose(PROMPT, seed=seed, temperature=0.5)


@pytest.fixture
def service():
    """An HTTP service that answers with what is queued: a status and a body; it keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append((self.path, dict(self.headers), body))
            code, text = server.answers.pop(0)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.asked = [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module of the user's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def make(name, code):
        (tmp_path / f"{name}.py").write_text(code)
        names.append(name)

    yield make
    for name in names:
        sys.modules.pop(name, None)


def test_a_chat_model_named_by_its_path_is_asked():
    assert ask(FAKE, {"responses": [GOOD]}).concept == "owl"


def test_a_model_without_seed_or_temperature_keeps_its_state_between_questions():
    engine = LangChainEngine(FAKE, {"responses": ["first", "second"]}, top_p=0.9)
    texts = [engine.complete(PROMPT, seed=seed, temperature=0.5).text for seed in range(2)]
    assert texts == ["first", "second"]


def test_langchains_own_model_of_ollama_gets_seed_temperature_and_the_schema():
    with serving() as server:
        arguments = {"model": MODEL, "base_url": server.url, "num_ctx": 1024}
        assert ask("langchain_ollama.ChatOllama", arguments).concept == "owl"
    (question,) = server.questions
    assert question["options"] == {"num_ctx": 1024, "seed": 7, "temperature": 0.5, "top_p": 0.9}
    assert question["format"]["required"] == ["reasoning", "concept"]


def test_what_the_arguments_set_stays():
    with serving() as server:
        arguments = {"model": MODEL, "base_url": server.url, "temperature": 1.0, "top_p": 0.1}
        ask("langchain_ollama.ChatOllama", arguments)
    assert server.questions[0]["options"] == {"seed": 7, "temperature": 1.0, "top_p": 0.1}


def test_a_community_model_over_http_gets_the_temperature_with_each_question(service):
    service.answers = [(200, json.dumps({"response": GOOD}))] * 2
    engine = LangChainEngine(PAI, {"eas_service_url": service.url, "eas_service_token": "hidden-token"}, top_p=0.9)
    for temperature in (0.5, 0.7):
        assert json.loads(engine.complete(PROMPT, seed=1, temperature=temperature).text)["concept"] == "owl"
    sent = [body for _, _, body in service.asked]
    assert [body["temperature"] for body in sent] == [0.5, 0.7]
    assert [body["top_p"] for body in sent] == [0.9, 0.9]
    assert sent[0]["prompt"] == "?"
    assert service.asked[0][1]["Authorization"] == "hidden-token"
    assert "hidden" not in engine.fingerprint


def test_a_community_model_of_an_openai_like_server_is_asked(service):
    answer = {"choices": [{"message": {"role": "assistant", "content": GOOD}}], "usage": {}}
    service.answers = [(200, json.dumps(answer))]
    found = ask("langchain_community.chat_models.llama_edge.LlamaEdgeChatService", {"service_url": service.url})
    assert found.concept == "owl"
    assert service.asked[0][2]["messages"][0] == {"role": "system", "content": "Answer with JSON only."}


@pytest.mark.parametrize(
    ("content", "extra", "thoughts"),
    [
        ([{"type": "text", "text": GOOD[:9]}, {"type": "text", "text": GOOD[9:]}], {}, ""),
        ([GOOD[:9], GOOD[9:]], {}, ""),
        ([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": GOOD}], {}, "hm"),
        ([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": GOOD}], {}, "hm"),
        ([{"type": "reasoning", "summary": [{"text": "hm"}]}, {"type": "text", "text": GOOD}], {}, "hm"),
        (GOOD, {"reasoning_content": "hm"}, "hm"),
        ([{"type": "image_url", "image_url": {"url": "http://x"}}, {"type": "text", "text": GOOD}], {}, ""),
        ([{"type": "something new", "x": 1}, {"type": "text", "text": GOOD}], {}, ""),
    ],
)
def test_parts_of_text_are_joined_and_thoughts_kept_apart(content, extra, thoughts):
    from langchain_core.messages import AIMessage

    message = AIMessage(content=content, additional_kwargs=extra)
    engine = LangChainEngine(MESSAGES, {"responses": [message]}, top_p=0.9)
    found = engine.complete(PROMPT, seed=1, temperature=0.5)
    assert (found.text, found.thoughts, found.truncated) == (GOOD, thoughts, False)


@pytest.mark.parametrize(
    "about", [{"finish_reason": "length"}, {"stop_reason": "max_tokens"}, {"done_reason": "length"}]
)
def test_an_answer_cut_off_for_its_length_is_known_as_such(about):
    from langchain_core.messages import AIMessage

    message = AIMessage(content=GOOD, response_metadata=about)
    engine = LangChainEngine(MESSAGES, {"responses": [message]}, top_p=0.9)
    assert engine.complete(PROMPT, seed=1, temperature=0.5).truncated


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        ("ChatOpenAI", UsageError, "not the path of a class"),
        ("a b.C", UsageError, "not the path of a class"),
        ("langchain_nowhere.ChatNowhere", MissingPartError, "pip install langchain-nowhere"),
        ("langchain_core.nowhere.Chat", UsageError, "no module langchain_core.nowhere"),
        ("langchain_core.language_models.Nothing", UsageError, "no Nothing in"),
        ("langchain_core.prompts.PromptTemplate", UsageError, "not a LangChain chat model"),
        ("json.dumps", UsageError, "not a LangChain chat model"),
        ("langchain_core.language_models.BaseChatModel", UsageError, "do not fit"),
    ],
)
def test_a_path_that_names_no_chat_model_is_refused_with_what_to_do(path, error, said):
    with pytest.raises(error) as caught:
        ask(path, {})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_lacks_a_package_of_its_own_names_it(module):
    module("chat_of_mine", "import a_package_it_needs")
    with pytest.raises(MissingPartError) as caught:
        ask("chat_of_mine.Chat", {})
    assert caught.value.remedy == "pip install a-package-it-needs"


def test_a_model_that_lacks_a_package_when_it_is_made_says_which():
    with pytest.raises(LineError, match="llama-cpp-python") as caught:
        ask("langchain_community.chat_models.ChatLlamaCpp", {"model_path": "/x.gguf"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "arguments", "said"),
    [
        (FAKE, {}, "responses: Field required"),
        (FAKE, {"responses": [GOOD], "respones": []}, "no argument 'respones'"),
        ("langchain_ollama.ChatOllama", {"model": MODEL, "num_ctx": "hidden"}, "num_ctx"),
        (PAI, {"eas_service_url": "http://x"}, "eas_service_token"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(path, arguments, said):
    with pytest.raises(UsageError, match="do not fit") as caught:
        ask(path, arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


FAILING = """
from langchain_core.language_models import SimpleChatModel

class Chat(SimpleChatModel):
    api_key: str = ""
    failures: int = 1
    kind: str = "ConnectionError"

    @property
    def _llm_type(self):
        return "failing"

    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        if self.failures:
            self.failures -= 1
            error = {"ConnectionError": ConnectionError, "ValueError": ValueError}.get(self.kind, Status)
            raise error(f"bad key {self.api_key} at http://me:pw@box/x\\nsecond line")
        return '{"reasoning": "r", "concept": "owl"}'

class Status(Exception):
    status_code = 503
"""


@pytest.mark.parametrize("kind", ["ConnectionError", "Status"])
def test_a_fault_that_may_pass_is_asked_again(module, kind):
    module("failing_chat", FAILING)
    slept = []
    found = ask("failing_chat.Chat", {"failures": 3, "kind": kind}, sleep=slept.append)
    assert found.concept == "owl"
    assert slept == [1, 2, 4]


@pytest.mark.parametrize(("kind", "waits"), [("ConnectionError", [1, 2, 4, 8]), ("ValueError", [])])
def test_a_fault_that_stays_is_one_line_without_the_secrets(module, kind, waits):
    module("failing_chat", FAILING)
    slept = []
    arguments = {"failures": 9, "kind": kind, "api_key": "sk-hidden"}
    with pytest.raises(BackendError) as caught:
        ask("failing_chat.Chat", arguments, sleep=slept.append)
    told = str(caught.value)
    assert "bad key *** at http://***@box/x" in told
    assert "second line" not in told
    assert slept == waits


def test_the_fingerprint_tells_arguments_apart_but_not_secrets_and_places():
    def fingerprint(path=FAKE, top_p=0.9, **arguments):
        return LangChainEngine(path, arguments, top_p=top_p).fingerprint

    with serving() as server:
        ollama = {"path": "langchain_ollama.ChatOllama", "model": MODEL, "base_url": server.url}
        plain = fingerprint(**ollama)
        assert fingerprint(**ollama, top_p=0.5) != plain
        assert fingerprint(**{**ollama, "model": "other"}) != plain
        headers = [{"headers": {"Authorization": f"Bearer {key}"}} for key in ("one", "two")]
        first, second = (fingerprint(**ollama, client_kwargs=given) for given in headers)
        assert first == second == plain
        assert fingerprint(**{**ollama, "base_url": "http://elsewhere"}) == plain
        assert fingerprint(**ollama, num_ctx=2048) != plain
        assert not server.asked
    assert plain.startswith("langchain:langchain_ollama.ChatOllama version=1.")
    assert plain.endswith("top_p=0.9")


SPEAKING = """
from langchain_core.language_models import FakeListChatModel
print("imported")

class Chat(FakeListChatModel):
    headers: dict = {}
    password: int = 0

    def __init__(self, **arguments):
        print("made")
        super().__init__(**arguments)

    def _call(self, *arguments, **more):
        raise ValueError(f"token {self.headers['Authorization'].split()[1]}, pin {self.password}")
"""


def test_a_fault_tells_no_part_of_a_secret(module):
    module("speaking_chat", SPEAKING)
    arguments = {"responses": [GOOD], "headers": {"Authorization": "Bearer sk-hidden"}, "password": 987654}
    with pytest.raises(BackendError, match=r"token \*\*\*, pin \*\*\*"):
        ask("speaking_chat.Chat", arguments)


def test_what_a_module_prints_is_no_part_of_the_commands_answer(module, capsys):
    module("speaking_chat", SPEAKING)
    assert LangChainEngine("speaking_chat.Chat", {"responses": [GOOD]}, top_p=0.9).fingerprint
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "imported\nmade\n")


def test_a_module_of_the_working_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "chat_of_this_folder.py").write_text(
        "from langchain_core.language_models import FakeListChatModel as Chat"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert ask("chat_of_this_folder.Chat", {"responses": [GOOD]}).concept == "owl"
    sys.modules.pop("chat_of_this_folder")


def test_a_module_of_ones_own_that_is_not_here_is_not_looked_for_in_a_registry():
    with pytest.raises(MissingPartError, match="working folder") as caught:
        ask("a_module_of_mine.Chat", {})
    assert "pip" not in caught.value.remedy


def test_a_module_that_ends_the_program_is_one_line(module):
    module("leaving_chat", "import sys; sys.exit(3)")
    with pytest.raises(BackendError, match="SystemExit: 3"):
        ask("leaving_chat.Chat", {})


def test_a_lost_connection_behind_an_error_of_the_clients_own_is_waited_for(module):
    module(
        "wrapping_chat",
        FAILING.replace("raise error(f", "raise RuntimeError('no connection') from ConnectionError(f"),
    )
    slept = []
    assert ask("wrapping_chat.Chat", {"failures": 2}, sleep=slept.append).concept == "owl"
    assert slept == [1, 2]
