"""The two Redis servers of a gateway, set up as `floodgate up` sets them up."""

from pathlib import Path
from types import TracebackType
from typing import Self

from loadtests.errors import ProcessFailedError
from loadtests.process import Process, free_port, require_tools

READY_MARK = "Ready to accept connections"
READY_S_MAX = 30.0


class RedisPair:
    """A ledger that syncs every write to disk, and a flow server that keeps nothing."""

    def __init__(self, folder: Path, core: int | None = None) -> None:
        """Start both and wait until they take connections."""
        require_tools("redis-server")
        self.processes: list[Process] = []
        try:
            self.ledger_url = self._start(
                folder / "ledger", core, ["--appendonly", "yes", "--appendfsync", "always"]
            )
            self.flow_url = self._start(folder / "flow", core, ["--appendonly", "no"])
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop both."""
        for process in self.processes:
            process.stop()

    def _start(self, folder: Path, core: int | None, options: list[str]) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        argv += ["--dir", str(folder), *options]
        process = Process(
            f"redis-server ({folder.name})", argv, log_path=folder / "redis.log", core=core
        )
        self.processes.append(process)
        wait_for_log(process, READY_MARK, READY_S_MAX)
        return f"redis://127.0.0.1:{port}/0"


def wait_for_log(process: Process, mark: str, deadline_s: float) -> None:
    """Poll a process's log until it holds `mark`.

    Raises:
        ProcessFailedError: the process ended, or the deadline passed.
    """
    for _ in range(round(deadline_s / 0.05)):
        if mark in process.log_path.read_text(errors="replace"):
            return
        process.wait_while_running(0.05)
    raise ProcessFailedError(f"{process.name}: no {mark!r} in {process.log_path}")
