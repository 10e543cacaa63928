"""uvicorn's HTTP/1.1 protocol with the bounds it lacks.

uvicorn with httptools takes headers of any size (3 MB were seen to pass) and waits for ever for a
half-sent request. Here the request line and headers are bounded in bytes and time, the body in time
(in size where it is read), and a caller who leaves its answer unread is cut off, for the answer's
slot waits with it. What frames a chunked body (sizes, extensions, trailers) is bounded as well, and
trailers are dropped: uvicorn adds them to the headers, where an `authorization` could arrive behind
every check. A lost connection is told by a callback, where ASGI would have a task wait for each
request.

uvicorn closes connections the moment it stops, or with their answer's last byte, though the head
said that they stay open: a request on its way was lost without a word. Here a stopping server
closes one when an answer's head has announced it, or when nothing came for a while.
"""

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.connection.answer_head import HEAD_EXTENSION, Headers, write_head
from gateway.connection.responses import last_answer
from gateway.errors import (
    ApiError,
    BodyTooLarge,
    HeadersTooLarge,
    InvalidRequest,
    RequestTimeout,
)
from gateway.request.request_body import DISCONNECT_EXTENSION

_Callback = Callable[[], None] | None

# The smallest chunk is one byte in six; nobody needs more framing than that for long.
_FRAMING_PER_BYTE = 8
# Longer than a request is on its way, from a client that was told that its connection stays open.
LINGER_S = 0.5
# A process that stood still has its timers run before it reads what came meanwhile: a few turns of
# the loop, in which that is read.
_LAST_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    header_bytes_max: int
    header_time_s_max: float
    body_time_s_max: float
    write_stall_s_max: float


class BoundedProtocol(HttpToolsProtocol):
    """Bounds are the class's, since uvicorn makes the instances."""

    bounds: ClassVar[ConnectionBounds]
    # One server is all that a worker process has, and one that was told to stop goes on no more.
    _stopping: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        self._in_headers = True
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._when_gone: Callable[[], None] | None = None
        self._lost = False
        self._extensions = _extensions_of(weakref.ref(self))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # A connection that says nothing is held no longer than one that says half a header.
        self._set_deadline(self.bounds.header_time_s_max)
        if self._stopping:  # accepted a moment before the server stopped to listen
            self._close_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._set_deadline(None)
        self._end_stall()
        super().connection_lost(exc)
        if self._when_gone is not None:
            self._when_gone()

    def pause_writing(self) -> None:
        """64 KB wait for the caller to read on. It has time until all but 16 KB of them are out."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.bounds.write_stall_s_max, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_stall()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # refused already; what still arrives is not looked at
        if self._in_headers:
            self._header_bytes += len(data)
        else:
            self._framing_bytes += len(data)
        super().data_received(data)
        # Looked at after parsing: a large body that came in the same piece is not headers, and
        # a request that came in one piece needs no deadline.
        if self.transport.is_closing():
            return
        if not self._in_headers:
            if self._deadline is None:
                self._set_deadline(self.bounds.body_time_s_max)
        elif self._header_bytes > self.bounds.header_bytes_max:
            self._refuse_headers()
        elif self._header_bytes and self._deadline is None:
            self._set_deadline(self.bounds.header_time_s_max)

        framing_bytes_max = self.bounds.header_bytes_max + _FRAMING_PER_BYTE * self._body_bytes
        if not self._in_headers and self._framing_bytes > framing_bytes_max:
            self._refuse(BodyTooLarge("The body's chunks are nearly all framing."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._in_headers = True
        self._body_bytes = 0
        self._framing_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._framing_bytes -= len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers)
        if size > self.bounds.header_bytes_max:
            self._refuse_headers()
            return
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            self.send_400_response("")
            return
        self._in_headers = False
        self._header_bytes = 0
        self._set_deadline(None)
        super().on_headers_complete()
        if self._stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._set_deadline(None)
        self._in_headers = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._stopping:
            self._close_later()

    def shutdown(self) -> None:
        """The server stops; called once for each connection."""
        BoundedProtocol._stopping = True
        if self._is_idle:
            self._close_later()
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False  # its head will say so

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_later(self) -> None:
        self.loop.call_later(LINGER_S, self._look_and_close)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for `keep_alive_s`, as far as has been read."""
        self._look_and_close()

    def _look_and_close(self) -> None:
        self.loop.call_later(_LAST_LOOK_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._is_idle and not self._header_bytes:  # half a head has its own deadline
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("This is not a valid HTTP request.", code="invalid_http"))

    def call_when_gone(self, callback: _Callback) -> None:
        self._when_gone = callback
        if callback is not None and self._lost:
            self.loop.call_soon(callback)
        else:
            # A large body paused the reading; a paused connection does not tell of its end.
            self.flow.resume_reading()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _set_deadline(self, after_s: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if after_s is not None:
            self._deadline = self.loop.call_later(after_s, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        part = "headers" if self._in_headers else "body"
        self._refuse(RequestTimeout(f"The request's {part} took too long to arrive."))

    def _refuse_headers(self) -> None:
        bytes_max = self.bounds.header_bytes_max
        self._refuse(HeadersTooLarge(f"Request line and headers exceed {bytes_max} bytes."))

    def _refuse(self, error: ApiError) -> None:
        """Answers unless this request was answered already, and closes the connection."""
        self._set_deadline(None)
        if self.transport.is_closing():
            return
        if self._in_headers:  # then the cycle is the request before, if there was one
            may_answer = self.cycle is None or self.cycle.response_complete
        else:
            may_answer = not self.cycle.response_started
        if may_answer:
            self.transport.write(last_answer(error))
        self.transport.close()


def _extensions_of(
    connection: "weakref.ref[BoundedProtocol]",
) -> dict[str, dict[object, object]]:
    """Weakly: the scope that has them is held by the connection, and such a cycle would keep 10 KB
    of each connection that is gone for a collector that seldom comes."""

    def when_gone(callback: _Callback) -> None:
        if (held := connection()) is not None:
            held.call_when_gone(callback)

    def head(scope: Scope, status: int, headers: Headers) -> bool:
        held = connection()
        return held is not None and write_head(held.cycle, held.transport, scope, status, headers)

    return {DISCONNECT_EXTENSION: {"when_gone": when_gone}, HEAD_EXTENSION: {"write_head": head}}
