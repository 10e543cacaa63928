"""Child processes of a bench: pinned to a core, watched, paused, and stopped by their ids."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from loadtests.errors import MissingToolError, ProcessFailedError

STOP_S_MAX = 40.0
"""Ray needs over half a minute to shut down while requests still run inside it."""

DEBIAN_PACKAGES = {
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "wrk": "wrk",
    "taskset": "util-linux",
    "setpriv": "util-linux",
}


@dataclass(frozen=True)
class Usage:
    """What a process and its children have used so far."""

    at_s: float
    cpu_s: float
    rss_bytes: int
    rss_bytes_largest: int


class Process:
    """A child and everything that it starts, in a session of its own.

    Use as a context manager: leaving it stops the whole tree.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        core: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        marked_by: tuple[str, str] | None = None,
    ) -> None:
        """Start `argv`, on one core when `core` is given; output goes to `log_path`.

        `marked_by` names an environment variable and its value that nobody else has: processes
        that carry it belong to the tree even when their parents are gone.
        """
        self.name = name
        self._marked_by = marked_by
        self.log_path = log_path
        pinning = ["taskset", "--cpu-list", str(core)] if core is not None else []
        # A bench killed with -9 must not leave its servers behind.
        command = ["setpriv", "--pdeathsig", "TERM", *pinning, *argv]
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The id of the process that was started."""
        return self._popen.pid

    def is_running(self) -> bool:
        """Whether the process that was started has not ended."""
        return self._popen.poll() is None

    def require_running(self) -> None:
        """Raise ProcessFailedError, with the end of its log, when the process has ended."""
        if not self.is_running():
            raise ProcessFailedError(
                f"{self.name} ended with status {self._popen.returncode}; "
                f"the end of {self.log_path}:\n{self.log_tail()}"
            )

    def wait_while_running(self, seconds: float) -> None:
        """Let it work for a while. Raises ProcessFailedError when it ends meanwhile."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        self.require_running()

    def wait_for_end(self, deadline_s: float) -> int:
        """The status that it ends with by itself. Raises ProcessFailedError when it does not."""
        try:
            return self._popen.wait(deadline_s)
        except subprocess.TimeoutExpired as error:
            raise ProcessFailedError(
                f"{self.name} did not end within {deadline_s:.0f} s:\n{self.log_tail()}"
            ) from error

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its output."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants that are alive now."""
        try:
            root = psutil.Process(self.pid)
            found = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        return list(dict.fromkeys([*found, *self._marked()]))

    def usage(self) -> Usage:
        """Processor time and resident memory of the tree, summed."""
        cpu_s = 0.0
        rss_bytes: list[int] = []
        for process in self.tree():
            try:
                times = process.cpu_times()
                rss_bytes.append(process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
            cpu_s += times.user + times.system
        return Usage(time.monotonic(), cpu_s, sum(rss_bytes), max(rss_bytes, default=0))

    def pause(self) -> None:
        """Stop the tree from running, so that it takes nothing from the one being measured."""
        self._signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the tree run again."""
        self._signal_tree(signal.SIGCONT)

    def stop(self) -> None:
        """End the tree: politely first, then for certain. Does nothing when it has ended."""
        members = self.tree()
        if self.is_running():
            self.resume()
            self._popen.terminate()
            try:
                self._popen.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        for member in members:
            # psutil compares start times, so that a reused id is never hit.
            if member.is_running() and member.pid != self.pid:
                try:
                    member.kill()
                except psutil.NoSuchProcess:
                    continue

    def _marked(self) -> Iterator[psutil.Process]:
        if self._marked_by is None:
            return
        name, value = self._marked_by
        for process in psutil.process_iter():
            try:
                if process.environ().get(name) == value:
                    yield process
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def _signal_tree(self, number: signal.Signals) -> None:
        for member in self.tree():
            try:
                member.send_signal(number)
            except psutil.NoSuchProcess:
                continue


def cores_busy(before: Usage, after: Usage) -> float:
    """How many cores a tree kept busy between two readings, on average."""
    return (after.cpu_s - before.cpu_s) / max(after.at_s - before.at_s, 1e-9)


def require_tools(*names: str) -> None:
    """Raise MissingToolError, with the command that installs them, unless all are on PATH."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        packages = " ".join(sorted({DEBIAN_PACKAGES.get(name, name) for name in missing}))
        raise MissingToolError(
            f"not on PATH: {', '.join(missing)}. Install with: apt-get install {packages}"
        )


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
