"""The line after workers, Redis or their calls are gone, on one real Redis."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from typing import Any

import pytest

from gateway.flow import redis_keys
from gateway.line.line_terms import LineBounds
from gateway.line.pool_line import PoolLine
from gateway.line.ticket import Passage
from gateway.queue_errors import AccountQueueFull, QueueFull
from tests.line_workers import (
    KEYS,
    POOL,
    Workers,
    ask,
    granted,
    has_slot,
    has_waiting,
    is_empty,
    replica,
    serve,
    serve_one_a_second,
    used,
)
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration


async def test_what_an_account_was_given_is_remembered_over_a_restart_of_its_worker(
    workers: Workers,
) -> None:
    before = workers.new(replica("a", 1))
    assert has_slot(await before.enter(ask("greedy", charge=1_000)))
    await before.lease.stop()
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = [("modest", await line.enter(ask("modest", charge=50)))]
    tickets.append(("greedy", await line.enter(ask("greedy"))))
    tickets += [("modest", await line.enter(ask("modest", charge=50))) for _ in range(9)]
    line.release(blocker, "blocker")
    order = await serve(line, tickets, 11)
    assert order == ["modest"] * 10 + ["greedy"]


async def test_a_dead_workers_slots_and_tickets_come_back_with_the_lease(
    workers: Workers, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 300)
    dead, living = workers.new(replica("a", 5)), workers.new(replica("a", 5))
    for _ in range(5):
        assert has_slot(await dead.enter(ask("x")))
    for _ in range(20):
        await dead.enter(ask("x"))
    ticket = await living.enter(ask("y"))
    await workers.until_slot(ticket, living)
    assert await used(state) == {"a": 1}
    assert await has_waiting(state, 0)
    assert await state.hgetall(KEYS + ":running") == {"y": "1"}


async def test_a_worker_that_was_stopped_longer_than_its_lease_registers_all_again(
    workers: Workers, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 300)
    stopped, living = workers.new(replica("a", 4)), workers.new(replica("a", 4))
    slots = [await granted(await stopped.enter(ask("x"))) for _ in range(4)]
    tickets = [await stopped.enter(ask("x")) for _ in range(3)]
    await workers.until(lambda: has_waiting(state, 0), living)  # its lease has ended
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 60_000)
    late = await stopped.enter(ask("x"))
    assert not has_slot(late), "its own streams still run"
    assert await used(state) == {"a": 4}
    assert await has_waiting(state, 4)
    for slot in slots:
        stopped.release(slot, "x")
    assert [await granted(ticket) for ticket in [*tickets, late]] == ["a"] * 4


async def test_a_restarted_redis_learns_what_is_held_and_who_waits(
    workers: Workers, flow_server: RedisServer, state: Any
) -> None:
    line = workers.new(replica("a", 2))
    slots = [await granted(await line.enter(ask("x"))) for _ in range(2)]
    tickets = [await line.enter(ask(f"y{i}")) for i in range(10)]
    flow_server.restart()

    async def is_known() -> bool:
        return await used(state) == {"a": 2} and await has_waiting(state, 10)

    await workers.until(is_known)
    for slot in slots:
        line.release(slot, "x")
    for ticket, account in zip(tickets, range(10), strict=True):
        line.release(await granted(ticket), f"y{account}")
    await workers.until(lambda: is_empty(state))


async def test_without_redis_a_worker_serves_its_share_in_turn_and_the_count_heals(
    workers: Workers, flow_server: RedisServer, state: Any
) -> None:
    first, _second = workers.new(replica("a", 10)), workers.new(replica("a", 10))
    assert has_slot(await first.enter(ask("x")))
    await workers.beat()
    await workers.beat()
    assert first.lease.live_workers == 2
    flow_server.kill()
    tickets = [(account, await first.enter(ask(account))) for account in "xxxxyyyy"]
    got = Counter(account for account, ticket in tickets if has_slot(ticket))
    assert got == {"x": 4}, "its share is 5, one was held before"
    first.release(await granted(tickets[0][1]), "x")
    y = next(ticket for account, ticket in tickets if account == "y")
    assert await granted(y) == "a", "the account that runs least is next"
    flow_server.start()

    async def is_known() -> bool:
        return await used(state) == {"a": 8} and await has_waiting(state, 0)

    # Back on the common count, all ten slots can be used: the three that wait get theirs.
    await workers.until(is_known)
    assert sum(has_slot(ticket) for _, ticket in tickets) == 6


async def test_without_redis_the_line_is_bounded_by_the_workers_share(
    workers: Workers, flow_server: RedisServer
) -> None:
    bounds = LineBounds(tickets_max=10, wait_s_max=300, bytes_max=1 << 30)
    first, _second = (workers.new(replica("a", 2), bounds=bounds) for _ in range(2))
    assert has_slot(await first.enter(ask("blocker")))
    await workers.beat()
    await workers.beat()
    assert first.lease.live_workers == 2
    flow_server.kill()
    for _ in range(2):
        assert not has_slot(await first.enter(ask("x", waiting=4)))
    serve_one_a_second(first)
    with pytest.raises(AccountQueueFull) as account_full:
        await first.enter(ask("x", waiting=4))
    assert account_full.value.headers["retry-after"] == "1", "its first is next"
    for account in "abc":
        assert not has_slot(await first.enter(ask(account)))
    with pytest.raises(AccountQueueFull) as account_full:
        await first.enter(ask("c", waiting=1))
    assert account_full.value.headers["retry-after"] == "9", "four are before it, at each of two"
    with pytest.raises(QueueFull) as line_full:
        await first.enter(ask("d"))
    assert "place" not in line_full.value.message, "nobody keeps one"
    assert len(first.tickets.waiting) == 5, "half of ten"


async def test_who_retries_pays_nothing_either_when_a_restarted_redis_hears_of_it_again(
    workers: Workers, flow_server: RedisServer, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    again = await line.enter(ask("x"), Passage(was_granted=True))
    flow_server.restart()
    await workers.until(lambda: has_waiting(state, 1))
    line.release(blocker, "blocker")
    assert await granted(again) == "a"
    assert not await state.zscore(KEYS + ":counters", "x")


async def test_tickets_of_an_earlier_version_are_read_and_what_it_left_behind_is_mended(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = [await line.enter(ask("x")) for _ in range(2)]
    kept = KEYS + f":worker:{line.lease.worker_id}:tickets"
    for ticket, packed in zip(tickets, ("x 100 1000 gone|abc1", "x 100 1000 -"), strict=True):
        await state.hset(kept, ticket.id, packed)
    # A ticket that an earlier script took out of the line.
    await state.zadd(KEYS + ":entered", {"0-00-0": 1})
    await workers.beat()
    told = json.loads(await state.get(redis_keys.demand(POOL)))
    assert (told["waiting"], told["tokens_owed"]) == (2, 200)
    assert told["oldest_wait_s"] < 3600
    line.release(blocker, "blocker")
    for ticket in tickets:
        line.release(await granted(ticket), "x")
    assert await state.get(KEYS + ":prefix:abc1") == "a"
    await workers.until(lambda: is_empty(state))


@pytest.mark.parametrize("seed", [7])
async def test_calls_in_any_order_leave_nothing_behind(
    workers: Workers, state: Any, seed: int
) -> None:
    """Enter, hang up, release, beat and correct, at random, over three workers.

    Calls that fail meanwhile: test_gateway_line_losses.py.
    """
    lines = [workers.new(replica("a", 3), replica("b", 5)) for _ in range(3)]
    chance = random.Random(seed)
    running: Counter[str] = Counter()

    async def one(number: int) -> None:
        line, account = lines[number % 3], f"acct{number % 5}"
        work = asyncio.create_task(_visit(line, account))
        if chance.random() < 0.4:
            await asyncio.sleep(chance.random() * 0.05)
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _visit(line: PoolLine, account: str) -> None:
        ticket = await line.enter(ask(account, chance.uniform(1, 500), concurrent=3))
        try:
            replica_id = await granted(ticket)
        except asyncio.CancelledError:
            if ticket.granted is not None:
                line.release(ticket.granted.replica_id, account)
            else:
                line.leave(ticket)
            raise
        running[replica_id] += 1
        assert running["a"] <= 3
        assert running["b"] <= 5
        try:
            await asyncio.sleep(chance.random() * 0.02)
        finally:
            running[replica_id] -= 1
            line.correct(account, chance.uniform(-100, 100))
            line.release(replica_id, account)

    async def beat() -> None:
        while True:
            await workers.beat()
            await asyncio.sleep(0.005)

    beating = asyncio.create_task(beat())
    await asyncio.gather(*(one(i) for i in range(600)))
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    await workers.until(lambda: is_empty(state))
    assert all(line.held.total == 0 and not line.tickets.waiting for line in lines)
