"""Whole workers on one real Redis that is slow, or new: heartbeats go on whatever else there is."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from gateway.engines.pools import Pool, PoolView
from gateway.engines.replica_record import Replica
from gateway.flow import redis_keys
from gateway.flow.redis_channel import FlowChannel
from gateway.line.admission import Admission
from gateway.line.line_terms import LineBounds
from gateway.line.ticket import Passage, Place, Ticket
from tests.line_workers import KEYS, POOL, Connect, ask, granted, has_slot, replica, used
from tests.redis_server import RedisServer
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.integration

BOUNDS = LineBounds(tickets_max=10_000, wait_s_max=300, bytes_max=1 << 30)
HELD = 8
WAITING = 3000
ACCOUNTS = 30


class GivenCapacity:
    """Replicas as the test says."""

    def __init__(self, *pools: Pool) -> None:
        self.view = PoolView.of({pool.name: pool for pool in pools})
        self.engine_answered = True

    def offer(self, *replicas: Replica) -> None:
        self.view = PoolView.of({POOL: Pool(POOL, replicas)})

    async def watch(self) -> None:
        """Nothing moves it."""

    def leave_out(self, replica_id: str) -> bool:
        return False


StartWorker = Callable[..., Admission]


@pytest.fixture
async def start_worker(connect: Connect, flow_server: RedisServer) -> AsyncIterator[StartWorker]:
    """Makes workers whose loops run; `by`: what stands between one and its Redis."""
    async with AsyncExitStack() as stack:

        def start(capacity: GivenCapacity, by: TcpProxy | None = None) -> Admission:
            flow = connect(flow_server.url_at(by.port) if by else flow_server.url)
            worker = Admission(flow, capacity, BOUNDS, clock=time.monotonic)
            channel = FlowChannel(
                flow_server.url, redis_keys.grants_channel(worker.worker_id), deadline_s=2.0
            )
            stack.push_async_callback(channel.close)
            for loop in (worker.serve_lines(), worker.receive_grants(channel)):
                stack.push_async_callback(_stop, asyncio.create_task(loop))
            return worker

        yield start


async def _stop(loop: asyncio.Task[None]) -> None:
    while not loop.done():  # redis-py may lose a cancellation as its connection breaks
        loop.cancel()
        await asyncio.wait((loop,), timeout=1)
    assert loop.cancelled()


@pytest.fixture
async def proxies(flow_server: RedisServer) -> AsyncIterator[list[TcpProxy]]:
    async with TcpProxy(flow_server.port) as first, TcpProxy(flow_server.port) as second:
        yield [first, second]


async def fill(worker: Admission, pool: Pool, name: str) -> list[Ticket]:
    """Has thousands wait."""
    asks = [ask(f"{name}-{i % ACCOUNTS}") for i in range(WAITING)]
    return await asyncio.gather(*(worker.enter(pool, each, Passage()) for each in asks))


async def slots_used(state: Any) -> int:
    return sum((await used(state)).values())


async def waiting(state: Any) -> int:
    return int(await state.hget(KEYS + ":state", "waiting") or 0)


async def test_a_new_redis_hears_of_thousands_who_wait_while_leases_go_on(
    start_worker: StartWorker, flow_server: RedisServer, state: Any, proxies: list[TcpProxy]
) -> None:
    both = replica("a", 2 * HELD)
    capacity = GivenCapacity(Pool(POOL, (both,)))
    (pool,) = capacity.view.pools()
    full = [start_worker(capacity, proxy) for proxy in proxies]
    # A worker that has nobody's tickets to tell of sees at once whose lease has ended.
    idle = start_worker(capacity)
    for worker in HELD * full:
        assert has_slot(await worker.enter(pool, ask("held"), Passage()))
    tickets = [await fill(worker, pool, f"w{i}") for i, worker in enumerate(full)]
    by_id = {ticket.id: ticket for each in tickets for ticket in each}
    before = await state.zrange(KEYS + ":line", 0, -1)
    assert len(before) == 2 * WAITING
    # Until both have told what they hold, nothing is free that the first could be granted.
    capacity.offer(replica("a", HELD))
    for proxy in proxies:
        proxy.delay_s = 0.005
    flow_server.restart()
    with pytest.raises(redis.ConnectionError):
        await state.ping()  # over the connection that it had
    while await slots_used(state) < 2 * HELD:
        await asyncio.sleep(0.01)
    capacity.offer(both)
    own_tickets = f"{KEYS}:worker:{full[0].worker_id}:tickets"
    while not await state.exists(own_tickets):
        await asyncio.sleep(0)
    # Its account's tickets have begun to come back, and it does not pass the later ones.
    late = asyncio.create_task(full[0].enter(pool, ask("w0-0"), Passage()))
    while await waiting(state) < 2 * WAITING + 1:
        assert await slots_used(state) == 2 * HELD, "what is held stays counted"
        await asyncio.sleep(0.01)
    assert await state.zrange(KEYS + ":line", 0, -1) == [*before, (await late).id]
    assert await slots_used(state) == 2 * HELD
    assert not any(map(has_slot, by_id.values()))
    (line,) = full[1].lines
    line.release("a", "held")
    assert await granted(by_id[before[0]]) == "a"
    while {worker.live_workers for worker in (*full, idle)} != {3}:
        await asyncio.sleep(0.01)


async def listen(ticket: Ticket, heard: list[int], at: int) -> None:
    """As a stream that wants to hear of its place with each heartbeat."""
    while True:
        ticket.notice_at = 0
        news = await ticket.next_news()
        assert isinstance(news, Place)
        heard[at] += news.position is not None


async def test_many_pools_keep_their_leases_behind_a_redis_that_is_slow(
    start_worker: StartWorker, state: Any, proxies: list[TcpProxy]
) -> None:
    pools = [Pool(f"m{i}", (replica("a", 1),)) for i in range(25)]
    slow = start_worker(GivenCapacity(*pools), proxies[0])
    other = start_worker(GivenCapacity(*pools))
    heard = [0] * len(pools)
    listeners = []
    for i, pool in enumerate(pools):
        assert has_slot(await slow.enter(pool, ask("x"), Passage()))
        ticket = await slow.enter(pool, ask("y"), Passage())
        listeners.append(asyncio.create_task(listen(ticket, heard, i)))
    while not all(line.lease.live_workers == 2 for line in other.lines):
        await asyncio.sleep(0.01)
    proxies[0].delay_s = 0.05
    heard[:] = [0] * len(pools)
    while min(heard) < 4:  # then each heartbeat has been followed by another one
        assert {line.lease.live_workers for line in other.lines} == {2}
        assert not any(listener.done() for listener in listeners)
        await asyncio.sleep(0.01)
    for listener in listeners:
        listener.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
