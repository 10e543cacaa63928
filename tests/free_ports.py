"""Loopback ports that stay a test's own, also while nothing listens on them.

A port that the kernel gives out for `bind(0)` is free again once its server is killed, and the
kernel may give it to somebody else before the test starts the server anew.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# Above those of Ray's workers (to 19,999), below those of Floodgate's replicas (from 30,000) and
# those that Linux gives out by itself (from 32,768).
_PORTS = range(20_000, 30_000)
_TRIES_MAX = 1_000


class _Drawn:
    """The ports that this process has. A lock on one byte each keeps others from them.

    The locks end with the process, and children do not have them.
    """

    def __init__(self) -> None:
        path = Path(tempfile.gettempdir()) / f"floodgate-test-ports-{os.getuid()}"
        # Opened once and never closed: the first close of the file ends all locks on it.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._ports: set[int] = set()

    def draw(self) -> int:
        for port in random.SystemRandom().sample(_PORTS, _TRIES_MAX):
            if port not in self._ports and self._lock(port) and _is_free(port):
                self._ports.add(port)
                return port
        raise RuntimeError(f"none of {_TRIES_MAX} ports is free")

    def _lock(self, port: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        return True


def free_port() -> int:
    """Nobody listens on it, and no other test of this machine gets it while this process runs."""
    return _drawn.draw()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_drawn = _Drawn()
