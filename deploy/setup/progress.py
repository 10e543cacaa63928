"""Showing what the set-up does: a line for each step, with seconds; details go to a log file."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

# A line that is redrawn moves once a second; a log gets a sign of life twice a minute.
_REDRAW_S = 1.0
_SIGN_OF_LIFE_S = 30.0
_LINE_CHARS_MAX = 100
_TAIL_BYTES = 8192


class Progress:
    """Prints steps on standard error, and owns the log that commands write to."""

    def __init__(self, log_path: Path, out: TextIO = sys.stderr) -> None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log_path.touch()
        self.log_path = log_path
        self._out = out
        self._redraws = out.isatty()
        self._step = ""
        self._started_at = 0.0
        self._shown_at = 0.0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Shows `name` while the block runs, then the seconds that it took."""
        self._step, self._started_at = name, time.monotonic()
        self._shown_at = self._started_at
        self._write(f"  … {name}", final=not self._redraws)
        try:
            yield
        except BaseException:
            self._write(f"  ✗ {name} ({self._elapsed_s():.0f} s)", final=True)
            raise
        self._write(f"  ✓ {name} ({self._elapsed_s():.1f} s)", final=True)

    def tick(self) -> None:
        """Called while a step runs; shows how long it has, and what its log says."""
        now = time.monotonic()
        if now - self._shown_at < (_REDRAW_S if self._redraws else _SIGN_OF_LIFE_S):
            return
        self._shown_at = now
        text = f"  … {self._step} {self._elapsed_s():.0f} s  {self.last_words()}"
        self._write(text[:_LINE_CHARS_MAX], final=not self._redraws)

    def notice(self, text: str) -> None:
        """A line that stays."""
        self._write(f"  ! {text}", final=True)

    def last_words(self) -> str:
        """The last line of the log that says something."""
        lines = [line.strip() for line in self.tail().splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def tail(self) -> str:
        """The end of the log."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_at

    def _write(self, text: str, *, final: bool) -> None:
        start = "\r\x1b[K" if self._redraws else ""
        self._out.write(start + text + ("\n" if final else ""))
        self._out.flush()


def run_logged(
    command: Sequence[str], progress: Progress, environ: Mapping[str, str] | None = None
) -> int:
    """Runs a command with its output in the log; its exit status. Ended when we are interrupted."""
    with progress.log_path.open("ab") as log:
        log.write(f"\n$ {' '.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=0.2)
                progress.tick()
        except BaseException:
            process.terminate()
            process.wait()
            raise
