import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.tools.language_models.ollama.address import (
    ollama_url,
    server_urls,
)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        (":8000", "http://127.0.0.1:8000"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]:8000", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("https://box:11434/", "https://box:11434"),
        ("https://box/ollama/", "https://box:443/ollama"),
        ("http://me:pw@box:1", "http://me:pw@box:1"),
        ('"box:8000"', "http://box:8000"),
        ("::1", "http://[::1]:11434"),
    ],
)
def test_the_address_follows_ollama_host(host, url):
    assert ollama_url(host) == url


@pytest.mark.parametrize(
    "host",
    ["box:port", "ftp://box", "two words", "http://[::1", "http://box?x=1", "box:99999", "http://a..b", "x" * 80],
)
def test_what_is_no_address_is_refused(host):
    with pytest.raises(UsageError, match="not the address"):
        ollama_url(host)


@pytest.mark.parametrize("address", ["http://me:hidden@box:port", "http://me:hid/hidden@box", "me:h/hidden@box"])
def test_a_refused_address_keeps_its_password_to_itself(address):
    with pytest.raises(UsageError) as caught:
        ollama_url(address)
    assert "hidden" not in str(caught.value)


def test_several_servers_stand_between_commas_and_each_counts_once():
    assert server_urls(" box, http://box:11434 ,other:1,") == ["http://box:11434", "http://other:1"]


def test_without_a_setting_it_is_ollama_host_and_else_this_machine(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "a:1,b:2")
    assert server_urls("") == ["http://a:1", "http://b:2"]
    assert server_urls("c:3") == ["http://c:3"]
    monkeypatch.delenv("OLLAMA_HOST")
    assert server_urls(" ,") == ["http://127.0.0.1:11434"]
