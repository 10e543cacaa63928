"""A process of a run: started in a session of its own, marked, with its output in a log file."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
# A log is kept from one run to the next, and within a run as long as the run: 64 MiB of JSON lines
# are days of an ordinary gateway.
_LOG_BYTES_MAX = 64 * 2**20
_TAIL_BYTES = 16384


@dataclass(frozen=True)
class ChildPlan:
    """How to start a process. `grace_s` is the time it gets to stop by itself."""

    name: str
    argv: Sequence[str]
    log_path: Path
    environ: Mapping[str, str] = field(repr=False)
    grace_s: float
    port: int | None = None


def python_argv(module: str, *arguments: str) -> list[str]:
    """A command line that runs one of our modules, from whatever folder."""
    # -P: a module of the working folder must not stand in for one of ours.
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` in which our modules are found, by this process's children and theirs."""
    path = [str(ROOT), *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


class Child:
    """A running process."""

    def __init__(self, plan: ChildPlan) -> None:
        """Starts it. Raises OSError where the program is missing."""
        self.plan = plan
        _turn_log(plan.log_path)
        descriptor = os.open(plan.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            self.log_start = log.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(
                plan.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(plan.environ),
                start_new_session=True,  # a terminal's Ctrl-C is for the launcher alone
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def exit_status(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self.process.poll()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when its time to stop is over."""
        if self.exit_status() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(self.plan.grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that this process, and not one before it, wrote."""
        with self.plan.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self.log_start, end - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def _turn_log(path: Path) -> None:
    """Keep one older log, so that logs never take more than twice their bound."""
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_suffix(".log.1"))
