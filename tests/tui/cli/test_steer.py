"""`line steer`, `line fork` and what `line show` tells of them, on a run that scripted parts wrote."""

import json
import sys

import pytest
import typer

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.steering_queue import commands
from line_neurons.tui.cli.runs import reopening
from line_neurons.tui.guidance_text import next_candidates
from support import guided
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

    monkeypatch.setattr(reopening, "reopen", reopened)
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


def test_the_best_candidates_are_tried_in_their_order_and_each_once(line, tmp_path):
    opened, run = guided.explain(tmp_path / "store")
    candidates = next_candidates(opened.runs.steps(run.id, 0))
    assert line("steer", run.id, "0", "--try-best", "2")[0] == 0
    assert line("steer", run.id, "0", "--try-best", "1")[0] == 0
    work(opened, opened.runs.run(run.id))
    typed = [step.concept for step in guided.proposals(opened, run) if step.origin == "typed"]
    assert tuple(typed) == candidates[:3]


def test_a_unit_without_candidates_says_which_runs_have_some(line, components):
    said = refused(line("steer", RUN, "0", "--try-best", "3"))
    assert "unit 0 of run model-head-1 has no candidates that nobody tried" in said
    assert "--llm guided" in said


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


def test_what_became_of_each_command_is_listed(line, components):
    assert "has no steering commands" in line("steer", RUN, "0", "--list")[1]
    line("steer", RUN, "0", "--try", "red fox", "--ban", "class a")
    assert line("steer", RUN, "0", "--list")[1].count("waiting") == 2
    line("resume", "--json")
    status, out, _ = line("steer", RUN, "0", "--list")
    assert status == 0
    assert "applied: scored" in out
    assert "applied: banned" in out
    listed = json.loads(line("steer", RUN, "0", "--list", "--json")[1])["all"]
    shown = json.loads(line("show", RUN, "0", "--json")[1])["wishes"]
    assert listed == shown
    assert [(row["kind"], row["state"]) for row in shown] == [("ban", "applied"), ("try", "applied")]
    assert shown[1]["outcome"] == "comes next"
    assert shown[1]["result"].startswith("scored ")


def test_a_waiting_command_is_withdrawn_by_its_number_or_its_concept(line, components):
    line("steer", RUN, "0", "--try", "red fox", "--try", "owl", "--again")
    numbers = [command.id for command in commands(components.runs, RUN, 0)]
    out = line("steer", RUN, "0", "--withdraw", "Owls", "--withdraw", str(numbers[2]))[1]
    assert f"Withdrawn from unit 0 of {RUN}: try owl, again." in out
    assert [command.state for command in commands(components.runs, RUN, 0)] == [
        "waiting",
        "withdrawn",
        "withdrawn",
    ]
    said = refused(line("steer", RUN, "0", "--withdraw", "owl"), "about 'owl' is waiting")
    assert f"waiting: {numbers[0]} (try red fox)" in said
    refused(line("steer", RUN, "0", "--withdraw", "99"), "has no steering command 99")
    refused(line("steer", RUN, "0", "--withdraw", "red fox", "--pin", "aardvark"), "never scored")
    assert commands(components.runs, RUN, 0)[0].state == "waiting"
    line("resume", "--json")
    refused(line("steer", RUN, "0", "--withdraw", str(numbers[0])), "was applied at step", "cannot be withdrawn")
    assert "withdrawn: by" in line("show", RUN, "0")[1]


def test_a_ban_is_undone(line, components):
    refused(line("steer", RUN, "0", "--unban", "class a"), "'class a' is not banned")
    line("steer", RUN, "0", "--ban", "class a")
    refused(line("steer", RUN, "0", "--try", "class a"), "is banned", "--unban undoes a ban")
    assert line("steer", RUN, "0", "--unban", "class a")[0] == 0
    line("resume", "--json")
    assert (
        "class a" in dict(components.runs.steps(RUN, 0)[-1].board)
        or "no longer banned" in line("show", RUN, "0")[1]
    )


def test_a_ban_of_a_slip_is_asked_about(line, components, monkeypatch):
    said = refused(
        line("steer", RUN, "0", "--ban", "clas a"), "'clas a' is neither on", "class a (in its history)", "--yes"
    )
    assert "neither on the scoreboard nor in the history" in said
    assert commands(components.runs, RUN, 0) == []
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", lambda question, err: False)
    status, _, err = line("steer", RUN, "0", "--ban", "clas a", "--again")
    assert status == 2
    assert "Nothing was sent." in err
    assert commands(components.runs, RUN, 0) == []
    monkeypatch.setattr(typer, "confirm", lambda question, err: True)
    assert line("steer", RUN, "0", "--ban", "clas a")[0] == 0
    assert line("steer", RUN, "0", "--ban", "clas b", "--yes")[0] == 0
    assert [command.concept for command in commands(components.runs, RUN, 0)] == ["clas a", "clas b"]
