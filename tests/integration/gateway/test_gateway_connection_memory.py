"""What connections leave behind: nothing that waits for the garbage collector.

It comes seldom (gateway/telemetry/collector.py), so a cycle in each connection would be megabytes
in a spike.
"""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import httpx
import pytest

from gateway.connection.bounded_protocol import BoundedProtocol
from gateway.request.request_body import ClientWatch
from tests.bounded_server import BOUNDS, serving

pytestmark = pytest.mark.integration

COUNT = 20


class Noted(BoundedProtocol):
    """Knows all that are alive."""

    bounds = BOUNDS
    alive: ClassVar[weakref.WeakSet[BoundedProtocol]] = weakref.WeakSet()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alive.add(self)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers, or waits until the caller has hung up."""
    async with ClientWatch(scope, receive):
        if scope["path"] == "/never":
            await asyncio.Event().wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"."})


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(app, Noted) as url:
        yield url


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
async def test_connections_that_are_gone_are_freed_at_once(url: str) -> None:
    for _ in range(COUNT):
        async with httpx.AsyncClient(timeout=30) as client:
            assert (await client.get(url)).status_code == 200
    async with asyncio.timeout(30):
        while Noted.alive:
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("without_collector")
async def test_so_are_those_whose_caller_hangs_up(url: str) -> None:
    for _ in range(COUNT):
        with pytest.raises(httpx.ReadTimeout):
            async with httpx.AsyncClient(timeout=httpx.Timeout(30, read=0.1)) as client:
                await client.get(url + "/never")
    async with asyncio.timeout(30):
        while Noted.alive:
            await asyncio.sleep(0.01)
