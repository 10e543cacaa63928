"""One HTTP/1.1 connection to an engine: one exchange at a time, parsed by httptools.

The one module that imports httptools. A general client (aiohttp) spent
four times as much on a request (180 µs, 40 here), most of it on what the gateway never asks for:
cookies, redirects, decompression, tracing, forms.
"""

import asyncio
import time
from collections.abc import Callable

import httptools

from gateway.errors import EngineBroken, EngineUnreachable

# vLLM's heads have a few hundred bytes; whoever sends more than this is no engine.
_HEAD_BYTES_MAX = 64 * 1024
# What may wait here for a slow caller before the engine is no longer read.
_BUFFER_BYTES_MAX = 256 * 1024


class EngineConnection(asyncio.Protocol):
    """Sends a request, then tells of status, headers and body as they come.

    `on_closed` is called once, when the connection is gone.
    """

    def __init__(self, on_closed: Callable[["EngineConnection"], None]) -> None:
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        # The parser calls it for each chunk, and each event of a stream is one: through a method
        # of ours a stream's bytes took twice as long to parse.
        self.on_body = self._pieces.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._reusable = True
        self._in_exchange = False
        self.sent_at = 0.0  # when the request was handed to the socket, time.perf_counter
        self.heard_at = 0.0  # when anything last came, or the request went, time.perf_counter
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.content_type: str | None = None
        self.content_length: int | None = None
        self._chunked = False
        self._head_bytes = 0
        self._answered = False  # status and headers have come
        self._complete = False
        self._pieces.clear()
        self._buffered_bytes = 0
        self._paused = False
        self._fault: str | None = None

    @property
    def usable(self) -> bool:
        """Whether another request can be sent: the last answer was read to its end."""
        return (
            self._reusable
            and not self._in_exchange
            and self._transport is not None
            and not self._transport.is_closing()
        )

    async def ask(self, head: bytes, body: bytes) -> None:
        """Sends a request and waits for the answer's status and headers.

        Raises:
            EngineUnreachable: the connection ended, or was not HTTP, before they came.
        """
        assert self._transport is not None
        self._begin()
        self._in_exchange = True
        self._transport.writelines((head, body))
        self.sent_at = self.heard_at = time.perf_counter()
        while not self._answered:
            if self._fault is not None:
                raise EngineUnreachable(self._fault)
            await self._wait()

    async def read(self) -> bytes:
        """The bytes of the body that came since the last reading; b"" at its end.

        Raises:
            EngineBroken: the connection ended, or was no longer HTTP, before the body's end.
        """
        while not self._pieces:
            if self._complete:
                return b""
            if self._fault is not None:
                raise EngineBroken(f"the engine's answer broke off: {self._fault}")
            await self._wait()
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered_bytes = 0
        if self._paused:
            self._paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
        return body

    @property
    def at_end(self) -> bool:
        """Whether all of the body has been read; it may have ended with what was read last."""
        return self._complete and not self._pieces

    def end_exchange(self) -> None:
        """Cuts the connection unless the answer was complete and another may follow it."""
        assert self._transport is not None
        self._in_exchange = False
        sent = not self._transport.get_write_buffer_size()
        if not (self._complete and self._reusable and sent) or self._paused:
            self.cut()

    def cut(self) -> None:
        """Closes the connection at once; the engine aborts what it does for it."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, fault: str) -> None:
        """Ends what is under way with this fault."""
        self._fault = self._fault or fault
        self.cut()
        self._wake()

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._reusable = False
        self._parser = None  # it refers to this connection
        unbounded = self.content_length is None and not self._chunked
        if exc is None and self._answered and unbounded and self._fault is None:
            self._complete = True  # an answer without a length ends with its connection
        elif not self._complete and self._fault is None:
            self._fault = f"connection lost: {exc or 'closed by the engine'}"
        self._wake()
        self._on_closed(self)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._fault is not None:
            return
        if not self._in_exchange or self._complete:
            self.cut()  # an engine speaks only when it is asked
            return
        self.heard_at = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(f"not an HTTP answer: {error}")
            return
        if not self._answered:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX:
                self.fail(f"more than {_HEAD_BYTES_MAX} bytes of headers")
            return
        self._buffered_bytes += len(data)
        if self._buffered_bytes > _BUFFER_BYTES_MAX and not self._paused:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    # What the parser calls, beside on_body

    def on_message_begin(self) -> None:
        if self._complete:
            raise EngineBroken("a second answer to one request")  # no more is parsed

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.decode("latin-1")
        elif name == b"content-length":
            self.content_length = int(value)
        elif name == b"transfer-encoding":
            self._chunked = b"chunked" in value.lower()

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and its like: the answer is still to come
            self.content_type, self.content_length, self._chunked = None, None, False
            return
        self.status = status
        self._answered = True
        self._reusable = self._reusable and self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        self._complete = self._answered
