import json

import pytest
import typer

from line_neurons.agent.errors import LineError, MissingPartError
from line_neurons.tui.cli import models as model_commands
from support.fake_ollama import MODEL, ScriptedOllama, serving, stream
from support.fake_openai import ScriptedOpenAI
from support.fake_openai import serving as openai_serving

LAYER = {"status": "pulling aabbcc", "digest": "sha256:aabbcc", "total": 100}
FETCHED = stream(LAYER, LAYER | {"completed": 100}, {"status": "success"})
UNKNOWN = stream({"error": "pull model manifest: file does not exist"})


def test_a_model_is_pulled_on_every_server(capsys):
    with serving(ScriptedOllama(pull=[FETCHED])) as one, serving(ScriptedOllama(pull=[FETCHED])) as two:
        model_commands.pull(f"ollama:{MODEL}", ollama=f"{one.url},{two.url}")
    said = capsys.readouterr().err
    assert "" not in said.splitlines()
    for server in (one, two):
        assert server.asked["/api/pull"] == 1
        assert said.count(f"{server.url}: pulling aabbcc") == 1
        assert f"{server.url}: success" in said


def test_a_server_that_fails_keeps_no_other_from_its_pull(capsys):
    one, two = ScriptedOllama(pull=[UNKNOWN]), ScriptedOllama(pull=[FETCHED])
    with serving(one), serving(two), pytest.raises(MissingPartError):
        model_commands.pull(MODEL, ollama=f"{one.url},{two.url}")
    assert two.asked["/api/pull"] == 1


def test_each_server_that_fails_is_told_once(capsys):
    one, two = ScriptedOllama(pull=[UNKNOWN]), ScriptedOllama(pull=[UNKNOWN])
    with serving(one), serving(two), pytest.raises(MissingPartError, match=two.url):
        model_commands.pull(MODEL, ollama=f"{one.url},{two.url}")
    said = capsys.readouterr().err
    assert (said.count(f"error: the Ollama server at {one.url}"), two.url in said) == (1, False)


def test_after_a_pull_the_machine_readable_answer_is_what_the_servers_have(capsys):
    with serving(ScriptedOllama(pull=[FETCHED])) as server:
        model_commands.pull(MODEL, ollama=server.url, json=True)
    (found,) = json.loads(capsys.readouterr().out)
    assert found["models"][0]["name"] == MODEL


def test_ctrl_c_ends_with_a_word_and_status_130(capsys, monkeypatch):
    def interrupted(name, url, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(model_commands, "pull_model", interrupted)
    with pytest.raises(typer.Exit) as caught:
        model_commands.pull(MODEL, ollama="box:1")
    assert caught.value.exit_code == 130
    assert "same command continues" in capsys.readouterr().err


def test_models_are_listed_by_server_and_a_server_that_is_away_is_told(capsys):
    with serving() as gone:
        pass
    with serving() as server, serving(ScriptedOllama(models={})) as empty:
        model_commands.models(ollama=server.url)
        with pytest.raises(typer.Exit):
            model_commands.models(ollama=f"{empty.url},{gone.url}")
    said = capsys.readouterr()
    assert all(
        word in said.out for word in (MODEL, "4.9 GB", "8.0B", "Q4_K_M", "Ollama 0.24.0", "has no model yet")
    )
    assert f"no Ollama server answers at {gone.url}" in said.err


def test_an_address_that_is_none_is_refused_before_anything_is_asked():
    with pytest.raises(LineError, match="not the address"):
        model_commands.models(ollama="box:port", json=True)


def test_the_models_of_openai_compatible_servers_are_listed(capsys, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with openai_serving(
        ScriptedOpenAI(models=[{"id": "a/b", "owned_by": "vllm", "max_model_len": 8192}])
    ) as server:
        model_commands.models(base_url=server.base_url)
        shown = capsys.readouterr().out
        model_commands.models(base_url=server.base_url, json=True)
    assert "openai:a/b" in shown and "8192" in shown
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["api"], found["models"][0]["id"]) == ("openai", "a/b")


def test_without_an_option_the_configured_servers_are_listed(capsys, monkeypatch):
    with serving() as ollama, openai_serving() as server:
        monkeypatch.setenv("OLLAMA_HOST", ollama.url)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        model_commands.models(json=True)
        both = json.loads(capsys.readouterr().out)
        monkeypatch.setenv("LINE_LLM", "openai:model")
        model_commands.models(json=True)
        one = json.loads(capsys.readouterr().out)
    assert [found["server"] for found in both] == [ollama.url, server.base_url]
    assert [found["server"] for found in one] == [server.base_url]
