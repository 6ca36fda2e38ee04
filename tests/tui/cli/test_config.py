"""`line config` and `line init`: what is in force, where it comes from, and the commented file."""

import json
import tomllib

import pytest

from line_neurons.agent.settings import load_settings, setting_names
from line_neurons.tui.cli.config import commented_settings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(line, *arguments):
    status, out, _ = line("config", "--json", *arguments)
    assert status == 0
    return {entry["setting"]: entry for entry in json.loads(out)}


def test_every_setting_is_shown_with_its_origin(line, folder, monkeypatch):
    (folder / "line.toml").write_text("seed = 1\nimages = 1\n[diffusion]\nsteps = 4\nsize = 512\n")
    monkeypatch.setenv("LINE_IMAGES", "2")
    monkeypatch.setenv("LINE_IN_FLIGHT", "3")
    monkeypatch.setenv("LINE_DIFFUSION__SIZE", "256")
    found = shown(line, "--iterations", "7")
    assert {name.replace(".", "__") for name in found} == {*setting_names()}
    origins = {
        name: (found[name]["value"], found[name]["from"], found[name]["place"])
        for name in (
            "iterations",
            "images",
            "max_concurrent_units",
            "diffusion.size",
            "seed",
            "diffusion.steps",
            "top",
        )
    }
    file = str(folder / "line.toml")
    assert origins == {
        "iterations": (7, "flag", "--iterations"),
        "images": (2, "environment", "LINE_IMAGES"),
        "max_concurrent_units": (3, "environment", "LINE_IN_FLIGHT"),
        "diffusion.size": (256, "environment", "LINE_DIFFUSION__SIZE"),
        "seed": (1, "file", file),
        "diffusion.steps": (4, "file", file),
        "top": (5, "default", ""),
    }
    assert found["seed"]["default"] == 0


def test_a_preset_wins_over_the_file_and_flags_over_the_preset(line, folder):
    (folder / "line.toml").write_text("hints = 3\n")
    found = shown(line, "--preset", "paper", "--control", "none", "--init", "vocabulary", "--top", "2")
    assert [(found[name]["value"], found[name]["from"]) for name in ("hints", "top")] == [
        (0, "preset"),
        (2, "flag"),
    ]


def test_only_what_differs_is_shown_if_asked(line, folder, monkeypatch):
    monkeypatch.delenv("LINE_VOCABULARY_SHARE")
    assert [*shown(line, "--changed", "--seed", "3")] == ["seed", "store"]  # The store of the tests is a variable.


def test_settings_are_shown_by_name_flag_or_variable_and_a_mistyped_one_is_refused(line, folder):
    typed = ["seed", "image-batch", "steps", "diffusion.size", "LINE_IMAGES"]
    assert {*shown(line, *typed)} == {"seed", "images", "diffusion.batch", "diffusion.steps", "diffusion.size"}
    assert shown(line, "seed", "--changed") == {}
    status, _, err = line("config", "sead")
    assert status == 2
    assert "no setting is named 'sead'; near: seed" in err


def test_the_settings_of_a_batch_are_those_of_line_batch(line, folder):
    assert shown(line)["max_concurrent_units"]["value"] == 1
    found = shown(line, "--batch", "--llm", "random", "--max-consecutive-failures", "2")
    values = [found[name]["value"] for name in ("max_concurrent_units", "max_consecutive_failures", "revisit")]
    assert values == [16, 2, True]


def test_keys_and_passwords_are_not_shown(line, folder, monkeypatch):
    (folder / "line.toml").write_text('ollama = "http://me:pass@gpu1"\n[langchain]\napi_key = "sk-12345"\n')
    for arguments in ((), ("--json",)):
        out = line("config", *arguments)[1]
        assert "gpu1" in out
        assert "sk-12345" not in out
        assert "pass@" not in out


def test_a_file_is_written_that_parses_and_changes_nothing(line, folder):
    before = load_settings()
    status, out, _ = line("init")
    assert (status, out.strip()) == (0, "Written: line.toml")
    text = (folder / "line.toml").read_text()
    assert tomllib.loads(text) == {"diffusion": {}}
    assert load_settings().model_dump() == before.model_dump()
    assert load_settings().model_fields_set - {"diffusion"} == before.model_fields_set
    for name in setting_names():
        assert f"\n# {name.rpartition('__')[2]} = " in text
    status, _, err = line("init")
    assert status == 2
    assert "exists already" in err
    assert (folder / "line.toml").read_text() == text


def test_each_uncommented_default_is_the_default():
    lines = [text.removeprefix("# ") for text in commented_settings().splitlines()]
    uncommented = [
        text for text in lines if text == "[diffusion]" or (" = " in text and text.split(" = ")[0].isidentifier())
    ]
    given = tomllib.loads("\n".join(text for text in uncommented if "# not set" not in text))
    defaults = load_settings()
    assert load_settings(**given) == defaults
    assert len(given) + len(given["diffusion"]) > 50


def test_a_folder_or_another_name_may_be_given(line, folder):
    (folder / "work").mkdir()
    assert line("init", "work")[0] == 0
    assert (folder / "work" / "line.toml").is_file()
    assert "--config own.toml" in line("init", "own.toml")[1]
