"""What a user is told of an address where Ollama does not answer as it should: the cause and the remedy."""

import json
import ssl

import pytest
import trustme

from line_neurons.agent.errors import BackendError, LineError
from line_neurons.tools.language_models.ollama import models as ollama_models
from line_neurons.tools.language_models.ollama.models import installed, pull
from support.fake_ollama import MODEL, ScriptedOllama, serving, stream
from support.raw_server import DRIPS, raw_serving, reply

STEP = {"status": "pulling aabbcc", "digest": "sha256:aabbcc", "total": 100}


@pytest.fixture(scope="module")
def authority():
    """An authority for certificates that nobody trusts."""
    return trustme.CA()


@pytest.fixture
def context(authority):
    """Makes TLS with a certificate for a name."""

    def make(name):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(made)
        return made

    return make


def told(url, timeout=20.0):
    """What is told of a server whose models are to be listed: an error and a remedy."""
    (found,) = installed([url], timeout=timeout)
    return f"{found.error} ({found.remedy})"


def version(server, connection):
    """Answer each question as if it were that for the version and the models."""
    reply(json.dumps({"version": "0.24.0", "models": []}).encode())(server, connection)


def test_a_certificate_that_is_not_trusted_is_told_with_how_to_trust_it(authority, context, tmp_path, monkeypatch):
    with raw_serving(version, context("127.0.0.1")) as server:
        said = told(server.url)
        assert said.startswith(f"the certificate of {server.url} is not trusted")
        assert "SSL_CERT_FILE" in said
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        (found,) = installed([server.url])
        assert found.version == "0.24.0"


def test_a_certificate_for_another_name_is_told_so(authority, context, tmp_path, monkeypatch):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with raw_serving(version, context("gpu1.example")) as server:
        said = told(server.url)
    assert "not valid for '127.0.0.1'" in said
    assert "the name that the certificate is for" in said


def test_a_file_of_certificates_that_is_none_is_told_by_the_variable_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "ca.pem").write_text("none")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert "SSL_CERT_FILE" in told("https://127.0.0.1:1")
    assert "no Ollama server answers" in told("http://127.0.0.1:1")


def test_http_and_https_taken_for_each_other_are_told_with_the_right_address(context):
    with raw_serving(version, context("127.0.0.1")) as server:
        plain = server.url.replace("https:", "http:")
        assert told(plain) == f"{plain} speaks HTTPS (write {server.url})"
    with serving() as server:
        secure = server.url.replace("http:", "https:")
        said = told(secure)
    assert said.startswith(f"{secure} does not speak HTTPS (is it {server.url} ")


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/v1", "leave /v1 away: {url}"),
        ("/api", "leave /api away: {url}"),
        ("/ollama/v1", "leave /v1 away: {url}/ollama"),
        ("/else", "check the path in the address"),
    ],
)
def test_a_path_that_is_not_ollamas_is_told_with_the_right_one(path, remedy):
    with serving() as server:
        said = told(server.url + path)
    assert said.startswith(f"nothing of Ollama's is at {server.url}{path} (404)")
    assert said.endswith(f"({remedy.format(url=server.url)})")


def test_a_name_that_no_machine_has_is_told():
    said = told("http://no-such-machine.invalid:11434")
    assert said.startswith("no host is called 'no-such-machine.invalid' here")


@pytest.mark.parametrize(
    ("environment", "user", "remedy"),
    [
        ("", "", "set OLLAMA_API_KEY"),
        ("wrong", "", "check the key in OLLAMA_API_KEY"),
        ("", "me:pw@", "check user"),
    ],
)
def test_a_key_that_is_wanted_and_one_that_is_refused_are_told_apart(monkeypatch, environment, user, remedy):
    monkeypatch.setenv("OLLAMA_API_KEY", environment)

    def refuse(server, connection):
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\n\r\n" + json.dumps({"error": "unauthorized"}).encode())

    with raw_serving(refuse) as server:
        said = told(server.url.replace("//", f"//{user}"))
    assert said.startswith(f"the Ollama server at {server.url} refuses access (401): unauthorized")
    assert remedy in said


@pytest.mark.parametrize("name", DRIPS)
def test_a_list_of_models_without_end_ends_in_time(name):
    with raw_serving(DRIPS[name]) as server:
        said = told(server.url, timeout=0.3)
    assert said.startswith(f"the Ollama server at {server.url} did not finish within 0.3 s")


def test_an_answer_that_unpacks_to_more_is_refused_as_it_begins():
    with raw_serving(reply(b"x", b"Content-Encoding: zstd")) as server:
        said = told(server.url)
    assert "in the encoding 'zstd', which was not asked for" in said


def test_a_pull_may_take_any_time_but_not_fall_silent():
    steps = []

    def silent(handler, question):
        handler.begin()
        handler.part(STEP)
        handler.script.released.wait(30)

    def slow(handler, question):
        handler.begin()
        for done in range(20):
            handler.part(STEP | {"completed": done})
            handler.script.released.wait(0.1)
        handler.part({"status": "success"})
        handler.end()

    with (
        serving(ScriptedOllama(pull=[silent])) as server,
        pytest.raises(BackendError, match="said nothing") as caught,
    ):
        pull(MODEL, server.url, steps.append, silence=0.3)
    assert "resumes where it stopped" in caught.value.remedy
    with serving(ScriptedOllama(pull=[slow])) as server:
        pull(MODEL, server.url, steps.append, silence=1)
    assert steps[-1].status == "success"


@pytest.mark.parametrize("name", DRIPS)
def test_a_pull_that_tells_no_step_ends_in_time(name, monkeypatch):
    monkeypatch.setattr(ollama_models, "QUERY_SECONDS", 0.3)
    with raw_serving(DRIPS[name]) as server, pytest.raises(BackendError, match="said nothing of the pull"):
        pull(MODEL, server.url, lambda step: None)


def test_a_pull_at_an_address_without_ollama_is_not_taken_for_a_model_that_is_missing():
    with serving() as server, pytest.raises(LineError, match="nothing of Ollama's is at") as caught:
        pull(MODEL, f"{server.url}/v1", lambda step: None)
    assert "leave /v1 away" in caught.value.remedy
    with (
        serving(ScriptedOllama(pull=[stream({"error": "pull model manifest: file does not exist"})])) as server,
        pytest.raises(LineError, match="no such model"),
    ):
        pull(MODEL, server.url, lambda step: None)
