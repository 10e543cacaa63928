"""Sends the head of an answer, checked as a whole.

uvicorn looks at each name and value three times, which is 17 of a chat's 280 µs for 14 headers.
Heads that are seldom, and wrong ones, are left to it.
"""

import asyncio
from collections.abc import Sequence

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

# ASGI extension of gateway.connection.bounded_protocol. Its `write_head(scope, status, headers)`
# sends the head of that scope's answer in place of `http.response.start`, and returns whether it
# did.
HEAD_EXTENSION = "floodgate.head"

Headers = Sequence[tuple[bytes, bytes]]

_FRAMING = (b"connection", b"transfer-encoding")
_CHUNKED = (b"transfer-encoding", b"chunked")
_WITHOUT_BODY = (204, 304)


def write_head(
    cycle: RequestResponseCycle,
    transport: asyncio.Transport,
    scope: Scope,
    status: int,
    headers: Headers,
) -> bool:
    """Does what `cycle.send` does with a head, names in lower case; False where it must do it."""
    if cycle.scope is not scope or cycle.response_started or cycle.disconnected:
        return False  # of several requests that came together, not the last
    if cycle.flow.write_paused or not cycle.keep_alive:
        return False
    if status in _WITHOUT_BODY or scope["method"] == "HEAD":
        return False
    length: int | None = None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name in _FRAMING:
            return False
    if length is None:
        headers = [*headers, _CHUNKED]
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\r") + lines.count(b"\n") != 2 * len(headers) or b"\0" in lines:
        return False  # a value that would begin a line of its own
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    cycle.chunked_encoding = length is None
    cycle.expected_content_length = length or 0
    transport.write(b"%b%b\r\n" % (STATUS_LINE[status], lines))
    return True
