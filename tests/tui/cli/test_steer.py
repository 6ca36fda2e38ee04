"""`line steer`, `line fork` and what `line show` tells of them, on a run that scripted parts wrote."""

import json

import pytest

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.steering_queue import commands
from line_neurons.tui.cli import jobs as labelling
from support.command_checks import refused
from support.fakes import LAYER, ScriptedModel, scripted_components

RUN, FORK = "model-head-1", "model-head-2"


def components_for(store, **options):
    return scripted_components(store, ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}"), **options)


@pytest.fixture
def components(tmp_path, monkeypatch):
    """A finished run, whose recorded parts are opened as scripted ones."""
    made = components_for(tmp_path / "store", iterations=2)
    work(made, start(made, LAYER, ["0"]))

    def reopened(run, store, assets, told, changes):
        given = {name: value for name, value in changes.items() if name in {"seed", "control_seed", "llm"}}
        return components_for(tmp_path / "store", **{"iterations": 2} | given)

    monkeypatch.setattr(labelling, "reopen", reopened)
    return made


def test_what_is_asked_is_written_and_said_with_how_it_is_taken_up(line, components):
    status, out, _ = line("steer", RUN, "0", "--ban", "class a", "--try", "Red Fox", "--again")
    assert status == 0
    assert f"ban class a, try red fox, again. The run is not active; continue with: line resume {RUN}" in " ".join(
        out.split()
    )
    shown = line("show", RUN)[1]
    assert "pending steering commands: units 0" in shown
    assert f"line resume {RUN}" in shown
    assert line("resume", "--json")[0] == 0
    told = json.loads(line("show", RUN, "0", "--json")[1])
    assert [(one["kind"], one["outcome"]) for one in told["wishes"]] == [
        ("ban", told["wishes"][0]["outcome"]),
        ("try", "comes next"),
        ("again", "continues for an iteration"),
    ]
    assert told["history"][-2]["origin"] == "typed"
    assert "red fox" in line("show", RUN, "0")[1]
    refused(line("resume"), "nothing to resume")


def test_who_works_on_the_run_is_said_to_take_the_wish(line, components):
    with acquire(components.runs, [RUN]):
        assert "applies it before the unit's next node" in " ".join(line("steer", RUN, "0", "--again")[1].split())
        assert json.loads(line("steer", RUN, "0", "--again", "--json")[1])["worked_on"] is True


def test_of_several_wishes_all_are_written_or_none(line, components):
    refused(line("steer", RUN, "0", "--ban", "class a", "--pin", "aardvark"), "aardvark", "never scored")
    refused(line("steer", RUN, "0"), "no steering command is given")
    refused(line("steer", RUN, "7", "--again"), "has no unit '7'")
    assert commands(components.runs, RUN, 0) == []


def test_a_fork_is_a_run_that_says_where_it_comes_from(line, components):
    status, _, err = line("fork", RUN, "0", "--step", "1", "--seed", "7", "--concept", "red fox")
    assert status == 0
    assert f"Forked unit 0 of {RUN} after step 1 as {FORK}." in err
    told = json.loads(line("runs", "--json")[1])[0]
    assert [told[name] for name in ("id", "forked_from", "forked_unit", "forked_step", "seed", "status")] == [
        FORK, RUN, 0, 1, 7, "finished",
    ]  # fmt: skip
    assert f"forked from unit 0 of {RUN} after step 1" in line("show", FORK)[1]
    assert f"forked after step 1: {FORK}" in line("show", RUN, "0")[1]
    assert json.loads(line("show", RUN, "0", "--json")[1])["forks"] == [FORK]


def test_a_fork_without_work_waits_for_a_resume(line, components):
    told = json.loads(line("fork", RUN, "0", "--step", "0", "--no-work", "--json")[1])
    assert told == {"run": FORK, "forked_from": RUN, "unit": 0, "step": 0}
    assert components.runs.run(FORK).status == "pending"
    assert line("resume", FORK)[0] == 0
    ours, theirs = ([step.concept for step in components.runs.steps(run, 0)] for run in (RUN, FORK))
    assert theirs == ours


def test_a_fork_that_makes_no_sense_is_one_line(line, components):
    refused(line("fork", RUN, "0", "--step", "9"), "has no step 9 that has ended")
    refused(line("fork", RUN, "0", "--step", "3"), "ended with step 3")
    refused(line("fork", "other", "0", "--step", "1"), "is not a run")
    assert components.runs.names() == [RUN]


def test_the_question_of_a_step_is_printed_and_checked(line, components):
    status, out, _ = line("show", RUN, "0", "--step", "2", "--prompt")
    assert status == 0
    assert "step 2, request 0: identical to what was sent, by its recorded hash" in out
    assert "Scoreboard:" in out
    told = json.loads(line("show", RUN, "0", "--step", "2", "--prompt", "--json")[1])
    sent = components.language_model.asked[1][0].messages[-1].content
    assert told[0]["prompt"]["messages"][-1]["content"] == sent
    refused(line("show", RUN, "0", "--prompt"), "--prompt needs the number of a step")
    refused(line("show", RUN, "0", "--step", "0", "--prompt"), "sent no prompt")
