import signal
import threading

import pytest

from line_neurons.tui.cli.process import signals as draining
from line_neurons.tui.cli.process.signals import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def left(monkeypatch):
    """Statuses with which the process would have been left."""
    statuses = []
    monkeypatch.setattr(draining.os, "_exit", statuses.append)
    return statuses


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_for_a_drain_and_says_what_a_second_does(number, left, capfd):
    with draining.draining() as control:
        assert not control.drain_requested
        signal.raise_signal(number)
    assert control.drain_requested
    assert left == []
    assert "again exits at once" in capfd.readouterr().err


@pytest.mark.parametrize("first", SIGNALS)
def test_the_second_signal_leaves_at_once(first, left):
    with draining.draining():
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGINT)
    assert left == [INTERRUPTED]


def test_a_control_that_was_drained_for_another_reason_does_not_make_the_first_signal_the_second(left):
    with draining.draining() as control:
        control.request_drain("gave up")
        signal.raise_signal(signal.SIGINT)
    assert left == []


def test_afterwards_signals_do_what_they_did_before():
    before = [signal.getsignal(number) for number in SIGNALS]
    with draining.draining():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_an_error_in_the_body_restores_the_handlers_too():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="inside"), draining.draining():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_handlers_are_left_alone():
    found = []

    def body():
        before = signal.getsignal(signal.SIGINT)
        with draining.draining() as control:
            found.append((control.drain_requested, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [(False, True)]
