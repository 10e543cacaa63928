"""Slot leases raced over several workers on one real Redis."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable

import pytest
import redis.asyncio as redis

from gateway import redis_keys
from gateway.errors import FlowUnavailable
from gateway.redis_client import FlowRedis
from gateway.replica_record import Replica
from gateway.slots import SlotLeases
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

POOL = "m"


def replica(name: str, slots: int) -> Replica:
    return Replica(
        model=POOL, replica_id=name, url="http://127.0.0.1:1", state="running", slots=slots
    )


async def used(server: RedisServer) -> dict[str, int]:
    """Slots in use as Redis counts them, replicas without any left out."""
    async with redis.Redis.from_url(server.url, decode_responses=True) as client:
        counts = await client.hgetall(redis_keys.slots_used(POOL))
    return {name: int(count) for name, count in counts.items() if int(count)}


async def until_used(server: RedisServer, expected: dict[str, int], *workers: SlotLeases) -> None:
    """Waits for Redis's counts, with the heartbeats that workers send meanwhile."""
    while await used(server) != expected:
        for worker in workers:
            with contextlib.suppress(FlowUnavailable):
                await worker.renew()
        await asyncio.sleep(0.02)


async def test_four_workers_racing_never_take_more_than_there_is(
    connect: Callable[[], FlowRedis], flow_server: RedisServer
) -> None:
    replicas = [replica("a", 10), replica("b", 30)]
    workers = [SlotLeases(connect(), POOL) for _ in range(4)]
    taken = await asyncio.gather(*(workers[i % 4].acquire(replicas) for i in range(200)))
    assert Counter(r.replica_id for r in taken if r is not None) == {"a": 10, "b": 30}
    assert await used(flow_server) == {"a": 10, "b": 30}


async def test_the_larger_free_share_is_taken_first(flow: FlowRedis) -> None:
    worker = SlotLeases(flow, POOL)
    replicas = [replica("small", 1), replica("large", 10)]
    names = [found.replica_id for _ in range(4) if (found := await worker.acquire(replicas))]
    assert Counter(names)["large"] == 3


async def test_released_slots_can_be_taken_again_at_once(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    worker = SlotLeases(flow, POOL)
    replicas = [replica("a", 3)]
    for _ in range(50):
        taken = await asyncio.gather(*(worker.acquire(replicas) for _ in range(4)))
        assert sum(found is not None for found in taken) == 3
        for _ in range(3):
            worker.release("a")
        while worker.held or await used(flow_server):
            await asyncio.sleep(0)


async def test_heartbeats_in_the_middle_of_traffic_keep_the_count_exact(
    connect: Callable[[], FlowRedis], flow_server: RedisServer
) -> None:
    replicas = [replica("a", 20)]
    workers = [SlotLeases(connect(), POOL) for _ in range(3)]
    most = 0
    held = 0

    async def serve(worker: SlotLeases) -> None:
        nonlocal held, most
        for _ in range(60):
            if await worker.acquire(replicas) is None:
                continue
            held += 1
            most = max(most, held)
            await asyncio.sleep(0)
            held -= 1
            worker.release("a")

    async def beat(worker: SlotLeases) -> None:
        while True:
            await worker.renew()

    beats = [asyncio.create_task(beat(worker)) for worker in workers]
    await asyncio.gather(*(serve(workers[i % 3]) for i in range(60)))
    for task in beats:
        task.cancel()
    await asyncio.gather(*beats, return_exceptions=True)
    assert 0 < most <= 20
    await until_used(flow_server, {}, *workers)


async def test_a_dead_workers_slots_come_back_with_the_lease(
    connect: Callable[[], FlowRedis], flow_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.slots.LEASE_MS", 300)
    dead, living = SlotLeases(connect(), POOL), SlotLeases(connect(), POOL)
    for _ in range(5):
        assert await dead.acquire([replica("a", 5)])
    assert await living.acquire([replica("a", 5)]) is None
    await until_used(flow_server, {}, living)
    assert await living.acquire([replica("a", 5)])


async def test_a_worker_that_was_stopped_longer_than_its_lease_registers_what_it_holds(
    connect: Callable[[], FlowRedis], flow_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.slots.LEASE_MS", 300)
    stopped, living = SlotLeases(connect(), POOL), SlotLeases(connect(), POOL)
    for _ in range(3):
        assert await stopped.acquire([replica("a", 4)])
    await until_used(flow_server, {}, living)  # its lease has ended, its streams still run
    assert await stopped.acquire([replica("a", 4)])
    assert await used(flow_server) == {"a": 4}
    assert await living.acquire([replica("a", 4)]) is None


async def test_a_restarted_redis_learns_what_is_held(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    worker = SlotLeases(flow, POOL)
    for _ in range(3):
        assert await worker.acquire([replica("a", 4)])
    flow_server.restart()
    await until_used(flow_server, {"a": 3}, worker)
    assert await worker.acquire([replica("a", 4)])
    assert await worker.acquire([replica("a", 4)]) is None


async def test_without_redis_a_worker_uses_its_share_and_the_count_heals(
    connect: Callable[[], FlowRedis], flow_server: RedisServer
) -> None:
    first, second = SlotLeases(connect(), POOL), SlotLeases(connect(), POOL)
    replicas = [replica("a", 10)]
    assert await first.acquire(replicas)
    await second.renew()
    await first.renew()
    assert first.live_workers == 2
    flow_server.kill()
    more = [await first.acquire(replicas) for _ in range(10)]
    assert sum(found is not None for found in more) == 4, "its share is 5, one was held before"
    first.release("a")
    flow_server.start()
    await until_used(flow_server, {"a": 4}, first, second)


async def test_leaving_gives_everything_back_at_once(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    worker = SlotLeases(flow, POOL)
    await worker.acquire([replica("a", 4)])
    await worker.leave()
    assert await used(flow_server) == {}
