"""SIGTERM and SIGINT as an exception in the main thread: a start can be stopped anywhere."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequested(BaseException):
    """Raised in the main thread by the first stop signal; no library may swallow it."""


@contextmanager
def stop_signals() -> Iterator[None]:
    """Take the stop signals for as long as the block lasts. In the main thread."""
    before = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    take_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def take_signals() -> None:
    """Turn the next stop signal into StopRequested. To be called again after Ray has taken them."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        ignore_signals()
        raise StopRequested

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)


def ignore_signals() -> None:
    """Let nothing cut a stop short: half of it would leave processes behind."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
