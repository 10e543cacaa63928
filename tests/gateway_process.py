"""The gateway as its own processes, as users run it, in front of whatever a test names."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from tests.free_ports import free_port

_START_S_MAX = 60.0
_STOP_S_MAX = 15.0
_RUN = (
    "from gateway.server import run; from gateway.settings import GatewaySettings; "
    "run(GatewaySettings())"
)


class GatewayProcess:
    """Settings are given as they are named in .env.example, without the prefix."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command: Sequence[str] = (sys.executable, "-c", _RUN)
        self._log = folder / "gateway.log"
        self._settings = {"host": "127.0.0.1", "port": self.port, "log_format": "json", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def supervisor(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def workers(self) -> list[psutil.Process]:
        """The processes that serve: those that hold the flow Redis's connections."""
        found = []
        for child in self.supervisor.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # one that ended between the looks
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    async def start(self) -> None:
        environment: Mapping[str, str] = {
            **{k: v for k, v in os.environ.items() if not k.startswith("FLOODGATE_")},
            **{f"FLOODGATE_{k.upper()}": str(v) for k, v in self._settings.items()},
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self.command, env=environment, stdout=log, stderr=log)
        await self.until_ready()

    async def until_ready(self) -> None:
        deadline = time.monotonic() + _START_S_MAX
        async with httpx.AsyncClient(timeout=30) as client:
            while time.monotonic() < deadline:
                assert self._process is not None
                assert self._process.poll() is None, f"the gateway ended:\n{self.log[-3000:]}"
                try:
                    answer = await client.get(self.url + "/readyz")
                except httpx.TransportError:
                    pass
                else:
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.05)
        raise AssertionError(f"the gateway did not become ready:\n{self.log[-3000:]}")

    def replace_workers(self) -> None:
        """Has the supervisor put a new worker in the place of each."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Ends supervisor and workers as `kill -9` does, all at once. `start` brings them back."""
        assert self._process is not None
        workers = self.supervisor.children(recursive=True)
        self._process.kill()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        self._process.wait(_STOP_S_MAX)
        psutil.wait_procs(workers, _STOP_S_MAX)

    def stop(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_S_MAX)

    async def metric(self, pattern: str) -> float:
        """The sum over the samples whose line matches; 0 when there is none."""
        async with httpx.AsyncClient(timeout=30) as client:
            text = (await client.get(self.url + "/metrics")).text
        lines = [line for line in text.splitlines() if re.match(pattern, line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)
