import gc
import os
import sys
from pathlib import Path

import hypothesis
import pytest

import line_neurons.tools  # noqa: F401 - sets how idle threads wait before anything loads torch
from line_neurons.tools.assets.location import assets_root, state
from line_neurons.tools.assets.packs import select
from line_neurons.tools.language_models import server_pool
from line_neurons.tui.cli.main import main
from support.ollama_server import ollama, ollama_servers  # noqa: F401 - fixtures for every test

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

# Looking for cycles at each 700 new objects, as by default, took a fifth of the time of tests of the app.
gc.set_threshold(50_000, 5, 5)


def pytest_collection_modifyitems(items):
    """Put files with slow tests first, so that two processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of installed asset packs; tests with real parts are skipped where they are not installed."""
    missing = [pack.name for pack in select(["test"]) if state(pack) != "installed"]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; `line assets install test` installs them")
    return assets_root()


@pytest.fixture(scope="session")
def _composed():
    """What runs in new stores compute alike, by what it depends on: control images, and embeddings of captions."""
    return {}, {}


@pytest.fixture(scope="module")
def few_control_images(_composed):
    """The control set of the image bank has a dozen concepts; its images are composed once for all tests."""
    from line_neurons.tools.image_bank import matching
    from line_neurons.tools.image_bank.control import BankControl

    composed, embedded = _composed
    compose, embed = BankControl.images, matching.embed_once

    def images(control, class_name):
        key = control.fingerprint, class_name
        if key not in composed:
            composed[key] = compose(control, class_name)
        return list(composed[key])

    def embed_once(encode, encoder, texts, folder):
        def known(missing):
            key = encoder, tuple(missing)
            if key not in embedded:
                embedded[key] = encode(missing)
            return embedded[key]

        return embed(known, encoder, texts, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LINE_VOCABULARY_SHARE", "0.03")
        patch.setattr(BankControl, "images", images)
        patch.setattr(matching, "embed_once", embed_once)
        yield


@pytest.fixture
def short_waits(monkeypatch):
    """Requests to a server that fails are repeated as often as ever, but at once."""
    monkeypatch.setattr(server_pool, "_EXPONENTIAL", lambda state: 0.05)


@pytest.fixture
def line(capsys, monkeypatch, tmp_path):
    """Run the command in an empty folder; gives status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINE_STORE", str(tmp_path / "store"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["line", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        written = capsys.readouterr()
        return end.value.code, written.out, written.err

    return run


@pytest.fixture(autouse=True, scope="session")
def _own_configuration(tmp_path_factory):
    """Tests neither read nor make the user's own key; searches begin with a third of the image bank: faster."""
    with pytest.MonkeyPatch.context() as patch:
        # Tests kill processes and never the power; to wait for the disk took a tenth of the time of their runs.
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("LINE_VOCABULARY_SHARE", repr(1 / 3))
        yield
