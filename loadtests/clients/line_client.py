"""Very many callers who wait in line, cheaply: one raw connection each.

It reads only what it must: whether a place was told, whether tokens came, when the answer ended.
"""

import asyncio
import json
from collections.abc import Sequence
from itertools import cycle
from typing import cast
from urllib.parse import urlsplit

from loadtests.accounts import Account

# A gateway's listen queue holds 2048; so many connections at once never overrun it.
OPENING_AT_ONCE = 256


class WaitingCaller(asyncio.Protocol):
    """One request; counts in `Waiters` what becomes of it."""

    __slots__ = ("_request", "_waiters", "heard", "is_over", "transport")

    def __init__(self, waiters: "Waiters", request: bytes) -> None:
        self._waiters = waiters
        self._request = request
        self.transport: asyncio.Transport | None = None
        self.heard = ""
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """A status, a place, tokens, or the end."""
        if data.startswith(b"HTTP/1.1") and not data.startswith(b"HTTP/1.1 200"):
            self._end("refused")
        elif b'"content":' in data:
            self._hear("tokens")
        elif b": queue position=" in data:
            self._waiters.places_told += 1
            self._hear("place")
        elif b'data: {"error"' in data:
            self._end("refused")
        if data.endswith(b"0\r\n\r\n"):
            self._end("served")

    def connection_lost(self, exc: Exception | None) -> None:
        """An end that was not announced is a fault, unless we hung up."""
        if not self.is_over:
            self._end("lost")

    def _hear(self, what: str) -> None:
        if self.heard == what or self.heard == "tokens":
            return
        if what == "place":
            self._waiters.told += 1
        elif self.heard == "place":
            self._waiters.told -= 1
        self.heard = what

    def _end(self, how: str) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self.heard == "place":
            self._waiters.told -= 1
        self._waiters.ends[how] = self._waiters.ends.get(how, 0) + 1
        self._waiters.open.discard(self)
        if self.transport is not None:
            self.transport.abort()


class Waiters:
    """Callers of many accounts on one gateway."""

    def __init__(self, url: str, accounts: Sequence[Account], body: dict[str, object]) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        # One after the other: chosen by how many are open, those who come later would be few.
        self._requests = cycle([_request(parts.netloc, account, body) for account in accounts])
        self.open: set[WaitingCaller] = set()
        self.told = 0
        """Callers who were told a place and wait on."""
        self.places_told = 0
        self.ends: dict[str, int] = {}

    async def fill(self, count: int) -> None:
        """Open connections until so many are open. Raises OSError when one is refused."""
        while (missing := count - len(self.open)) > 0:
            await asyncio.gather(*(self._open() for _ in range(min(missing, OPENING_AT_ONCE))))

    async def _open(self) -> None:
        request = next(self._requests)
        _, caller = await asyncio.get_running_loop().create_connection(
            lambda: WaitingCaller(self, request), *self._address
        )
        self.open.add(caller)

    def hang_up(self) -> None:
        """Everybody leaves."""
        for caller in tuple(self.open):
            caller.is_over = True
            if caller.transport is not None:
                caller.transport.abort()
        self.open.clear()


def _request(host: str, account: Account, body: dict[str, object]) -> bytes:
    content = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {account.api_key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
