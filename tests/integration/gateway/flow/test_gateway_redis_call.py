"""A caller that is cancelled while its call is under way leaves the answer to somebody."""

import asyncio
import contextlib
from typing import Any

import pytest

from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

KEYS = (redis_keys.pool("m"),)
NOBODY_WAITS = [0, 0]


async def cancelled(answer: "asyncio.Future[Any]", turns: int) -> None:
    """Somebody waits for the answer for some turns of the loop and is cancelled then."""

    async def wait() -> None:
        await answer

    waiting = asyncio.create_task(wait())
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_heir_gets_the_answer_whenever_it_comes(flow: FlowRedis, when: str) -> None:
    await flow.run("read_places", KEYS, ())
    call = flow.call("read_places", KEYS, ())
    inherited: list[Any] = []
    if when == "before":
        await cancelled(call.answer, turns=1)
        assert not inherited
    else:
        await call.answer
    call.leave_to(inherited.append)
    async with asyncio.timeout(20):
        while not inherited:
            await asyncio.sleep(0.01)
    assert inherited == [NOBODY_WAITS]


async def test_the_heir_of_a_call_that_failed_hears_nothing(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    await flow.run("read_places", KEYS, ())
    flow_server.pause()
    call, later = (flow.call("read_places", KEYS, ()) for _ in range(2))
    inherited: list[Any] = []
    await cancelled(call.answer, turns=1)
    call.leave_to(inherited.append)
    with pytest.raises(FlowUnavailable):
        await later.answer
    later.leave_to(inherited.append)
    assert not inherited
