"""Operators' pins on their way from the ledger to serving."""

import asyncio

import pytest
import redis.asyncio as redis

from gateway.flow import redis_keys
from tests.gateway_process import GatewayProcess
from tests.redis_server import RedisServer
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
