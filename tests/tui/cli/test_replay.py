"""`line replay`: what it says, and the status that a script can go by."""

import json
import os
import signal

import pytest

from line_neurons.agent.errors import BackendError
from line_neurons.graphs.replay import replay
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from support.command_checks import refused
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, scripted_components

RUN = "model-head-1"


def answer(prompt, seed, temperature):
    return f"thing {seed % 1000}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A finished run of two units; what is put in are the parts that a replay finds here."""
    components = scripted_components(tmp_path / "store", ScriptedModel(answer), iterations=2)
    work(components, start(components, LAYER, ["0-1"]))
    found = {"model": ScriptedModel(answer), "target": ScriptedTarget()}

    def opened(model, settings, preparing=None, layers=None):
        found["settings"] = settings
        known = scripted_components(settings.store, found["model"], target=found["target"])
        named = ("language_model", "generator", "target", "control_set")
        made = Components(model, settings, preparing, layers)
        return made.with_(**{name: getattr(known, name) for name in named})

    monkeypatch.setattr(replay, "Components", opened)
    return found


def test_status_0_says_that_all_is_the_same(line, here, tmp_path):
    status, out, _ = line("replay", RUN)
    assert status == 0
    assert "The environment is the same here." in out
    assert "2 units identical." in out
    folder = tmp_path / "store" / "replays" / f"{RUN}-1"
    assert line("show", RUN, "0", "--store", folder)[0] == 0
    # Once it is finished the same command does it again, and one that names its folder compares again.
    asked = len(here["model"].asked)
    assert line("replay", RUN, "--into", folder)[0] == 0
    assert len(here["model"].asked) == asked
    assert line("replay", RUN)[0] == 0
    assert len(here["model"].asked) == 2 * asked


def test_servers_that_an_option_names_are_used(line, here):
    assert line("replay", RUN, "--ollama", "gpu8:1", "--base-url", "gpu9:1")[0] == 0
    assert (here["settings"].ollama, here["settings"].base_url) == ("gpu8:1", "gpu9:1")


def test_status_1_says_where_it_is_another(line, here):
    here["model"] = ScriptedModel(lambda *asked: "a crane" if len(here["model"].asked) == 2 else answer(*asked))
    status, out, _ = line("replay", RUN, "0", "--into", "again")
    assert status == 1
    assert "unit 0, step 2: reply: " in out
    assert "crane" in out
    told = json.loads(line("replay", RUN, "0", "--into", "again", "--json")[1])
    assert (told["schema"], told["agrees"], told["run"]) == ("line-neurons/replay/1", False, RUN)
    assert told["units"][0]["parted"]["step"] == 2


def test_another_part_is_told_before_anything_is_done_and_refused_if_that_is_wanted(line, here, tmp_path):
    here["target"] = ScriptedTarget(fingerprint="other target")
    refused_out = line("replay", RUN, "--strict")
    assert refused_out[0] == 2
    assert "components differ from those of run model-head-1: parts.target" in refused_out[2]
    assert "other target" in refused_out[1]
    assert here["model"].asked == []
    status, out, _ = line("replay", RUN)
    # Weights that are others by name alone change nothing.
    assert (status, "other target" in out) == (0, True)


def test_after_ctrl_c_the_same_command_goes_on(line, here, tmp_path):
    def interrupting(*asked):
        if len(here["model"].asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return answer(*asked)

    here["model"] = ScriptedModel(interrupting)
    status, _, err = line("replay", RUN)
    assert status == 130
    assert f"Continue with the same command: line replay {RUN}" in err
    here["model"] = ScriptedModel(answer)
    status, out, _ = line("replay", RUN)
    assert (status, "2 units identical." in out) == (0, True)
    assert len(here["model"].asked) < 6
    assert len(list((tmp_path / "store" / "replays").iterdir())) == 1


def test_a_part_that_fails_is_one_line_and_the_same_command_goes_on(line, here):
    def failing(*asked):
        if len(here["model"].asked) == 3:
            raise BackendError("the server went away", "start it")
        return answer(*asked)

    here["model"] = ScriptedModel(failing)
    status, _, err = line("replay", RUN)
    assert (status, "the server went away (start it; then run the same command again" in err) == (
        2,
        True,
    )
    here["model"] = ScriptedModel(answer)
    assert line("replay", RUN)[0] == 0


def test_what_cannot_be_done_again_is_one_line(line, here, tmp_path):
    refused(line("replay", "other"), "is not a run")
    refused(line("replay", RUN, "9"), "has no unit '9'")
    refused(line("replay", RUN, "--into", tmp_path / "store"), "is the store of run")
    refused(line("replay", RUN, "--store", tmp_path / "nowhere"), "there are no runs in")
    assert not (tmp_path / "store" / "replays").exists()
