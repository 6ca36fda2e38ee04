"""Runs of the release before addresses were left out of the fingerprint of LangChain's models.

``tests/stores/langchain-*.sql`` was written by that release: a finished run and an interrupted one, of a model at
``http://node17:8000/v1``, and the replies of both.
"""

import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.agent.settings import Settings
from line_neurons.graphs.replay.compare import compare_environment
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.environment import current_environment
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.tools.language_models.arguments import identity_of, known_fingerprints, langchain_here
from line_neurons.tools.language_models.registry import open_language_model
from line_neurons.tools.store.runs import RunStore
from support.fakes import LAYER, ScriptedControl, ScriptedGenerator, ScriptedTarget, events, outcome

STORES = Path(__file__).parents[2] / "stores"
FINISHED, INTERRUPTED = "model-head-1", "model-head-2"
THERE = {"model": "house-1", "base_url": "http://node17:8000/v1", "timeout": 30.0, "api_key": "sk-of-then"}
HERE = {"model": "house-1", "base_url": "http://node4:9000/v1", "max_retries": 7, "api_key": "sk-of-now"}
MODULE = """
import hashlib
import json

from langchain_core.language_models import SimpleChatModel

ASKED = []


class Chat(SimpleChatModel):
    model: str
    base_url: str
    timeout: float = 60
    max_retries: int = 2
    api_key: str = ""

    @property
    def _llm_type(self):
        return "house"

    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        ASKED.append(self.base_url)
        said = hashlib.sha256("".join(str(message.content) for message in messages).encode()).hexdigest()[:6]
        return json.dumps({"reasoning": "as ever", "concept": f"thing {said}"})
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """The module of the model; its list has the address of each request."""
    (tmp_path / "house_chat.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "house_chat", raising=False)
    monkeypatch.setattr(Components, "generator", ScriptedGenerator())
    monkeypatch.setattr(Components, "target", ScriptedTarget(n=2))
    monkeypatch.setattr(Components, "control_set", ScriptedControl(tuple(f"class {one}" for one in "abcdef")))
    import house_chat

    yield house_chat.ASKED
    monkeypatch.delitem(sys.modules, "house_chat", raising=False)


@pytest.fixture
def store(tmp_path, house):
    """The store as that release left it, without checkpoints."""
    folder = tmp_path / "store"
    folder.mkdir()
    for name in ("runs", "replies"):
        with closing(sqlite3.connect(folder / f"{name}.db")) as db:
            db.executescript((STORES / f"langchain-{name}.sql").read_text())
    runs = RunStore(folder)
    for run in (FINISHED, INTERRUPTED):
        record_trust(runs, runs.run(run))
    return folder


def settings(store, **changes):
    return Settings(
        store=store, llm="langchain:house_chat.Chat", iterations=3, images=2, top=2, random=2, **changes
    )


def reopened(store, langchain, run=INTERRUPTED):
    recorded = RunStore(store).run(run)
    here = settings(store, langchain=langchain)
    changes = {"langchain": langchain_here(recorded.settings, here)}
    return reopen(recorded, store, None, changes=changes), recorded


def test_a_run_goes_on_at_another_address_and_asks_nothing_again(store, house, tmp_path):
    whole = Components("scripted:model", settings(tmp_path / "whole", langchain=THERE))
    undisturbed = work(whole, start(whole, LAYER, ["1"]))
    asked = len(house)
    house.clear()
    components, run = reopened(store, HERE)
    before = run.fingerprints["language_model"]
    now = components.language_model.fingerprint
    assert before != now
    done = work(components, run)
    assert done.status == "finished"
    assert outcome(components, run.id) == outcome(whole, undisturbed.id)
    # What was asked before is found under the former fingerprint.
    assert set(house) == {HERE["base_url"]}
    assert 0 < len(house) < asked
    (change,) = events(components, run.id, "settings changed")
    assert (change["language_model_before"], change["language_model_after"]) == (before, now)
    assert change["after"]["langchain"]["base_url"] == HERE["base_url"]
    # And once more, at a third place.
    reopened(store, {**HERE, "base_url": "http://node9/v1"})
    for name in ("runs", "replies"):
        assert b"sk-of" not in (store / f"{name}.db").read_bytes()


def test_replies_are_found_under_the_fingerprint_of_before(store, house):
    with closing(sqlite3.connect(store / "replies.db")) as db:
        prompts = [json.loads(prompt) for (prompt,) in db.execute("SELECT prompt FROM full_llm_cache")]
    model = open_language_model(
        "langchain:house_chat.Chat", settings=settings(store, langchain=THERE), assets=store,
        cache=store / "replies.db", words=list,
    )  # fmt: skip
    for prompt in prompts:
        messages = tuple(Message(role, content) for role, content in prompt["messages"])
        model.propose(Prompt(messages), seed=prompt["seed"], temperature=prompt["temperature"])
    assert len(prompts) > 3
    assert house == []


def test_a_finished_run_of_before_has_the_same_language_model(store):
    components, run = reopened(store, HERE, FINISHED)
    assert known_fingerprints(components.language_model, run) == components.fingerprints(LAYER)
    known = replace(run, fingerprints=known_fingerprints(components.language_model, run))
    differ, _ = compare_environment(components.runs, known, current_environment(components, LAYER))
    assert "parts.language_model" not in {difference.what for difference in differ}


def test_another_model_is_refused_as_before(store):
    recorded = RunStore(store).run(INTERRUPTED)
    with pytest.raises(UsageError, match="language model of run model-head-2 has changed"):
        reopen(recorded, store, None, changes={"langchain": {**HERE, "model": "house-2"}})


def test_the_place_of_another_model_is_not_taken(store):
    recorded = RunStore(store).run(INTERRUPTED)
    arguments = langchain_here(recorded.settings, settings(store, langchain={**HERE, "model": "house-2"}))
    assert (arguments["base_url"], arguments["api_key"]) == (THERE["base_url"], HERE["api_key"])


def test_where_only_the_address_tells_the_model_it_counts():
    assert identity_of(THERE) == {"model": "house-1"}
    assert identity_of({"service_url": "http://eas/model-7"}) == {"service_url": "http://eas/model-7"}
