"""A whole run whose every part brings hostile text, and what the commands make of its store."""

import json
import re
from types import SimpleNamespace

import pytest

from hostile.components import LAYER, TEXTS, Talker, hostile_components
from hostile.sandbox import confined
from hostile.texts import NAMED, obeyed
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tui.cli import main as cli

NAMES = (NAMED["clipboard"], NAMED["lone surrogates"], NAMED["formula"])
LINE = re.compile(
    r"Scoreboard:|-?[\d.]+(?:e[+-]\d+)? .*|(?:Forbidden|Pictures can be made of, for example): .+"
    r"|Refused: .+|Strongest: .+\. Name a new concept, not one of these\."
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sandbox")
    store, talker = folder / "store", Talker()
    with confined(folder):
        components = hostile_components(store, talker, NAMES, iterations=48, retries=3, hints=5)
        run = work(components, start(components, LAYER, ["0"], command=f"line {NAMED['lone surrogates']}"))
    return SimpleNamespace(folder=folder, store=store, talker=talker, components=components, run=run)


@pytest.fixture
def command(ran, line, monkeypatch):
    def run(*arguments):
        monkeypatch.setenv("LINE_STORE", str(ran.store))
        with confined(ran.folder):
            return line(*arguments)

    return run


def test_it_ends_with_a_label_and_every_text_was_answered(ran):
    (unit,) = ran.components.runs.units(ran.run.id)
    assert (ran.run.status, unit.status) == ("finished", "finished")
    assert len(ran.talker.prompts) > 3 * len(TEXTS)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", ran.run.id)


def test_the_evidence_has_each_reply_as_it_came(ran):
    kept = {step.reply for step in ran.components.runs.steps(ran.run.id, 0)}
    # The one thing that no database holds as text.
    escaped = {NAMED["lone surrogates"]: r"owl\ud800 \udfff\udce9"}
    assert {escaped.get(text, text).lstrip() for text in TEXTS} <= kept


def test_no_text_reached_a_concept_or_a_reason_as_it_was(ran):
    for step in ran.components.runs.steps(ran.run.id, 0):
        proposed = "" if step.outcome == "invalid" else step.concept
        concepts = [proposed or "", step.removed or "", *(concept for concept, _ in step.board)]
        assert not set("".join(concepts)) & set('<>[]{}/\\|`"*;=')
        assert obeyed("".join([*concepts, step.reasoning])) == []


def test_every_request_keeps_its_structure(ran):
    for prompt in ran.talker.prompts:
        assert [message.role for message in prompt.messages][::2] == ["system", "assistant", "assistant"][
            : -(-len(prompt.messages) // 2)
        ]
        request = prompt.messages[-1].content
        lines = request.split("\n")
        assert [line for line in lines if not LINE.fullmatch(line)] == []
        assert sum(line.startswith("Refused: ") for line in lines) <= 3
        assert not set(request) & set("<>[]{}|\uff5c")
        assert obeyed(request) == []


@pytest.mark.parametrize("arguments", [("runs",), ("show", "RUN"), ("show", "RUN", "0"), ("results", "RUN")])
def test_what_is_printed_is_inert(ran, command, arguments):
    status, out, err = command(*(ran.run.id if one == "RUN" else one for one in arguments))
    assert (status, err) == (0, "")
    assert obeyed(out) == []
    assert "owl" in out


def test_json_is_inert_and_holds_every_reply_as_it_is_kept(ran, command):
    status, out, err = command("show", ran.run.id, "0", "--json")
    assert (status, err) == (0, "")
    assert obeyed(out) == []
    shown = json.loads(out)
    kept = [step.reply for step in ran.components.runs.steps(ran.run.id, 0)]
    assert [entry["reply"] for entry in shown["history"]] == kept
    assert any("\x1b" in reply for reply in kept)


def test_a_unit_is_found_by_its_hostile_name_and_none_by_another(ran, command):
    assert command("show", ran.run.id, NAMES[0])[0] == 0
    for text in TEXTS:
        if text not in NAMES and not text.startswith("-"):
            status, out, err = command("show", ran.run.id, text)
            assert (status, out) == (2, "")
            assert err.startswith("error: ")
            assert len(err.splitlines()) == 1
            assert obeyed(err) == []


def test_an_error_of_ours_shows_what_it_quotes_cleaned_with_its_traceback_too(command, monkeypatch):
    for text in TEXTS:
        status, out, err = command("--debug", "show", "--", text)
        assert (status, out) == (2, "")
        assert "Traceback" in err
        assert obeyed(err) == []


def test_a_mistyped_command_is_shown_cleaned(command):
    for text in TEXTS:
        status, _, err = command("show", f"--{text}")
        assert (status, obeyed(err)) == (2, [])
        status, _, err = command(f"x{text}")
        assert (status, obeyed(err)) == (2, [])


def test_an_error_that_nobody_thought_of_is_shown_cleaned(command, monkeypatch):
    for text in TEXTS:

        def broken(standalone_mode, text=text):
            raise RuntimeError(text)

        monkeypatch.setattr(cli, "app", broken)
        status, out, err = command()
        assert (status, out) == (1, "")
        assert "RuntimeError" in err
        assert obeyed(err) == []
