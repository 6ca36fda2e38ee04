"""Commands that the app starts."""

import time

import pytest

from line_neurons.agent.errors import StoreError
from line_neurons.tui.app import external


def ended(launched):
    give_up = time.monotonic() + 60
    while launched.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return launched.poll()


def test_a_command_that_fails_tells_its_error_line(tmp_path):
    launched = external.launch(tmp_path / "store", ["resume", "nothing"])
    assert ended(launched) == 2
    assert launched.last_message().startswith(f"there are no runs in {tmp_path / 'store'} (start one with")
    assert launched.log.parent == tmp_path / "store" / "logs"


def test_a_command_works_in_a_session_of_its_own_and_what_it_says_is_cleaned(tmp_path, monkeypatch):
    last_message = "import os; print('\\x1b[31mdone', os.getsid(0) == os.getpid())"
    monkeypatch.setattr(external, "COMMAND", [*external.COMMAND[:2], "-c", last_message])
    launched = external.launch(tmp_path, ["batch"])
    assert ended(launched) == 0
    assert launched.last_message().endswith("done True")
    assert "\x1b" not in launched.last_message()


def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(StoreError, match="line batch cannot be started"):
        external.launch(tmp_path, ["batch"])
