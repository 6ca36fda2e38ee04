"""Whether an image shows a concept, asked of a scripted server over real HTTP."""

import json

import numpy as np
import pytest

from line_neurons.agent.errors import BackendError, MissingPartError, UsageError
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.language_models.ollama.presence import SCHEMA, OllamaPresence
from line_neurons.tools.language_models.reply_cache import ReplyCache
from support.fake_ollama import MODEL, ScriptedOllama, answer, serving, status

SEES = ("completion", "vision")


def png(value=0):
    return encode_png(np.full((40, 40, 3), value, np.uint8))


def said(word):
    return answer(json.dumps({"answer": word}))


def model(server, tmp_path, timeout=5):
    return OllamaPresence(MODEL, [server.url], timeout=timeout, cache=ReplyCache(tmp_path / "replies.db"))


def test_yes_and_no_are_asked_once_with_the_schema_at_temperature_0(tmp_path):
    script = ScriptedOllama(said("yes"), said("No"), capabilities=SEES)
    with serving(script) as server:
        first = model(server, tmp_path)
        assert [first.is_shown("dog {x}\n", png()) for _ in range(2)] == [True, True]
        assert not first.is_shown("dog {x}\n", png(9))
        assert not model(server, tmp_path).is_shown("dog {x}\n", png(9))
        assert first.fingerprint.startswith(f"presence ollama:{MODEL} digest=")
    assert len(script.questions) == 2
    question = script.questions[0]
    (message,) = question["messages"]
    assert message["content"].strip() == "Does this picture contain a dog {x}? Answer yes or no."
    assert message["images"][0].startswith("iVBOR")
    assert question["format"] == SCHEMA
    assert (question["options"]["temperature"], question["options"]["seed"]) == (0, 0)


def test_a_model_that_thinks_is_told_not_to(tmp_path):
    script = ScriptedOllama(said("yes"), capabilities=(*SEES, "thinking"))
    with serving(script) as server:
        assert model(server, tmp_path).is_shown("dog", png())
    assert script.questions[0]["think"] is False


@pytest.mark.parametrize("reply", ["maybe", '{"answer": "perhaps"}', '{"answer": 3}', "[]", ""])
def test_what_is_neither_yes_nor_no_is_an_error_and_is_not_kept(tmp_path, reply):
    script = ScriptedOllama(answer(reply), said("yes"), capabilities=SEES)
    with serving(script) as server:
        seen = model(server, tmp_path)
        with pytest.raises(BackendError, match="neither yes nor no") as caught:
            seen.is_shown("dog", png())
        assert "\n" not in str(caught.value)
        assert seen.is_shown("dog", png())


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        (ScriptedOllama(capabilities=("completion",)), UsageError, "cannot read images"),
        (ScriptedOllama(models={}), MissingPartError, f"does not have the model {MODEL}.*line pull"),
        (
            ScriptedOllama(status(400, "image input is not supported"), capabilities=SEES),
            BackendError,
            "not supported",
        ),
    ],
)
def test_a_model_that_cannot_see_is_refused_in_one_line(tmp_path, script, error, said):
    with serving(script) as server, pytest.raises(error, match=said) as caught:
        model(server, tmp_path).is_shown("dog", png())
    assert "\n" not in str(caught.value)
