"""Heads sent by the extension, against what uvicorn itself would send."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.connection.answer_head import HEAD_EXTENSION
from gateway.connection.bounded_protocol import BoundedProtocol
from tests.bounded_server import BOUNDS, serving

pytestmark = pytest.mark.integration

Head = tuple[int, list[tuple[bytes, bytes]]]
JSON = (b"content-type", b"application/json")
LENGTH = (b"content-length", b"2")


class App:
    """Answers `{}` under the head of a test: by the extension at /extension, as ASGI at /asgi."""

    def __init__(self) -> None:
        self.head: Head = (200, [])
        self.extension_did_it: bool | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status, headers = self.head
        did_it = False
        if scope["path"] == "/extension":
            write_head = scope["extensions"][HEAD_EXTENSION]["write_head"]
            did_it = self.extension_did_it = write_head(scope, status, headers)
        if not did_it:
            await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        await send({"type": "http.response.body", "body": b"}"})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def url(app: App) -> AsyncIterator[str]:
    class Bounded(BoundedProtocol):
        bounds = BOUNDS

    async with serving(app, Bounded) as url:
        yield url


async def raw(url: str, path: str, *, method: str = "GET", version: str = "1.1") -> bytes:
    """All bytes that come back, the connection closed behind the answer."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    first = f"{method} {path} HTTP/{version}\r\nhost: x\r\n\r\n"
    last = "GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    writer.write(first.encode())
    try:
        async with asyncio.timeout(20):
            # One request after the other: those that come together are another test's.
            answer = await reader.readuntil(b"}" if method == "GET" else b"\r\n\r\n")
            writer.write(last.encode())
            return answer + await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        (200, [JSON, LENGTH, (b"x-request-id", b"a b;c=\xe4\t")]),
        (429, [JSON, (b"retry-after", b"3")]),
        (503, []),
    ],
    ids=["length", "chunked", "bare"],
)
async def test_a_head_is_byte_for_byte_what_uvicorn_sends(app: App, url: str, head: Head) -> None:
    app.head = head
    by_extension = await raw(url, "/extension")
    assert app.extension_did_it
    assert by_extension == await raw(url, "/asgi")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "head",
    [
        (200, [LENGTH, (b"connection", b"close")]),
        (200, [(b"transfer-encoding", b"chunked")]),
    ],
    ids=["connection", "transfer-encoding"],
)
async def test_what_frames_an_answer_otherwise_is_left_to_uvicorn(
    app: App, url: str, head: Head, method: str
) -> None:
    app.head = head
    by_extension = await raw(url, "/extension", method=method)
    assert app.extension_did_it is False
    assert by_extension == await raw(url, "/asgi", method=method)


async def test_an_answer_to_head_and_to_an_old_client_is_left_to_uvicorn(
    app: App, url: str
) -> None:
    app.head = (200, [JSON, LENGTH])
    assert (await raw(url, "/extension", method="HEAD")).startswith(b"HTTP/1.1 200")
    assert app.extension_did_it is False
    assert b"connection: close" in await raw(url, "/extension", version="1.0")
    assert app.extension_did_it is False


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x=1", b"a\nb", b"a\rb", b"a\0b"])
async def test_no_value_begins_a_line_of_its_own(app: App, url: str, value: bytes) -> None:
    app.head = (200, [JSON, (b"x-name", value)])
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"GET /extension HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    assert app.extension_did_it is False
    assert b"x-name" not in answer
    assert b"set-cookie" not in answer
