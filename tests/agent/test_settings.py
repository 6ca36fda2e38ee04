import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import load_settings


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
        ("sed = 1", "unknown setting 'sed'"),
        ("iterations = 'many'", "iterations"),
        ("iterations = -1", "iterations"),
        ("top = 0\nrandom = 0", "at least 1"),
        ("template = 'a photo'", "{concept}"),
        ("scorer = 'median'", "scorer"),
    ],
)
def test_a_wrong_file_is_one_line_with_the_value_and_a_remedy(empty_folder, text, message):
    (empty_folder / "line.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert message in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_named_file_must_exist(empty_folder):
    with pytest.raises(UsageError, match="there is no settings file"):
        load_settings(empty_folder / "none.toml")
