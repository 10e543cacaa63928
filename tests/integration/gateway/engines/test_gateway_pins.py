"""Operators' pins on their way from the ledger to serving."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
import redis.asyncio as redis

from gateway.flow import redis_keys
from tests.gateway_process import GatewayProcess
from tests.published_replicas import PublishedReplicas
from tests.redis_server import RedisServer
from tests.scripted_engine import ScriptedEngine
from waitlist.directory import Directory

pytestmark = pytest.mark.integration


async def until_pins(flow_server: RedisServer, wanted: dict[str, str]) -> None:
    async with redis.Redis.from_url(flow_server.url, decode_responses=True) as flow:
        while await flow.hgetall(redis_keys.PINS) != wanted:
            await asyncio.sleep(0.02)


async def test_pins_reach_flow_and_are_there_again_after_it_lost_them(
    gateway: GatewayProcess, directory: Directory, flow_server: RedisServer
) -> None:
    await directory.replica_pins.set("m", 3)
    await directory.replica_pins.set("org/other", 0)
    await until_pins(flow_server, {"m": "3", "org/other": "0"})
    flow_server.kill()
    flow_server.start()
    await until_pins(flow_server, {"m": "3", "org/other": "0"})
    await directory.replica_pins.set("m", None)
    await until_pins(flow_server, {"org/other": "0"})


async def test_a_pin_beyond_what_serving_may_start_is_refused(
    start_gateway: Callable[..., GatewayProcess],
    engine: ScriptedEngine,
    directory: Directory,
    flow_server: RedisServer,
) -> None:
    owner = (await directory.admins.add("pins", "owner")).admin_key
    async with PublishedReplicas(flow_server.url, "m") as replicas:
        replicas.wanted = 1  # of 9 at most
        replicas.add("a", engine.url)
        async with (
            start_gateway(upstream_url="") as gateway,
            httpx.AsyncClient(
                base_url=gateway.url, headers={"authorization": f"Bearer {owner}"}
            ) as client,
        ):
            refused = await client.put("/admin/scaling/m", json={"replicas": 10})
            taken = await client.put("/admin/scaling/m", json={"replicas": 9})
    assert refused.status_code == 400, refused.text
    assert "The model may have 9 replicas at most" in refused.text
    assert taken.json() == {"model": "m", "replicas": 9}
