"""A scripted server with the OpenAI API over real HTTP, which misbehaves as it is told to.

Each chat takes the next of the scripted acts, the last one again and again; the short chat that an engine begins
with takes ``trial``. An act gets the request handler and the request.
"""

import json
import threading
from collections import Counter

from support.fake_ollama import Handler, proposal
from support.fake_ollama import serving as serving_with

MODEL = "Qwen/Qwen2.5-7B-Instruct"
KEY = "sk-very-secret-0123456789"


class ScriptedOpenAI:
    """The server's state; tests may change it while it runs."""

    def __init__(self, *acts, models=None, trial=None, prefix="/v1"):
        self.acts = list(acts) or [answer()]
        self.models = [{"id": MODEL, "object": "model", "owned_by": "vllm"}] if models is None else models
        self.trial = trial or answer("{")
        self.prefix = prefix
        self.questions = []
        self.trials = []
        self.headers = []
        self.asked = Counter()
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.url = ""

    @property
    def base_url(self):
        return f"{self.url}{self.prefix}"


def answer(text=None, *, finish="stop", model=None, backend=None, **message):
    """Answer with a text; ``message`` has further fields, such as ``reasoning_content``."""

    def act(handler, question):
        content = proposal() if text is None else text
        reply = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": model or question["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, **message},
                    "finish_reason": finish,
                }
            ],
            "usage": {"prompt_tokens": 900, "completion_tokens": 30},
        }
        handler.json(reply | ({"system_fingerprint": backend} if backend else {}))

    return act


def error(code, message="", kind=None, **headers):
    """Answer with a status and an error in OpenAI's form."""

    def act(handler, question):
        handler.json({"error": {"message": message, "type": "error", "code": kind}}, code, **headers)

    return act


class OpenAIHandler(Handler):
    """Speaks the OpenAI API."""

    def do_GET(self):
        self.script.asked[self.path] += 1
        self.script.headers.append(self.lower_headers())
        if self.path == f"{self.script.prefix}/models":
            models = self.script.models
            if callable(models):
                models(self, None)
            else:
                self.json({"object": "list", "data": models})
        else:
            self.json({"detail": "Not Found"}, 404)

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.script.asked[self.path] += 1
        self.script.headers.append(self.lower_headers())
        if self.path != f"{self.script.prefix}/chat/completions":
            self.json({"detail": "Not Found"}, 404)
            return
        with self.script.lock:
            if question["messages"][-1]["content"] == "Say hello.":
                self.script.trials.append(question)
                act = self.script.trial
            else:
                self.script.questions.append(question)
                act = self.script.acts[0] if len(self.script.acts) == 1 else self.script.acts.pop(0)
        act(self, question)


def serving(script=None):
    """Run a scripted server; gives the script, whose ``base_url`` says where."""
    return serving_with(script or ScriptedOpenAI(), handler=OpenAIHandler)
