import json

import pytest

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import MACHINE, PAPER
from line_neurons.agent.prompts import ANGLES, LIGHTINGS
from line_neurons.agent.settings import Settings, load_settings, revised
from line_neurons.tools.generators.presets import PRESETS


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("LINE_SEED", "LINE_STORE", "LINE_ASSETS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_defaults_are_the_papers():
    settings = load_settings()
    assert (settings.iterations, settings.images, settings.top, settings.random) == (10, 5, 5, 5)
    assert (settings.temperature, settings.top_p, settings.scorer) == (0.5, 0.9, "mean")
    assert (settings.llm, settings.generator, settings.init) == ("ollama:llama3.1:8b", "sdxl", "control")


def test_the_preset_paper_has_every_number_of_the_paper_whatever_the_file_and_the_environment_say(
    empty_folder, monkeypatch
):
    (empty_folder / "line.toml").write_text(
        "iterations = 3\npatience = 2\nmax_iterations = 9\nhints = 4\npool = 'max'\n[diffusion]\nsteps = 4\n"
    )
    monkeypatch.setenv("LINE_TEMPERATURE", "1.5")
    found = load_settings(preset="paper", control="hf:imagenet-1k@validation")
    told = {
        "init": "control", "top": 5, "random": 5, "capacity": 10, "random_pool": 0, "control_images": 50,
        "control": "hf:imagenet-1k@validation", "iterations": 10, "summary": True, "patience": 0,
        "max_iterations": None, "restarts": 0, "revisit": False, "images": 5, "scorer": "mean", "pool": "auto",
        "template": "A realistic photo of a {concept}, {angle}, {lighting}", "modifiers": "per-image",
        "llm": "ollama:llama3.1:8b", "temperature": 0.5, "top_p": 0.9, "duplicates": "overwrite",
        "retry_temperature_step": 0.0, "top_k": 50, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0,
        "repeat_last_n": 64, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "hints": 0, "generator": "sdxl", "diffusion": DiffusionSettings(), "forbidden": "proposed",
    }  # fmt: skip
    assert {name: getattr(found, name) for name in told} == told
    sdxl = PRESETS[found.generator]
    assert (sdxl.hub, sdxl.variant, sdxl.dtype) == ("stabilityai/stable-diffusion-xl-base-1.0", "fp16", "float16")
    assert (sdxl.steps, sdxl.guidance) == (25, 5.0)
    assert ANGLES == ("extreme close-up", "wide angle shot", "aerial view", "low angle")
    assert LIGHTINGS == ("cinematic lighting", "natural sunlight", "studio lighting")


# For each setting of the preset another value, which a line.toml and the environment try to bring in.
OTHERS = {
    "seed": 7, "init": "cache", "vocabulary": "words.txt", "vocabulary_share": 0.5, "exclude": ["fox"],
    "exclude_for": {"3": ["fox"]}, "top": 4, "random": 3, "random_pool": 9, "control": "bank", "control_images": 9,
    "control_seed": 3,
    "class_names": "names.txt", "image_range": "0,4095",
    "layout": ["tokens"], "label_dead": False,
    "iterations": 3, "summary": False, "patience": 2, "max_iterations": 20, "restarts": 2,
    "restart_by": "images", "facets": 3,
    "revisit": True, "images": 9, "scorer": "auc", "weights": "own.pth", "pool": "max",
    "query_pool": "mean", "tokens": "cls", "sae": "sae.pt", "sae_input": "mean.npz", "sae_activation": "relu",
    "sae_minus_b_dec": True, "sae_force": True, "directions": "stripes.npz", "precision": "bfloat16",
    "channels_last": True, "template": "a {concept}", "modifiers": "per-concept", "llm": "random",
    "langchain": {"model": "other"}, "context": 2048, "reply_tokens": 64, "think": "on", "temperature": 1.5,
    "top_k": 20, "min_p": 0.1, "typical_p": 0.5, "repeat_penalty": 1.3, "repeat_last_n": -1,
    "presence_penalty": 0.5, "frequency_penalty": 0.5,
    "top_p": 0.5, "forbidden": "off-board", "duplicates": "refuse", "retries": 9, "retry_temperature_step": 0.7,
    "hints": 3, "hints_by": "improvement", "candidates": "wordnet", "text_encoder": "other", "until": 0.5,
    "captioner": "ollama:llava", "proposals": 5, "generate": 2,
    "generator": "sd15", "threshold": 0.5,
    "diffusion": {
        "steps": 4, "guidance": 9.0, "size": 512, "dtype": "float32", "revision": "main", "scheduler": "Other",
        "channels_last": True, "lora": ["own.safetensors"], "vae_tiling": True, "compile": True,
    },
}  # fmt: skip


def test_every_setting_is_fixed_by_the_preset_or_decides_no_label():
    assert PAPER.keys() | MACHINE[""] == Settings.model_fields.keys()
    assert PAPER.keys() & MACHINE[""] == {"diffusion"}
    assert PAPER["diffusion"].keys() | MACHINE["diffusion"] == DiffusionSettings.model_fields.keys()
    assert not PAPER["diffusion"].keys() & MACHINE["diffusion"]


@pytest.mark.parametrize("place", ["file", "environment"])
def test_nothing_from_outside_gets_into_the_preset_but_what_decides_no_label(empty_folder, monkeypatch, place):
    assert OTHERS.keys() == PAPER.keys()
    assert OTHERS["diffusion"].keys() == PAPER["diffusion"].keys()
    flags = {"preset": "paper", "control": "hf:imagenet-1k@validation"}
    plain = load_settings(**flags)
    outside = {**OTHERS, "device": "cuda:1", "diffusion": {**OTHERS["diffusion"], "offload": "model"}}
    if place == "file":
        (empty_folder / "line.toml").write_text(_toml(outside))
    else:
        for name, value in outside.items():
            said = value if isinstance(value, str) else json.dumps(value)
            monkeypatch.setenv(f"LINE_{name.upper()}", said)
    found = load_settings(**flags)
    assert (found.device, found.diffusion.offload) == ("cuda:1", "model")
    machine = {"device": plain.device, "diffusion": plain.diffusion}
    assert found.model_dump() | machine == plain.model_dump() | machine
    assert found.diffusion.model_copy(update={"offload": "none"}) == plain.diffusion


def _toml(values):
    def said(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name} = {said(one)}" for name, one in value.items()) + "}"
        return json.dumps(value)

    return "".join(f"{name} = {said(value)}\n" for name, value in values.items())


def test_a_flag_wins_over_the_preset(empty_folder):
    found = load_settings(preset="paper", control="bank", iterations=20, diffusion={"steps": 30})
    assert (found.iterations, found.diffusion.steps, found.images, found.control) == (20, 30, 5, "bank")


@pytest.mark.parametrize(
    ("flags", "said"),
    [({"preset": "mine"}, "'mine' is no preset"), ({"preset": "paper"}, "no control set is named")],
)
def test_a_preset_that_there_is_not_and_one_without_its_control_set_are_refused(empty_folder, flags, said):
    with pytest.raises(UsageError, match=said):
        load_settings(**flags)


def test_flags_win_over_the_environment_and_that_over_the_file(empty_folder, monkeypatch):
    (empty_folder / "line.toml").write_text("seed = 1\niterations = 1\nimages = 1\n")
    monkeypatch.setenv("LINE_ITERATIONS", "2")
    monkeypatch.setenv("LINE_IMAGES", "2")
    settings = load_settings(images=3, seed=None)
    assert (settings.seed, settings.iterations, settings.images) == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = [", "not valid TOML"),
        ("sed = 1", "unknown setting 'sed' in line.toml or the environment; near: seed"),
        ("[diffusion]\nstepps = 5", "near: steps"),
        (
            "[diffusion]\nsteps = 5\nseed = 5",
            "(a setting that is not of [diffusion] stands above",
        ),
        ("scorer = 'mena'", "near: mean"),
        ("[diffusion]\nbatch = 0", "the flag --image-batch, LINE_DIFFUSION__BATCH and"),
        ("control_seed = -1", "check LINE_CONTROL_SEED and"),
        ("layout = ['rows']", "the flag --layout, LINE_LAYOUT and"),
        ("iterations = 'many'", "iterations"),
        ("iterations = -1", "iterations"),
        ("top = 0\nrandom = 0", "at least 1"),
        ("template = 'a photo'", "{concept}"),
        ("scorer = 'median'", "scorer"),
        ("[diffusion]\nsteps = 0", "diffusion.steps"),
        ("[diffusion]\nstep = 5", "diffusion.step"),
        ("pool = 'median'", "pool"),
        ("layout = ['block=rows']", "layout"),
        ("layout = ['tokens', 'channels-first']", "layout"),
        ("init = 'model'\nscorer = 'auc'", "control set"),
    ],
)
def test_a_wrong_file_is_one_line_with_the_value_and_a_remedy(empty_folder, text, message):
    (empty_folder / "line.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert message in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variable", ["LINE_ITERATION", "LINE_DIFUSION__STEPS"])
def test_a_mistyped_variable_is_refused_with_the_one_that_was_meant(empty_folder, monkeypatch, variable):
    monkeypatch.setenv(variable, "3")
    with pytest.raises(UsageError, match=f"unknown setting {variable} in the environment; near: LINE_"):
        load_settings()


@pytest.mark.parametrize(
    "variable",
    ["LINE_CHANNEL_ACCESS_TOKEN", "LINE_KILLS", "LINE_KILL_SEED", "LINE_SCAN", "LINE_TEST_HOLD", "LINE_IN_FLIGHT",
     "LINE_LANGCHAIN__API_KEY", "LINE_DIFFUSION__STEPS"],
)  # fmt: skip
def test_variables_of_other_programs_and_of_earlier_versions_are_accepted(empty_folder, monkeypatch, variable):
    monkeypatch.setenv(variable, "3")
    load_settings()


def test_a_named_file_must_exist(empty_folder):
    with pytest.raises(UsageError, match="there is no settings file"):
        load_settings(empty_folder / "none.toml")


def test_a_table_of_the_file_is_merged_with_the_environment_and_the_flags(empty_folder, monkeypatch):
    (empty_folder / "line.toml").write_text("[diffusion]\nsteps = 4\nsize = 512\nguidance = 1.0\n")
    monkeypatch.setenv("LINE_DIFFUSION__SIZE", "256")
    diffusion = load_settings(diffusion={"guidance": 2.0}).diffusion
    assert (diffusion.steps, diffusion.size, diffusion.guidance) == (4, 256, 2.0)


@pytest.mark.parametrize(("init", "control"), [("control", "bank"), ("vocabulary", "none"), ("model", "none")])
def test_a_control_set_is_only_wanted_where_the_first_board_comes_from_it(init, control):
    assert load_settings(init=init).control == control
    assert load_settings(init=init, control="hf:some/set").control == "hf:some/set"


def test_files_of_a_run_are_found_from_another_folder(empty_folder):
    (empty_folder / "pictures").mkdir()
    (empty_folder / "style.safetensors").touch()
    drawn = {"generator": "sdxl=pictures", "diffusion": {"lora": ("style.safetensors=0.5", "owner/name=0.8")}}
    settings = load_settings(weights="w.pth", vocabulary="words.txt", control="pictures", **drawn)
    assert settings.generator == f"sdxl={empty_folder / 'pictures'}"
    assert settings.diffusion.lora == (f"{empty_folder / 'style.safetensors'}=0.5", "owner/name=0.8")
    assert [load_settings(generator=name).generator for name in ("./pictures", "bank:pictures", "sdxl")] == [
        str(empty_folder / "pictures"), f"bank:{empty_folder / 'pictures'}", "sdxl",
    ]  # fmt: skip
    assert settings.weights == empty_folder / "w.pth"
    assert load_settings(weights="w.pth#state_dict.ema").weights == empty_folder / "w.pth#state_dict.ema"
    assert settings.vocabulary == empty_folder / "words.txt"
    assert settings.control == str(empty_folder / "pictures")
    assert load_settings(control="hf:pictures@val").control == f"hf:{empty_folder / 'pictures'}@val"
    assert load_settings(control="hf:owner/name@val").control == "hf:owner/name@val"


def test_changed_settings_take_nothing_from_the_environment_or_the_file(empty_folder, monkeypatch):
    (empty_folder / "line.toml").write_text("seed = 5\n")
    monkeypatch.setenv("LINE_IMAGES", "9")
    recorded = Settings(seed=3).model_dump(mode="json")
    again = revised(recorded | {"images": 2}, {"llm": "random"})
    assert (again.seed, again.images, again.llm) == (3, 2, "random")
    slower = revised(Settings(diffusion={"steps": 4}).model_dump(mode="json"), {"diffusion": {"offload": "model"}})
    assert (slower.diffusion.steps, slower.diffusion.offload) == (4, "model")
    with pytest.raises(UsageError, match="temperature"):
        revised(recorded, {"temperature": 9})


@pytest.mark.parametrize("name", ["LINE_EXCLUDE", "LINE_LANGCHAIN"])
def test_a_variable_that_should_be_json_says_so_without_its_value(monkeypatch, name):
    monkeypatch.setenv(name, "sk-secret")
    with pytest.raises(UsageError, match=name) as caught:
        load_settings()
    assert "sk-secret" not in str(caught.value)


def test_arguments_that_are_no_table_are_refused_without_their_value(empty_folder):
    (empty_folder / "line.toml").write_text("langchain = 'sk-secret'\n")
    with pytest.raises(UsageError, match="langchain") as caught:
        load_settings()
    assert "sk-secret" not in str(caught.value)


def test_recorded_arguments_are_not_mixed_with_those_of_the_environment(monkeypatch):
    recorded = Settings(langchain={"model": "a"}).model_dump(mode="json")
    monkeypatch.setenv("LINE_LANGCHAIN__API_KEY", "sk-secret")
    assert revised(recorded, {}).langchain == {"model": "a"}


def test_the_range_of_images_is_two_numbers_wherever_it_is_stated(empty_folder, monkeypatch):
    assert load_settings().image_range is None
    assert load_settings(image_range="0,4095").image_range == (0, 4095)
    monkeypatch.setenv("LINE_IMAGE_RANGE", "-1024,3071")
    assert load_settings().image_range == (-1024, 3071)
    monkeypatch.delenv("LINE_IMAGE_RANGE")
    (empty_folder / "line.toml").write_text("image_range = [0, 1.5]\n")
    found = load_settings()
    assert found.image_range == (0, 1.5)
    assert revised(found.model_dump(mode="json"), {}).image_range == (0, 1.5)


@pytest.mark.parametrize("stated", ["0", "1,0", "0,0", "0,inf", "nan,1", "0,1,2", "low,high", ""])
def test_a_range_that_is_none_is_refused(stated):
    with pytest.raises(UsageError, match="image_range"):
        load_settings(image_range=stated)


OLD_NAMES = {"in_flight": 3, "batch_wait": 0.5, "give_up": 4, "hotter": 0.1, "init": "bank"}
SAME = {
    "max_concurrent_units": 3, "batch_timeout": 0.5, "max_consecutive_failures": 4, "retry_temperature_step": 0.1,
    "init": "cache",
}  # fmt: skip


def named(settings):
    return {name: getattr(settings, name) for name in SAME}


@pytest.mark.parametrize("place", ["file", "environment", "flags", "record", "changes"])
def test_names_of_earlier_versions_are_understood_wherever_they_stand(empty_folder, monkeypatch, place):
    if place == "file":
        (empty_folder / "line.toml").write_text(_toml(OLD_NAMES))
    elif place == "environment":
        for name, value in OLD_NAMES.items():
            monkeypatch.setenv(f"LINE_{name.upper()}", str(value))
    recorded = Settings().model_dump(mode="json")
    read = {
        "flags": lambda: load_settings(**OLD_NAMES),
        "record": lambda: revised(
            {name: recorded[name] for name in recorded.keys() - SAME.keys()} | OLD_NAMES, {}
        ),
        "changes": lambda: revised(recorded, OLD_NAMES),
    }.get(place, load_settings)
    assert named(read()) == SAME


def test_a_name_of_today_wins_over_the_old_one_of_the_same_place_and_a_flag_over_the_file(empty_folder):
    (empty_folder / "line.toml").write_text("in_flight = 2\nmax_concurrent_units = 3\ngive_up = 5\n")
    found = load_settings(max_consecutive_failures=7)
    assert (found.max_concurrent_units, found.max_consecutive_failures) == (3, 7)
    assert load_settings(in_flight=9).max_concurrent_units == 9


def test_a_preset_fixes_a_setting_by_its_old_name_too(empty_folder, monkeypatch):
    monkeypatch.setenv("LINE_HOTTER", "0.7")
    (empty_folder / "line.toml").write_text("hotter = 0.6\n")
    assert load_settings(preset="paper", control="bank").retry_temperature_step == 0
    assert load_settings(preset="paper", control="bank", hotter=0.3).retry_temperature_step == 0.3


def test_a_run_from_before_vocabulary_share_began_with_a_third():
    recorded = load_settings(vocabulary_share=1).model_dump(mode="json", exclude={"vocabulary_share"})
    assert revised(recorded, {}).vocabulary_share == 1 / 3
    assert revised({**recorded, "vocabulary_share": None}, {}).vocabulary_share is None


def test_a_run_from_before_query_pool_takes_the_mean_of_queries():
    recorded = load_settings().model_dump(mode="json", exclude={"query_pool"})
    assert revised(recorded, {}).query_pool == "mean"
    assert revised({**recorded, "query_pool": "max"}, {}).query_pool == "max"
