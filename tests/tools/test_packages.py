"""The command that adds an extra names the place that this package came from."""

import json
import shlex
from importlib import metadata

import pytest

from line_neurons.tools.packages import pip_install


@pytest.mark.parametrize(
    ("recorded", "command"),
    [
        ({"url": "file:///home/a%20b/clone", "dir_info": {}}, "pip install '/home/a b/clone[eval]'"),
        ({"url": "file:///clone", "dir_info": {"editable": True}}, "pip install -e '/clone[eval]'"),
        (
            {"url": "https://example.org/r.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
            "pip install 'line-neurons[eval] @ git+https://example.org/r.git'",
        ),
        ({"url": "file:///tmp/line.whl", "archive_info": {}}, "pip install '.[eval]'"),
        (None, "pip install '.[eval]'"),
    ],
)
def test_an_extra_comes_from_where_the_package_came_from(monkeypatch, recorded, command):
    install(monkeypatch, recorded)
    assert pip_install("eval") == command


def test_metadata_of_a_clone_in_the_current_folder_does_not_hide_the_record(monkeypatch):
    install(monkeypatch, None, {"url": "file:///clone", "dir_info": {"editable": True}})
    assert pip_install("eval") == "pip install -e '/clone[eval]'"


def test_a_package_that_is_not_installed_is_installed_from_the_clone(monkeypatch):
    install(monkeypatch)
    assert shlex.split(pip_install("", "--force-reinstall")) == ["pip", "install", "--force-reinstall", "."]


def install(monkeypatch, *records):
    """Have one distribution of the package for each record of its origin; of none, it is not installed."""

    class Installed:
        def __init__(self, record):
            self.record = record

        def read_text(self, name):
            assert name == "direct_url.json"
            return self.record and json.dumps(self.record)

    monkeypatch.setattr(metadata, "distributions", lambda *, name: [Installed(record) for record in records])
