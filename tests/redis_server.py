"""A real redis-server for tests: started, stopped, killed, paused and restarted on one port.

with RedisServer.ledger(folder) as server:
    client = redis.Redis.from_url(server.url)
"""

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.free_ports import free_port
from waitlist.upkeep.ledger_tail import repair_tail

# A start takes about 20 ms on an idle machine; loading a long AOF on a busy one takes seconds.
_START_S_MAX = 20.0
_STOP_S_MAX = 10.0
_PORT_TRIES_MAX = 5
_PR_SET_PDEATHSIG = 1


class RedisServer:
    """One redis-server on a loopback port of its own, with a password of its own.

    The port, the password and the data folder stay the same over restarts, so a client that was
    connected before can recover.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.password = secrets.token_hex(8)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def ledger(cls, folder: Path) -> Self:
        """As the launcher runs it: each acknowledged write is on disk, a torn tail is repaired."""
        kept = ("--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "no")
        return cls(folder, *kept, "--repl-diskless-sync-delay", "0")

    @classmethod
    def flow(cls, folder: Path) -> Self:
        """As the launcher runs it: nothing is kept."""
        return cls(folder, "--appendonly", "no")

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same server by another port, as through a proxy."""
        return f"redis://:{self.password}@127.0.0.1:{port}/0"

    @property
    def pid(self) -> int:
        return self._process_running().pid

    @property
    def log(self) -> str:
        path = self.folder / "redis.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the server and waits until it answers; keeps the port of an earlier start."""
        assert not self.is_running()
        repair_tail(self.folder)
        tries = 1 if self.port else _PORT_TRIES_MAX
        for _ in range(tries):
            port = self.port or free_port()
            self._process = self._spawn(port)
            if self._answers(port):
                self.port = port
                return
        raise RuntimeError(f"redis-server did not start:\n{self.log[-2000:]}")

    def stop(self) -> None:
        """A clean end. Also ends a paused server; does nothing to one that is down."""
        if self._process is None:
            return
        if self.is_running():
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_S_MAX)

    def kill(self) -> None:
        """Ends the server as `kill -9` does."""
        process = self._process_running()
        process.kill()
        process.wait(_STOP_S_MAX)

    def pause(self) -> None:
        """Stops the server from answering; its connections stay open."""
        self._process_running().send_signal(signal.SIGSTOP)
        # Until then another core may still be answering.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        self._process_running().send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts again on the same port, after a clean stop where it still runs."""
        self.stop()
        self.start()

    def make_ready(self) -> None:
        """Brings the server back from whatever a test did to it, empty and without scripts."""
        if self.is_running():
            self.resume()
        else:
            self.start()
        with redis.Redis.from_url(self.url, socket_timeout=_START_S_MAX) as client:
            client.flushall()
            client.script_flush()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _process_running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("this redis-server is not running")
        return self._process

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        executable = shutil.which("redis-server")
        if executable is None:
            raise RuntimeError("redis-server is not installed: apt-get install redis-server")
        command = [executable, "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--requirepass", self.password, "--dir", str(self.folder), "--save", ""]
        command += ["--logfile", str(self.folder / "redis.log"), "--daemonize", "no"]
        return subprocess.Popen(
            [*command, *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent(),
        )

    def _answers(self, port: int) -> bool:
        """Waits until the server answers; False once it has ended instead."""
        deadline = time.monotonic() + _START_S_MAX
        client = redis.Redis(
            port=port, password=self.password, socket_timeout=1.0, socket_connect_timeout=1.0
        )
        with client:
            while self.is_running() and time.monotonic() < deadline:
                try:
                    client.ping()
                except redis.RedisError:  # not listening yet, or loading its AOF
                    time.sleep(0.005)
                else:
                    return True
        self.stop()
        return False


def _die_with_parent() -> Callable[[], None]:
    """For the child: end with the test run, also when that is killed with SIGKILL."""
    libc = ctypes.CDLL(None)  # loaded before the fork: a child must not take the loader's lock
    parent = os.getpid()

    def arm() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return arm
