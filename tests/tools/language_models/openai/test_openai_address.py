import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.tools.language_models.openai.address import HOSTED, configured, openai_url, server_urls


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://gpu1:8000/v1", "http://gpu1:8000/v1"),
        ("http://gpu1:8000/v1/", "http://gpu1:8000/v1"),
        ("gpu1:8000", "http://gpu1:8000/v1"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000/v1"),
        ("https://me:pw@box/openai/v1", "https://me:pw@box:443/openai/v1"),
    ],
)
def test_an_address_without_a_path_gets_v1(given, url):
    assert openai_url(given) == url


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("box:port", "'box:port' is not the address of an OpenAI-compatible server.*http://HOST:PORT/v1"),
        ("http://box/v1?key=1", "is not the address"),
        ("http://me:pw@box:1/v1/chat/completions", "'http://box:1/v1/chat/completions'.*leave /chat/completions"),
    ],
)
def test_what_is_no_address_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        openai_url(given)


def test_servers_come_from_the_setting_then_the_environment_then_the_key(monkeypatch):
    with pytest.raises(UsageError, match=r"no OpenAI-compatible server is named.*--base-url"):
        server_urls("")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert not configured("")
    assert server_urls("") == [HOSTED.replace(".com", ".com:443")]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://one/v1")
    assert configured("")
    assert server_urls("") == ["http://one:80/v1"]
    assert server_urls("a:1, b:2,a:1") == ["http://a:1/v1", "http://b:2/v1"]
