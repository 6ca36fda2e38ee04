import json

import numpy as np
import pytest

from line_neurons.agent.errors import BackendError, MissingPartError, UsageError
from line_neurons.tools.language_models.ollama.embeddings import OllamaEncoder
from support.fake_ollama import DIGEST, Handler, ScriptedOllama, serving

NAME = "nomic-embed-text:latest"


def embedding(rows=None, error=""):
    """A handler that embeds a text by its length, or as ``rows`` say."""

    class Embedder(Handler):
        def do_POST(self):
            if self.path != "/api/embed":
                return super().do_POST()
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.script.questions.append(question)
            if error:
                return self.json({"error": error}, 400)
            found = [[float(len(text)), 4.0] for text in question["input"]] if rows is None else rows
            return self.json({"model": question["model"], "embeddings": found})

    return Embedder


def server(**given):
    return serving(ScriptedOllama(models={NAME: DIGEST}), handler=embedding(**given))


def test_it_embeds_in_batches_and_gives_vectors_of_length_1():
    with server() as ollama:
        encoder = OllamaEncoder("nomic-embed-text", [ollama.url], timeout=10)
        found = encoder.encode(["owl"] * 100)
        assert encoder.fingerprint == f"ollama-embedding:{NAME} digest={DIGEST[:16]}"
        assert [len(question["input"]) for question in ollama.questions] == [64, 36]
    assert found.dtype == np.float32
    assert found == pytest.approx(np.tile([0.6, 0.8], (100, 1)))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"rows": [[1.0]]}, BackendError, "no embedding for each of 2 phrases"),
        ({"rows": [[1.0, 2.0], [1.0]]}, BackendError, "no embedding for each"),
        ({"rows": [[0.0, 0.0], [1.0, 0.0]]}, UsageError, "is not finite, or 0"),
        ({"rows": [[float("nan"), 0.0], [1.0, 0.0]]}, UsageError, "is not finite, or 0"),
        ({"error": "this model does not support embeddings"}, BackendError, "has no embeddings"),
    ],
)
def test_what_is_no_embedding_is_refused(given, error, said):
    with server(**given) as ollama, pytest.raises(error, match=said):
        OllamaEncoder("nomic-embed-text", [ollama.url], timeout=10).encode(["owl", "crow"])


def test_a_model_that_is_not_there_names_the_remedy():
    with server() as ollama, pytest.raises(MissingPartError, match="does not have the model other:latest"):
        _ = OllamaEncoder("other", [ollama.url], timeout=10).fingerprint
