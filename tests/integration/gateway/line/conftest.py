"""Workers of one line, and the flow Redis as they leave it."""

from typing import Any

import pytest
import redis.asyncio as redis

from tests.line_workers import Connect, Workers
from tests.redis_server import RedisServer


@pytest.fixture
async def workers(connect: Connect, flow_server: RedisServer) -> Any:
    found = Workers(connect, flow_server)
    yield found
    await found.close()


@pytest.fixture
async def state(flow_server: RedisServer) -> Any:
    async with redis.Redis.from_url(flow_server.url, decode_responses=True) as client:
        yield client
