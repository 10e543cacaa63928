"""How often a request goes to the flow Redis: twice on its way to the engine, in batches after.

And while it waits by itself not at all.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import redis.asyncio as redis

from gateway.flow.lua_scripts import read_scripts
from tests.gateway_callers import Listening, caller, until_waiting
from tests.gateway_process import GatewayProcess
from tests.held_engine import Held
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, ScriptedEngine

pytestmark = pytest.mark.integration

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
ON_THE_WAY = ("reserve", "enter_line")
AFTERWARDS = ("settle", "release_slots")
NOTICE = b": queue position="
EVALSHA = re.compile(r"^EVALSHA (\w{40}) ", re.IGNORECASE)


@asynccontextmanager
async def watched(flow: RedisServer, of: str = "") -> AsyncIterator[list[str]]:
    """Each script's name as Redis runs it; `of` is in what is counted."""
    names = {hashlib.sha1(text.encode()).hexdigest(): name for name, text in read_scripts().items()}
    seen: list[str] = []

    async def listen() -> None:
        async for command in monitor.listen():
            found = EVALSHA.match(command["command"])
            if found is not None and found[1] in names and of in command["command"]:
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


async def test_places_come_from_one_look_at_the_line_however_many_wait(
    start_gateway: Callable[..., GatewayProcess],
    api_key: str,
    engine: ScriptedEngine,
    flow_server: RedisServer,
) -> None:
    """Each look is a heartbeat's: ten times as many who hear of their place cost no call more."""
    held = Held(engine)
    settings = {"slots": 1, "queue_notice_stream_s": 0, "queue_notice_every_s": 0.1}
    async with start_gateway(**settings) as gateway, caller(gateway, api_key) as client:
        first = asyncio.create_task(client.post(PATH, json=CHAT))
        await engine.request(0)
        waiting: list[Listening] = []
        for count in (20, 200):
            waiting += [
                Listening(client, PATH, {**CHAT, "stream": True})
                for _ in range(count - len(waiting))
            ]
            await until_waiting(client, count)
            await asyncio.gather(*(each.until(NOTICE) for each in waiting))
            async with watched(flow_server, of="localhost") as seen:
                before = [each.text.count(NOTICE) for each in waiting]
                await asyncio.gather(
                    *(each.until(NOTICE, n + 3) for each, n in zip(waiting, before, strict=True))
                )
                calls = Counter(seen)
            # A heartbeat, and the places of all: the first may have begun before the watch.
            assert 3 <= calls["read_places"] <= calls["renew_worker"] + 1
            assert calls.keys() <= {"renew_worker", "read_places", "read_service"}
        held.let_go(201)
        await asyncio.gather(first, *(each.done for each in waiting))
