"""Hearing Ctrl-C, SIGTERM and the end of the terminal, while waiting for something else."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(Exception):
    """The user or the system wants us to end."""


class StopSignal:
    """Set by the first signal. Waiting uses a pipe: a threading.Event can deadlock in a handler."""

    def __init__(self) -> None:
        self.requested = False
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> None:
        """Waits, and raises StopRequested as soon as a signal has come."""
        select.select([self._readable], [], [], seconds)
        if self.requested:
            raise StopRequested

    def request(self) -> None:
        """What a signal does."""
        self.requested = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writable, b"x")

    def close(self) -> None:
        os.close(self._readable)
        os.close(self._writable)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Turns signals into a StopSignal for the length of the block."""
    stop = StopSignal()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.request()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()
