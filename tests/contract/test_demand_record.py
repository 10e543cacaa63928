"""Gateways write the demand record and serving reads it: both sides of the one contract."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis

from gateway.engines.replica_record import Replica
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.line.line_terms import LineBounds
from gateway.line.pool_line import PoolLine
from gateway.line.ticket import SlotAsk
from serving.flow.demand import Demand, parse_demand
from tests.redis_server import RedisServer

pytestmark = pytest.mark.contract

POOL = "owner/mo}del: x"
ONE_SLOT = Replica(model=POOL, replica_id="a", url="http://127.0.0.1:1", state="running", slots=1)


@pytest.fixture
def flow_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer.flow(tmp_path / "flow") as server:
        yield server


@pytest.fixture
async def line(flow_server: RedisServer) -> AsyncIterator[PoolLine]:
    flow = FlowRedis(flow_server.url, deadline_s=2.0, clock=time.monotonic)
    bounds = LineBounds(tickets_max=100, wait_s_max=300, bytes_max=1 << 30)
    found = PoolLine(flow, POOL, "0" * 12, bounds, time.monotonic)
    found.lease.replicas = {"a": ONE_SLOT}
    yield found
    await flow.close()


async def test_serving_reads_what_a_gateways_heartbeat_writes(
    line: PoolLine, flow_server: RedisServer
) -> None:
    async def told() -> Demand:
        await line.lease.renew()
        with Redis.from_url(flow_server.url) as flow:
            demand = parse_demand(flow.get(redis_keys.demand(POOL)))
        assert demand is not None
        return demand

    assert await told() == Demand(0, 0.0, 0, 0, held_back=0)
    await line.enter(SlotAsk("running", 10, 1, 10, tokens=10))
    for account, limit, tokens in (("x", 2, 300), ("y", 1, 50)):
        for _ in range(3):
            await line.enter(SlotAsk(account, 10, limit, 10, tokens=tokens))
    while (demand := await told()).oldest_wait_s < 0.2:
        pass
    assert (demand.waiting, demand.held_back) == (3, 3)
    assert (demand.tokens_owed, demand.slots_used) == (650, 1)
