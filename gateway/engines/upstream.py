"""HTTP to the engines: connections kept per replica, one request at a time on each.

Redirects are not followed, cookies are not kept, bodies are not decompressed: bytes pass as they
are. Closing an answer before its end closes the connection, which is what makes vLLM abort the
work behind it.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

import orjson

from gateway.engines.engine_connection import EngineConnection
from gateway.errors import EngineAbsent, EngineBroken, EngineUnreachable

# Replicas are in the same machine room; a connect that takes two seconds means a dead one.
_CONNECT_S_MAX = 2.0
# Below the replicas' own keep-alive of five seconds, so that no request is sent into a
# connection that the replica is closing.
_KEEP_ALIVE_S = 4.0
_PROBE_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """An answer whose status and headers have come; its body is still to be read."""

    status: int
    content_type: str
    content_length: int | None
    sent_at: float  # when the request was handed to the socket, time.perf_counter
    _connection: EngineConnection
    _server: "_Server"

    @property
    def at_end(self) -> bool:
        """Whether `read` has given all of the body."""
        return self._connection.at_end

    async def read(self) -> bytes:
        """The body's bytes as they come, b"" at its end.

        Raises:
            EngineBroken: the connection ended before the body did.
        """
        return await self._connection.read()

    async def whole(self) -> bytes:
        """The whole body, for small answers.

        Raises:
            EngineBroken: the connection ended before the body did.
        """
        pieces = []
        while piece := await self._connection.read():
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def __enter__(self) -> "EngineAnswer":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A connection whose answer was not read to its end is cut here, and the engine aborts.
        self._connection.end_exchange()
        self._server.keep(self._connection)


class Upstream:
    """Requests to replicas, or to one OpenAI-compatible server."""

    def __init__(self, *, engine_secret: str, api_key: str) -> None:
        # The replica must notice that we hang up on a request that does not stream
        # (Ray Serve would otherwise shield it).
        headers = {"content-type": "application/json", "x-request-disconnect-disabled": "?1"}
        if engine_secret:
            headers["x-floodgate-engine-secret"] = engine_secret
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._headers = _head_lines(headers)
        self._servers: dict[str, _Server] = {}

    async def post(
        self, base_url: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> EngineAnswer:
        """Sends one request and waits for status and headers.

        Raises:
            EngineUnreachable: no answer came at all; EngineAbsent where nothing was sent.
        """
        own = b"%scontent-length: %d\r\n\r\n" % (_head_lines(headers), len(body))
        return await self._server(base_url).send(b"POST", path, self._headers + own, body)

    async def list_models(self, base_url: str) -> tuple[str, ...]:
        """Names that the server gives its models (`GET /v1/models`).

        Raises:
            EngineUnreachable: no answer, or none that lists models.
        """
        head = self._headers + b"\r\n"
        try:
            async with asyncio.timeout(_PROBE_S_MAX):
                answer = await self._server(base_url).send(b"GET", "/v1/models", head, b"")
                with answer:
                    body = await answer.whole()
            if answer.status != 200:
                raise EngineUnreachable(
                    f"{base_url}/v1/models answered {answer.status}; "
                    "check the URL and FLOODGATE_UPSTREAM_API_KEY"
                )
            return tuple(str(model["id"]) for model in orjson.loads(body)["data"])
        except (EngineBroken, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise EngineUnreachable(
                f"{base_url}/v1/models: {error or type(error).__name__}"
            ) from error

    def give_up(self, base_url: str, *, silent_s_max: float) -> bool:
        """Ends what waits for a replica that seems gone; whether anybody still hears from it.

        Cuts every connection on which nothing came for so long.
        """
        server = self._servers.get(base_url)
        if server is None:
            return False
        server.close()
        if server.fail_silent(silent_s_max, "the replica is gone"):
            return True
        del self._servers[base_url]
        return False

    async def close(self) -> None:
        """Cuts every connection that waits for its next request."""
        for server in self._servers.values():
            server.close()

    def _server(self, base_url: str) -> "_Server":
        server = self._servers.get(base_url)
        if server is None:
            server = self._servers[base_url] = _Server(base_url)
        return server


class _Server:
    """One replica's address, and the connections to it that wait for a request."""

    def __init__(self, base_url: str) -> None:
        url = urlsplit(base_url)
        self._base_url = base_url
        self._prefix = url.path.rstrip("/")
        self._host = url.hostname or ""
        self._ssl = ssl.create_default_context() if url.scheme == "https" else None
        self._port = url.port or (443 if self._ssl else 80)
        self._host_line = f" HTTP/1.1\r\nhost: {url.netloc.rpartition('@')[2]}\r\n".encode()
        # Connection -> when it began to wait; the last to come is the first to go.
        self._idle: dict[EngineConnection, float] = {}
        self._asked: set[EngineConnection] = set()

    async def send(self, method: bytes, path: str, head: bytes, body: bytes) -> EngineAnswer:
        """Sends one request; `head` is all of its head after the host.

        Raises:
            EngineUnreachable: no answer came at all.
        """
        target = (self._prefix + path).encode()
        connection = self._take() or await self._connect()
        self._asked.add(connection)
        try:
            await connection.ask(b"%s %s%s%s" % (method, target, self._host_line, head), body)
        except EngineUnreachable as error:
            raise EngineUnreachable(f"{self._base_url}: {error}") from error
        except BaseException:  # cancelled: the engine must not go on
            connection.cut()
            raise
        return EngineAnswer(
            connection.status,
            connection.content_type or "application/json",
            connection.content_length,
            connection.sent_at,
            connection,
            self,
        )

    def keep(self, connection: EngineConnection) -> None:
        """Takes back a connection whose exchange has ended."""
        now = time.monotonic()
        self._asked.discard(connection)
        if connection.usable:
            self._idle[connection] = now
        # As many are looked at as come back, so that none of a burst's is kept for ever.
        oldest = next(iter(self._idle), None)
        if oldest is not None and now - self._idle[oldest] > _KEEP_ALIVE_S:
            oldest.cut()
            del self._idle[oldest]

    def close(self) -> None:
        for connection in tuple(self._idle):
            connection.cut()

    def fail_silent(self, silent_s_max: float, why: str) -> bool:
        """Whether any other exchange is under way."""
        now = time.perf_counter()
        for connection in tuple(self._asked):
            if now - connection.heard_at > silent_s_max:
                connection.fail(why)
                self._asked.discard(connection)
        return bool(self._asked)

    def _take(self) -> EngineConnection | None:
        while self._idle:
            connection, since = self._idle.popitem()
            if connection.usable and time.monotonic() - since <= _KEEP_ALIVE_S:
                return connection
            connection.cut()
        return None

    async def _connect(self) -> EngineConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S_MAX):
                _, connection = await loop.create_connection(
                    lambda: EngineConnection(self._forget), self._host, self._port, ssl=self._ssl
                )
        except TimeoutError as error:
            raise EngineAbsent(f"{self._base_url}: no connection in time") from error
        except OSError as error:  # refused, unknown host, a certificate that does not hold
            raise EngineAbsent(f"{self._base_url}: {error}") from error
        return connection

    def _forget(self, connection: EngineConnection) -> None:
        self._idle.pop(connection, None)
        self._asked.discard(connection)


def _head_lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
