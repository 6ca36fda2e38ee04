import pytest

from line_neurons.agent.errors import BackendError, MissingPartError, UsageError
from line_neurons.tools.language_models.ollama.models import InstalledModel, PullStep, installed, pull
from support.fake_ollama import DIGEST, MODEL, ScriptedOllama, cut, serving, status, stream

LAYER = {"status": "pulling aabbcc", "digest": "sha256:aabbcc", "total": 100}
SUCCESS = {"status": "success"}
NO_HOST = 'pull model manifest: Get "https://r/v2/": dial tcp: lookup r on 10.0.0.1:53: no such host'


def test_each_server_is_listed_with_its_models_or_with_what_is_wrong():
    with serving() as gone:
        pass
    with serving() as server:
        here, away = installed([server.url.replace("//", "//me:pw@"), gone.url])
    assert (here.server, here.version, here.error) == (server.url, "0.24.0", "")
    assert here.models == (InstalledModel(MODEL, 4_900_000_000, DIGEST, "8.0B", "Q4_K_M"),)
    assert (away.server, away.models) == (gone.url, ())
    assert "no Ollama server answers" in away.error
    assert "ollama serve" in away.remedy


def test_names_from_a_server_are_data():
    with serving(ScriptedOllama(models={"evil\x1b[31m\nname": "d"})) as server:
        (found,) = installed([server.url])
    assert found.models[0].name == "evil [31m name"


def test_a_pull_tells_the_bytes_of_each_layer():
    steps = []
    act = stream(
        {"status": "pulling manifest"}, LAYER, LAYER | {"completed": 60}, LAYER | {"completed": 100}, SUCCESS
    )
    with serving(ScriptedOllama(pull=[act])) as server:
        pull("hf.co/Of/Some-GGUF:Q4_K_M", server.url, steps.append)
    assert server.pulled == ["hf.co/Of/Some-GGUF:Q4_K_M"]
    assert steps == [
        PullStep(server.url, "pulling manifest"),
        *(PullStep(server.url, "pulling aabbcc", "sha256:aabbcc", done, 100) for done in (0, 60, 100)),
        PullStep(server.url, "success"),
    ]


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (stream({"error": "pull model manifest: file does not exist"}), MissingPartError, "no such model"),
        (stream({"error": NO_HOST}), BackendError, "cannot reach its registry"),
        (stream(LAYER, {"error": "write /x: no space left on device"}), BackendError, "no room on its disk"),
        (stream({"error": "412: this model requires a newer version of Ollama"}), BackendError, "too old"),
        (status(500, "max retries exceeded: EOF"), BackendError, "cannot reach its registry"),
        (status(500, "something else"), BackendError, "something else"),
        (cut(LAYER), BackendError, "lost"),
        (stream(LAYER), BackendError, "lost"),
        (stream(), BackendError, "lost"),
    ],
)
def test_a_pull_that_fails_is_one_line(act, error, said):
    with serving(ScriptedOllama(pull=[act])) as server, pytest.raises(error, match=said) as caught:
        pull(MODEL, server.url, lambda step: None)
    assert "\n" not in str(caught.value)
    assert server.url in str(caught.value)


def test_what_no_model_can_be_called_is_not_asked_for():
    with serving() as server, pytest.raises(UsageError):
        pull("two words", server.url, lambda step: None)
    assert not server.asked


def test_a_pull_that_is_stopped_hangs_up_so_that_the_server_stops_too():
    hung_up = []

    def forever(handler, question):
        handler.begin()
        try:
            while not handler.script.released.wait(0.01):
                handler.part(LAYER | {"completed": 1})
        except OSError:
            hung_up.append(True)
            handler.close_connection = True

    def stop(step):
        if step.done:
            raise KeyboardInterrupt

    with serving(ScriptedOllama(pull=[forever])) as server:
        with pytest.raises(KeyboardInterrupt):
            pull(MODEL, server.url, stop)
        for _ in range(1000):
            if hung_up or server.released.wait(0.01):
                break
        assert hung_up
