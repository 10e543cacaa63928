"""Pings a Redis at a constant rate and tells the longest that it was kept waiting.

Run as a process of its own, pinned to a core: `python -m loadtests.probes.ledger_probe --help`. It
prints one JSON object. Pings are sent when they are due, also while earlier ones are not answered,
and each counts from then: whatever holds the server is seen by all that came meanwhile.
"""

import argparse
import gc
import json
import select
import socket
import time
from collections import deque
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from loadtests.percentiles import percentile

PING = b"PING\r\n"
PONG_BYTES = len(b"+PONG\r\n")
ANSWER_S_MAX = 30.0


@dataclass(frozen=True)
class LedgerProbeResult:
    """Waits of one run, counted from when each ping was due."""

    pings: int
    unanswered: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    send_delay_max_ms: float
    """How late the probe itself sent at worst: its own noise, part of the longest wait."""


class LedgerProbe:
    """One connection, one run."""

    def __init__(self, address: tuple[str, int], period_s: float) -> None:
        self._socket = socket.create_connection(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._period_s = period_s
        self._due: deque[float] = deque()
        self._bytes_over = 0
        self._waits_s: list[float] = []
        self._send_delay_s_max = 0.0

    def run(self, duration_s: float) -> LedgerProbeResult:
        """Ping for so long, wait for what is not answered yet, hang up. Raises OSError."""
        with self._socket:
            sent = self._ping(duration_s)
        return self._result(sent)

    def _ping(self, duration_s: float) -> int:
        started = time.perf_counter()
        total = max(1, round(duration_s / self._period_s))
        sent = 0
        while True:
            now = time.perf_counter()
            while sent < total and started + sent * self._period_s <= now:
                self._send(started + sent * self._period_s)
                sent += 1
            is_over = sent == total and not self._due
            if is_over or now > started + duration_s + ANSWER_S_MAX:
                break
            next_s = started + sent * self._period_s if sent < total else now + 0.05
            self._receive(max(0.0, next_s - time.perf_counter()))
        return sent

    def _send(self, due_at_s: float) -> None:
        self._socket.sendall(PING)
        self._send_delay_s_max = max(self._send_delay_s_max, time.perf_counter() - due_at_s)
        self._due.append(due_at_s)

    def _receive(self, wait_s: float) -> None:
        if not select.select([self._socket], [], [], wait_s)[0]:
            return
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("the server hung up")
        now = time.perf_counter()
        answered, self._bytes_over = divmod(self._bytes_over + len(data), PONG_BYTES)
        for _ in range(answered):
            self._waits_s.append(now - self._due.popleft())

    def _result(self, sent: int) -> LedgerProbeResult:
        waits_ms = sorted(wait_s * 1e3 for wait_s in self._waits_s) or [float("inf")]
        return LedgerProbeResult(
            pings=sent,
            unanswered=len(self._due),
            p50_ms=percentile(waits_ms, 50),
            p99_ms=percentile(waits_ms, 99),
            max_ms=waits_ms[-1],
            send_delay_max_ms=1e3 * self._send_delay_s_max,
        )


def main() -> None:
    """Read the command line, run, print the result as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.probes.ledger_probe", description=__doc__
    )
    parser.add_argument("url", help="redis://127.0.0.1:6379/0, without a password")
    parser.add_argument("--period-s", type=float, default=0.001)
    parser.add_argument("--duration-s", type=float, default=10.0)
    options = parser.parse_args()
    parts = urlsplit(options.url)
    probe = LedgerProbe((parts.hostname or "127.0.0.1", parts.port or 6379), options.period_s)
    # A collection would show up as the server's wait.
    gc.freeze()
    gc.disable()
    print(json.dumps(asdict(probe.run(options.duration_s))))


if __name__ == "__main__":
    main()
