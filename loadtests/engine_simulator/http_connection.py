"""HTTP/1.1 for the simulator, on httptools: one write a turn of the loop, hang-ups told at once.

A web framework's coroutine per event costs ten times what a token may cost here.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

import httptools
import orjson

# A reader that falls so far behind is cut off; a gateway always reads.
UNREAD_BYTES_MAX = 8 * 2**20
_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 500: b"Internal Server Error"}
_JSON = b"application/json"


class Request:
    """One request, whole."""

    __slots__ = ("body", "headers", "method", "path")

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body


class Application(Protocol):
    """What a port serves."""

    def handle(self, request: Request, connection: "HttpConnection") -> None:
        """Answer now, or keep the connection and answer later."""


class HttpConnection(asyncio.Protocol):
    """One connection; `on_gone` is called when the caller leaves an answer unfinished."""

    def __init__(self, application: Application, opened: "set[HttpConnection]") -> None:
        self._application = application
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._is_answering = False
        self.on_gone: Callable[[], None] | None = None

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse; a client that talks nonsense is cut off."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever answers that nobody listens."""
        self._opened.discard(self)
        on_gone, self.on_gone = self.on_gone, None
        if self._is_answering and on_gone is not None:
            on_gone()

    # httptools
    def on_message_begin(self) -> None:
        """Forget the last request."""
        self._url, self._headers, self._body = b"", {}, bytearray()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Hand the request on. Pipelining is not spoken here."""
        if self._is_answering:
            self.abort()
            return
        self._is_answering = True
        method = self._parser.get_method().decode("latin-1")
        path = self._url.partition(b"?")[0].decode("latin-1")
        self._application.handle(Request(method, path, self._headers, bytes(self._body)), self)

    # answers
    def send(self, status: int, body: bytes, content_type: bytes = _JSON) -> None:
        """A whole answer."""
        head = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (
            status,
            _REASONS.get(status, b"Other"),
            content_type,
            len(body),
        )
        self._end(head + body)

    def send_json(self, status: int, content: Any) -> None:
        """A whole answer as JSON."""
        self.send(status, orjson.dumps(content))

    def begin_stream(self) -> None:
        """Status and headers of an event stream."""
        self._write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    def send_events(self, events: bytes) -> None:
        """A piece of the stream, one chunk."""
        self._write(b"%x\r\n%b\r\n" % (len(events), events))

    def end_stream(self, events: bytes) -> None:
        """The last piece of the stream."""
        self._end(b"%x\r\n%b\r\n0\r\n\r\n" % (len(events), events))

    def abort(self) -> None:
        """Cut the connection, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, data: bytes) -> None:
        # Before the write: a peer that is quick may send its next request at once.
        self._is_answering, self.on_gone = False, None
        self._write(data)

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            transport.abort()
