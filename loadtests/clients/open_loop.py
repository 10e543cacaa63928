"""A client that sends at a constant rate, however slow the answers are.

Run as a process of its own, pinned to a core: `python -m loadtests.clients.open_loop --help`. It
prints one JSON object.

Every request has a time at which it is due. Its latency counts from then, not from when a
connection was free, so that a stall is charged to every request that it held up. The loop is bare
epoll: asyncio's timers tick in milliseconds, as coarse as the latencies to be told apart.
"""

import argparse
import gc
import json
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.clients import canned
from loadtests.clients.open_loop_result import OpenLoopResult
from loadtests.clients.request_bytes import gets_of_lines, numbered, post_request, posts_of_lines
from loadtests.clients.response_end import RefusalError, ResponseEnd

RECEIVE_BYTES = 262_144
ANSWER_S_MAX = 30.0


class Connection:
    """A keep-alive connection with at most one request on it."""

    __slots__ = ("due_at_s", "end", "first_byte_at_s", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.end = ResponseEnd()
        self.due_at_s = 0.0
        self.first_byte_at_s = 0.0

    def begin(self, due_at_s: float) -> None:
        """Forget the last response and expect the next."""
        self.due_at_s = due_at_s
        self.first_byte_at_s = 0.0
        self.end.begin()


class OpenLoop:
    """One run at a constant rate over a pool of connections that grows as needed."""

    def __init__(
        self,
        address: tuple[str, int],
        requests: Iterator[bytes],
        rate_per_s: float,
        connections_max: int,
    ) -> None:
        """Sends `requests` in turn; they must not end."""
        self._address = address
        self._requests = requests
        self._rate_per_s = rate_per_s
        self._connections_max = connections_max
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._idle: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._latencies_s: list[float] = []
        self._first_bytes_s: list[float] = []
        self._send_delays_s: list[float] = []
        self._counted = 0
        self._unavailable = 0
        self._first_failure = ""

    def run(self, warm_up_s: float, duration_s: float) -> OpenLoopResult:
        """Send for `warm_up_s` uncounted and `duration_s` counted seconds."""
        for _ in range(min(32, self._connections_max)):
            self._idle.append(self._connect())
        started = time.perf_counter()
        count_from_s = started + warm_up_s
        total = round((warm_up_s + duration_s) * self._rate_per_s)
        sent = 0
        give_up_at_s = started + warm_up_s + duration_s + ANSWER_S_MAX
        while True:
            now = time.perf_counter()
            while sent < total and started + sent / self._rate_per_s <= now:
                due_at_s = started + sent / self._rate_per_s
                self._waiting.append(due_at_s)
                self._counted += due_at_s >= count_from_s
                sent += 1
            self._send_waiting(count_from_s)
            is_over = sent == total and not self._waiting and len(self._idle) == len(self._open)
            if is_over or now > give_up_at_s:
                break
            due_at_s = started + sent / self._rate_per_s if sent < total else now + 0.05
            self._receive(max(0.0, due_at_s - time.perf_counter()), count_from_s)
        result = OpenLoopResult.of(
            rate_per_s=self._rate_per_s,
            sent=self._counted,
            unavailable=self._unavailable,
            connections=len(self._open),
            latencies_s=self._latencies_s,
            first_bytes_s=self._first_bytes_s,
            send_delays_s=self._send_delays_s,
            first_failure=self._first_failure,
        )
        for connection in list(self._open.values()):
            self._drop(connection)
        self._epoll.close()
        return result

    def _connect(self) -> Connection:
        connection = Connection(self._address)
        self._open[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def _send_waiting(self, count_from_s: float) -> None:
        while self._waiting:
            if self._idle:
                connection = self._idle.pop()
            elif len(self._open) < self._connections_max:
                connection = self._connect()
            else:
                return
            due_at_s = self._waiting.popleft()
            connection.begin(due_at_s)
            if due_at_s >= count_from_s:
                self._send_delays_s.append(time.perf_counter() - due_at_s)
            request = next(self._requests)
            try:
                sent_bytes = connection.socket.send(request)
            except OSError:
                sent_bytes = -1
            if sent_bytes != len(request):
                self._drop(connection)

    def _receive(self, wait_s: float, count_from_s: float) -> None:
        # select() takes microseconds where epoll_wait() takes milliseconds.
        if not select.select([self._epoll], [], [], wait_s)[0]:
            return
        for number, _ in self._epoll.poll(0):
            connection = self._open[number]
            try:
                data = connection.socket.recv(RECEIVE_BYTES)
                is_whole = bool(data) and connection.end.feed(data)
            except (OSError, ValueError) as error:
                self._first_failure = self._first_failure or str(error)
                is_unavailable = isinstance(error, RefusalError) and error.status == "503"
                self._unavailable += is_unavailable and connection.due_at_s >= count_from_s
                data, is_whole = b"", False
            now = time.perf_counter()
            if not data:
                self._drop(connection)
                continue
            if not connection.first_byte_at_s:
                connection.first_byte_at_s = now
            if is_whole:
                if connection.due_at_s >= count_from_s:
                    self._latencies_s.append(now - connection.due_at_s)
                    self._first_bytes_s.append(connection.first_byte_at_s - connection.due_at_s)
                self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        del self._open[connection.socket.fileno()]
        self._epoll.unregister(connection.socket.fileno())
        connection.socket.close()


def read_requests(options: argparse.Namespace) -> Iterator[bytes]:
    """What shall be sent, without end. Raises ValueError where a file has no line."""
    if options.body_file:
        post = post_request(options.url, options.header, options.body_file.read_bytes())
        return numbered(post, canned.NUMBER.encode())
    if options.bodies_file:
        return cycle(posts_of_lines(options.url, options.header, options.bodies_file))
    return cycle(gets_of_lines(options.url, options.header, options.targets_file))


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.clients.open_loop", description=__doc__
    )
    parser.add_argument("url")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--body-file",
        type=Path,
        help="the body that is posted, each time with another number in place of canned.NUMBER",
    )
    what.add_argument("--bodies-file", type=Path, help="bodies that are posted in turn, one a line")
    what.add_argument(
        "--targets-file", type=Path, help="paths that are got in turn, one a line: /status?of=1"
    )
    parser.add_argument("--header", action="append", default=[], help='"Name: value"')
    parser.add_argument("--rate-per-s", type=float, required=True)
    parser.add_argument("--duration-s", type=float, default=10.0)
    parser.add_argument("--warm-up-s", type=float, default=1.0)
    parser.add_argument("--connections-max", type=int, default=512)
    return parser.parse_args()


def main() -> None:
    """Read the command line, run, print the result as JSON."""
    options = read_options()
    parts = urlsplit(options.url)
    loop = OpenLoop(
        (parts.hostname or "127.0.0.1", parts.port or 80),
        read_requests(options),
        options.rate_per_s,
        options.connections_max,
    )
    # A collection would show up as the server's latency.
    gc.freeze()
    gc.disable()
    result = loop.run(options.warm_up_s, options.duration_s)
    print(json.dumps({name: getattr(result, name) for name in result.__dataclass_fields__}))


if __name__ == "__main__":
    main()
