"""How often a request goes to the flow Redis: twice on its way to the engine, in batches after."""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import redis.asyncio as redis

from gateway.flow.lua_scripts import read_scripts
from tests.gateway_process import GatewayProcess
from tests.held_engine import Held
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
ON_THE_WAY = ("reserve", "enter_line")
AFTERWARDS = ("settle", "release_slots")
EVALSHA = re.compile(r"^EVALSHA (\w{40}) ", re.IGNORECASE)


@asynccontextmanager
async def watched(flow: RedisServer) -> AsyncIterator[list[str]]:
    """Each script's name as Redis runs it."""
    scripts = read_scripts()
    names = {
        hashlib.sha1(scripts[name].encode()).hexdigest(): name
        for name in (*ON_THE_WAY, *AFTERWARDS, "leave_line")
    }
    seen: list[str] = []

    async def listen() -> None:
        async for command in monitor.listen():
            found = EVALSHA.match(command["command"])
            if found is not None and found[1] in names:
                seen.append(names[found[1]])

    async with redis.Redis.from_url(flow.url) as client, client.monitor() as monitor:
        listening = asyncio.create_task(listen())
        yield seen
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_request_that_does_not_wait_asks_the_flow_redis_twice(
    gateway: GatewayProcess,
    client: httpx.AsyncClient,
    engine: ScriptedEngine,
    flow_server: RedisServer,
) -> None:
    for _ in range(3):  # the account is known and the day's use asked for
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    async with watched(flow_server) as seen:
        for _ in range(20):
            assert (await client.post(PATH, json=CHAT)).status_code == 200
        while seen.count("settle") + seen.count("release_slots") < 22:
            await asyncio.sleep(0.02)
        counts = Counter(seen)
    assert [name for name in seen if name in ON_THE_WAY] == [*ON_THE_WAY] * 20
    assert counts["leave_line"] == 0


async def test_settlements_of_many_requests_travel_together(
    gateway: GatewayProcess,
    client: httpx.AsyncClient,
    engine: ScriptedEngine,
    flow_server: RedisServer,
) -> None:
    assert (await client.post(PATH, json=CHAT)).status_code == 200
    held = Held(engine)
    async with watched(flow_server) as seen:
        asked = [asyncio.create_task(client.post(PATH, json=CHAT)) for _ in range(60)]
        await engine.request(60)
        held.let_go(60)  # at one time, however slowly they came
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        while await gateway.metric("floodgate_settlements_waiting") or not seen.count("settle"):
            await asyncio.sleep(0.02)
        counts = Counter(seen)
    assert (counts["reserve"], counts["enter_line"]) == (60, 60)
    assert counts["settle"] < 30
    assert counts["release_slots"] < 60
