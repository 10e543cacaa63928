"""Slots and grants raced over several workers on one real Redis."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.flow import redis_keys
from tests.line_workers import KEYS, POOL, Workers, ask, granted, has_slot, is_empty, replica, used
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration


async def test_four_workers_racing_never_run_more_than_there_is_and_serve_everybody(
    workers: Workers, state: Any
) -> None:
    lines = [workers.new(replica("a", 10), replica("b", 30)) for _ in range(4)]
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def one(i: int) -> None:
        line = lines[i % 4]
        account = f"acct{i % 7}"
        ticket = await line.enter(ask(account))
        replica_id = await granted(ticket)
        running[replica_id] += 1
        most[replica_id] = max(most[replica_id], running[replica_id])
        await asyncio.sleep(random.random() * 0.01)
        running[replica_id] -= 1
        line.release(replica_id, account)

    await asyncio.gather(*(one(i) for i in range(400)))
    assert most == {"a": 10, "b": 30}
    await workers.until(lambda: is_empty(state))


async def test_the_larger_free_share_is_taken_first(workers: Workers) -> None:
    line = workers.new(replica("small", 1), replica("large", 10))
    names = [await granted(await line.enter(ask("x"))) for _ in range(4)]
    assert Counter(names)["large"] == 3


@pytest.fixture(scope="module")
def flow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that no gateway uses: the commands that it counts are those of the tests here."""
    with RedisServer.flow(tmp_path_factory.mktemp("flow")) as server:
        yield server


async def test_slots_are_given_and_taken_back_without_reading_all_replicas(
    workers: Workers, state: Any
) -> None:
    line = workers.new(*(replica(f"r{i:02d}", 2) for i in range(64)))
    await workers.beat()
    await state.config_resetstat()
    held = [await granted(await line.enter(ask("x"))) for _ in range(128)]
    waiting = await line.enter(ask("y"))
    line.release(held[0], "x")
    assert await granted(waiting) == held[0]
    assert Counter(held) == {f"r{i:02d}": 2 for i in range(64)}
    assert "cmdstat_hgetall" not in await state.info("commandstats")


async def test_slots_that_a_worker_of_an_earlier_version_took_are_not_given_twice(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 2), replica("b", 2), replica("c", 2))
    await workers.beat()
    # It counts slots and does not keep the replicas in order; nor does it when one has gone.
    await state.hset(KEYS + ":slots", "a", 2)
    await state.hdel(KEYS + ":capacity", "b")
    names = [await granted(await line.enter(ask("x"))) for _ in range(2)]
    assert names == ["c", "c"]
    assert not has_slot(await line.enter(ask("y")))


async def test_a_ticket_is_served_by_the_release_of_another_workers_slot(workers: Workers) -> None:
    first, second = workers.new(replica("a", 1)), workers.new(replica("a", 1))
    held = await granted(await first.enter(ask("x")))
    ticket = await second.enter(ask("y"))
    assert not has_slot(ticket)
    first.release(held, "x")
    assert await granted(ticket) == "a"


async def test_a_grant_whose_push_is_lost_comes_with_the_next_heartbeat(
    workers: Workers, state: Any
) -> None:
    first, second = workers.new(replica("a", 1)), workers.new(replica("a", 1))
    held = await granted(await first.enter(ask("x")))
    ticket = await second.enter(ask("y"))
    workers.tasks[1].cancel()
    await asyncio.gather(workers.tasks[1], return_exceptions=True)
    first.release(held, "x")
    await workers.until_slot(ticket, first, second)
    assert await used(state) == {"a": 1}
    await workers.beat()
    assert await used(state) == {"a": 1}
    second.release(await granted(ticket), "y")
    await workers.until(lambda: is_empty(state))


async def test_the_demand_record_tells_of_all_workers_lines(workers: Workers, state: Any) -> None:
    """Waiting, the oldest wait, tokens owed and slots in use; a dead worker's part goes with it."""
    lines = [workers.new(replica("a", 2)) for _ in range(2)]

    async def demand() -> Any:
        return json.loads(await state.get(redis_keys.demand(POOL)))

    await workers.beat()
    assert await demand() == {
        "version": 1, "waiting": 0, "oldest_wait_s": 0, "tokens_owed": 0, "slots_used": 0,
        "held_back": 0,
    }  # fmt: skip
    running = [await lines[0].enter(ask("x", 7)) for _ in range(2)]
    assert all(ticket.granted for ticket in running)
    waiting = [await lines[i % 2].enter(ask(f"acct{i}", 50)) for i in range(5)]
    while (told := await demand())["oldest_wait_s"] < 0.2:
        await workers.beat()
        await asyncio.sleep(0.02)
    assert (told["waiting"], told["tokens_owed"], told["slots_used"]) == (5, 250, 2)
    await lines[1].lease.stop()
    while (told := await demand())["tokens_owed"] != 150:
        await workers.beat(lines[0])
    lines[0].leave(waiting[0])
    while (told := await demand())["tokens_owed"] != 100:
        await workers.beat(lines[0])
    assert told["waiting"] == 2


async def test_who_is_held_back_by_its_own_account_asks_for_no_slot(
    workers: Workers, state: Any
) -> None:
    """One account, limit 4, and room for more: nobody waits for a slot."""
    line = workers.new(replica("a", 32))

    async def told() -> Any:
        await workers.beat()
        return json.loads(await state.get(redis_keys.demand(POOL)))

    async def until_told(**wanted: float) -> None:
        while {name: (await told())[name] for name in wanted} != wanted:
            await asyncio.sleep(0.01)

    running = [await line.enter(ask("x", 10, concurrent=4)) for _ in range(4)]
    assert all(has_slot(ticket) for ticket in running)
    held_back = [await line.enter(ask("x", 10, concurrent=4)) for _ in range(16)]
    await asyncio.sleep(0.1)
    await until_told(waiting=0, oldest_wait_s=0, tokens_owed=0, slots_used=4, held_back=16)
    # With 4 slots fewer than are asked for, four of a limit of 8 wait for a slot.
    others = [await line.enter(ask(f"y{i}", 10)) for i in range(28)]
    assert all(has_slot(ticket) for ticket in others)
    line.release(await granted(running[0]), "x")
    line.release(await granted(running[1]), "x")
    assert [await granted(ticket) for ticket in held_back[:2]] == ["a", "a"]
    waiting = [await line.enter(ask("z", 30, concurrent=3)) for _ in range(8)]
    await until_told(waiting=3, tokens_owed=90, slots_used=32, held_back=5 + 14)
    for ticket in waiting[:4]:
        line.leave(ticket)
    await until_told(waiting=3, tokens_owed=90, held_back=1 + 14)
    for ticket in waiting[4:]:
        line.leave(ticket)
    await until_told(waiting=0, oldest_wait_s=0, tokens_owed=0, held_back=14)
