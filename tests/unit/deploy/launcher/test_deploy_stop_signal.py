"""Signals while waiting."""

import os
import signal
import threading

import pytest

from deploy.launcher.stop_signal import StopRequested, stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_wait(number: signal.Signals) -> None:
    with stop_signals() as stop:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        with pytest.raises(StopRequested):
            stop.wait(30)
        with pytest.raises(StopRequested):  # and stays
            stop.wait(30)


def test_wait_without_a_signal_returns() -> None:
    with stop_signals() as stop:
        stop.wait(0.001)
        assert not stop.requested


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
