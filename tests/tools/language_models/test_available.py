"""Models of the configured servers, as the form of a new run and the shell offer them."""

from line_neurons.agent.settings import Settings
from line_neurons.tools.language_models.available import available_models
from support.fake_ollama import DIGEST, ScriptedOllama
from support.fake_ollama import serving as serving_ollama
from support.fake_openai import MODEL, serving


def test_the_models_of_both_kinds_of_servers_are_listed_and_a_fault_keeps_the_others(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with serving_ollama(ScriptedOllama(models={"qwen3:4b": DIGEST})) as ollama, serving() as openai:
        (only,) = available_models(Settings(ollama=ollama.url))
        assert [*only.models] == ["ollama:qwen3:4b"] and not only.faults
        found = available_models(Settings(ollama=ollama.url, base_url=openai.base_url))
        assert [name for kind in found for name in kind.models] == ["ollama:qwen3:4b", f"openai:{MODEL}"]
        gone = ollama.url
    first, second = available_models(Settings(ollama=gone, base_url="not an address"), timeout=1)
    assert "no Ollama" in first.faults[0] and not first.models
    assert (second.prefix, len(second.faults)) == ("openai:", 1)
