"""Where log lines go: many access lines in one write, anything graver at once.

A write for each line costs the worker 10 µs, one for each request.
"""

import asyncio
from typing import BinaryIO

# How late an access line may be, and what of the log is lost when a worker is killed.
_LATE_S_MAX = 0.1
_HELD_LINES_MAX = 256


class HeldLines:
    """The logger that structlog hands its rendered lines to; one for the process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []  # touched by the loop's thread alone
        self._timer: asyncio.TimerHandle | None = None

    def info(self, line: bytes) -> None:
        """Takes a line that can wait 0.1 s for others."""
        loop = _running_loop()
        if loop is None:  # at start and end, and in threads
            self._write(line)
            return
        self._lines.append(line)
        if len(self._lines) >= _HELD_LINES_MAX:
            self.write_out()
        elif self._timer is None:
            self._timer = loop.call_later(_LATE_S_MAX, self.write_out)

    debug = info

    def warning(self, line: bytes) -> None:
        """Takes a line that must be seen now, behind those that wait."""
        if _running_loop() is not None:
            self.write_out()
        self._write(line)

    error = exception = critical = warning

    def write_out(self) -> None:
        """Writes what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            self._write(b"\n".join(self._lines))
            self._lines.clear()

    def _write(self, text: bytes) -> None:
        self._file.write(text + b"\n")
        self._file.flush()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
