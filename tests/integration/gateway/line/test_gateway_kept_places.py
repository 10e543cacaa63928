"""Places kept for callers who were turned away: in which order they come back, and how many."""

import asyncio
import random
import time
from typing import Any

import pytest

from gateway.line.drain_rate import DrainRate
from gateway.line.line_terms import LineBounds
from gateway.line.pool_line import PoolLine
from gateway.line.ticket import Ticket
from gateway.queue_errors import QueueFull
from tests.line_workers import KEYS, Workers, ask, granted, has_slot, is_empty, replica

pytestmark = pytest.mark.integration

KEPT = KEYS + ":account:x:kept"


async def until_waiting(state: Any, count: int) -> None:
    async with asyncio.timeout(20):
        while int(await state.hget(KEYS + ":state", "waiting") or 0) != count:
            await asyncio.sleep(0.01)


async def order_served(line: PoolLine, **tickets: Ticket) -> list[str]:
    """Serves one at a time; the tickets' names as they got the one slot."""
    order: list[str] = []
    async with asyncio.timeout(20):
        while len(order) < len(tickets):
            for name, ticket in tickets.items():
                if ticket.granted is not None:
                    line.release(await granted(ticket), ticket.ask.account_id)
                    order.append(name)
            await asyncio.sleep(0)
    return order


async def starts(state: Any, *tickets: Ticket) -> list[float]:
    """Where tickets in line start, but for the thousandth that a kept place is before others."""
    return [round(await state.zscore(KEYS + ":line", each.id), 1) for each in tickets]


async def turn_away(state: Any, line: PoolLine, *tickets: Ticket) -> None:
    """One after the other, as waits end. (Those of one turn of the loop travel together.)"""
    for ticket in tickets:
        assert line.leave(ticket, retry_after_s=60)
    await until_waiting(state, len(line.tickets.waiting))


@pytest.mark.parametrize("concurrent", [1000, 2], ids=["in line", "two in line, two held back"])
@pytest.mark.parametrize("order", ["as they came", "the last first", "mixed"])
async def test_places_of_one_account_are_kept_one_behind_the_other(
    workers: Workers, state: Any, order: str, concurrent: int
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    four = [await line.enter(ask("many", concurrent=concurrent)) for _ in range(4)]
    one = await line.enter(ask("one"))
    leaving = {
        "as they came": four,
        "the last first": four[::-1],
        "mixed": [four[1], four[3], four[2], four[0]],
    }[order]
    for ticket in leaving:
        await turn_away(state, line, ticket)
    await turn_away(state, line, one)
    back = [await line.enter(ask("many", concurrent=concurrent)) for _ in range(4)]
    one = await line.enter(ask("one"))
    assert await starts(state, *back[:2], one) == [0, 100, 0]
    line.release(blocker, "blocker")
    names = {f"many{i}": ticket for i, ticket in enumerate(back)}
    assert await order_served(line, one=one, **names) == ["many0", "one", "many1", "many2", "many3"]


@pytest.mark.parametrize("seed", range(8))
async def test_once_all_are_back_they_stand_as_if_nobody_had_been_turned_away(
    workers: Workers, state: Any, seed: int
) -> None:
    """Whoever is turned away, and in whatever order."""
    chance = random.Random(seed)
    line = workers.new(replica("a", 1))
    await line.enter(ask("blocker"))
    charges = [chance.randint(1, 500) for _ in range(8)]
    stand = [await line.enter(ask("x", charge)) for charge in charges]
    before = await starts(state, *stand)
    counter = await state.zscore(KEYS + ":counters", "x")
    leave = chance.sample(range(8), chance.randint(2, 8))
    for i in leave:
        await turn_away(state, line, stand[i])
    for i in sorted(leave):
        stand[i] = await line.enter(ask("x", charges[i]))
    assert await starts(state, *stand) == before
    assert await state.zscore(KEYS + ":counters", "x") == pytest.approx(counter, abs=0.1)
    positions = await line.positions(stand)
    assert positions == sorted(positions)
    assert not await state.exists(KEPT, KEPT + "_ends", KEYS + ":account:x:floor")


async def test_after_a_restart_an_account_with_four_is_served_in_turn_with_one_that_has_one(
    workers: Workers, state: Any
) -> None:
    line, old = workers.new(replica("a", 1)), workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    for account in ("many", "many", "many", "many", "one"):
        await old.enter(ask(account))
    await old.lease.stop()
    names = {f"many{i}": await line.enter(ask("many")) for i in range(4)}
    names["one"] = await line.enter(ask("one"))
    line.release(blocker, "blocker")
    assert await order_served(line, **names) == ["many0", "one", "many1", "many2", "many3"]


async def test_places_are_one_behind_the_other_also_where_the_line_has_passed_them(
    workers: Workers, state: Any
) -> None:
    """They come back one at a time, each served before the next, and ask for more than before."""
    line = workers.new(replica("a", 1))
    narrow = workers.new(
        replica("a", 1), bounds=LineBounds(tickets_max=0, wait_s_max=300, bytes_max=1 << 30)
    )
    running = await granted(await line.enter(ask("blocker")))
    for _ in range(4):
        with pytest.raises(QueueFull):
            await narrow.enter(ask("x", charge=1))
    far = await line.enter(ask("far"))
    line.correct("far", 150)
    async with asyncio.timeout(20):
        while await starts(state, far) != [150]:
            await asyncio.sleep(0.01)
    line.release(running, "blocker")
    assert await granted(far) == "a", "all before 150 is past, and no counter tells of it"
    waits = await line.enter(ask("waits"))
    told, runs = [], "far"
    for _ in range(3):
        back = await line.enter(ask("x", charge=100))
        told += await starts(state, back)
        line.release("a", runs)
        runs = "x"
        if told[-1] < 150:
            assert await granted(back) == "a"
    assert told == [0, 100, 200]
    assert await granted(waits) == "a"


@pytest.mark.parametrize("concurrent", [1000, 2], ids=["in line", "held back"])
async def test_who_comes_back_stands_before_its_accounts_later_requests(
    workers: Workers, state: Any, concurrent: int
) -> None:
    line = workers.new(replica("a", 2))
    running = [await line.enter(ask("x", concurrent=concurrent)) for _ in range(2)]
    first, *later = [await line.enter(ask("x", concurrent=concurrent)) for _ in range(4)]
    before = await starts(state, first, *later) if concurrent > 2 else []
    await turn_away(state, line, first)
    back = await line.enter(ask("x", concurrent=concurrent))
    if before:
        assert await starts(state, back, *later) == before
    line.release(await granted(running[0]), "x")
    names = {"back": back, **{f"later{i}": ticket for i, ticket in enumerate(later)}}
    assert await order_served(line, **names) == ["back", "later0", "later1", "later2"]


async def test_who_was_turned_away_by_a_full_line_stands_behind_its_accounts_earlier_requests(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    narrow = workers.new(
        replica("a", 1), bounds=LineBounds(tickets_max=0, wait_s_max=300, bytes_max=1 << 30)
    )
    running = await line.enter(ask("x", concurrent=1))
    earlier = [await line.enter(ask("x", concurrent=1)) for _ in range(2)]
    with pytest.raises(QueueFull):
        await narrow.enter(ask("x", concurrent=1))
    later = await line.enter(ask("y", concurrent=1))
    back = await line.enter(ask("x", concurrent=1))
    line.release(await granted(running), "x")
    order = await order_served(line, earlier0=earlier[0], earlier1=earlier[1], back=back, y=later)
    assert [name for name in order if name != "y"] == ["earlier0", "earlier1", "back"]


async def test_since_when_it_waits_is_told_from_its_first_arrival(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("blocker"))
    first = await line.enter(ask("x"))
    arrived = first.id.partition("-")[0]
    for _ in range(2):  # also of one that is turned away again
        await turn_away(state, line, first)
        while time.time_ns() // 1_000_000 <= int(arrived):
            await asyncio.sleep(0)
        first = await line.enter(ask("x"))
        places = (await line.account_view("x")).places
        assert [ticket_id.partition("-")[0] for ticket_id, _ in places] == [arrived]


async def test_the_time_for_which_it_has_starved_goes_on_over_its_return(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("blocker"))
    first = await line.enter(ask("x"))
    arrived_ms = int(first.id.partition("-")[0])
    await turn_away(state, line, first)
    await line.enter(ask("x"))
    assert await state.zscore(KEYS + ":served", "x") == arrived_ms


async def test_a_request_that_is_served_at_once_uses_a_kept_place_up(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    await turn_away(state, line, await line.enter(ask("x")))
    line.release(blocker, "blocker")
    await workers.until(lambda: is_empty(state))
    assert has_slot(await line.enter(ask("x")))
    assert not await state.exists(KEPT)


@pytest.fixture
def told_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DrainRate, "wait_s", lambda _drain, _place: 10.0)


async def refused(line: PoolLine, waiting: int) -> bool:
    """Whether its place was promised."""
    with pytest.raises(QueueFull) as told:
        await line.enter(ask("x", waiting=waiting))
    return "your place is kept" in told.value.message


@pytest.mark.usefixtures("told_ten_seconds")
async def test_a_full_line_promises_the_places_that_it_keeps_and_no_others(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    narrow = workers.new(
        replica("a", 1), bounds=LineBounds(tickets_max=0, wait_s_max=300, bytes_max=1 << 30)
    )
    await line.enter(ask("blocker"))
    await line.enter(ask("x", waiting=4))
    # One waits: with the three that are kept they are as many as the plan lets wait.
    assert [await refused(narrow, waiting=4) for _ in range(5)] == [True, True, True, False, False]
    assert await state.zcard(KEPT) == 3


@pytest.mark.usefixtures("told_ten_seconds")
async def test_each_place_ends_by_itself(workers: Workers, state: Any) -> None:
    narrow = workers.new(
        replica("a", 1), bounds=LineBounds(tickets_max=0, wait_s_max=300, bytes_max=1 << 30)
    )
    await narrow.enter(ask("blocker"))
    assert [await refused(narrow, waiting=3) for _ in range(4)] == [True, True, True, False]
    # Two of the three have ended.
    ends = KEYS + ":account:x:kept_ends"
    first, second, _ = await state.zrange(KEPT, 0, -1)
    await state.zadd(ends, {first: 1, second: 1})
    assert [await refused(narrow, waiting=3) for _ in range(3)] == [True, True, False]
    assert await state.zcard(KEPT) == await state.zcard(ends) == 3
    assert not {first, second} & set(await state.zrange(KEPT, 0, -1))


async def test_who_is_turned_away_again_and_again_keeps_one_place(
    workers: Workers, state: Any
) -> None:
    """Bodies beyond what may wait: each has been in line, behind its account's concurrency."""
    bounds = LineBounds(tickets_max=10_000, wait_s_max=300, bytes_max=10)
    line = workers.new(replica("a", 10), bounds=bounds)
    await line.enter(ask("x", concurrent=1, waiting=3))
    for _ in range(20):
        with pytest.raises(QueueFull) as told:
            await line.enter(ask("x", concurrent=1, waiting=3)._replace(body_bytes=11))
        assert "your place is kept" in told.value.message
        await until_waiting(state, 0)
    assert await state.zcard(KEPT) == 1


async def test_an_account_keeps_no_more_places_than_its_plan_lets_wait(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("blocker"))
    tickets = [await line.enter(ask("x", waiting=5)) for _ in range(5)]
    # A plan that lets fewer wait holds for those who come with it.
    await turn_away(state, line, *tickets[:3])
    tickets.append(await line.enter(ask("x", waiting=3)))
    for ticket in tickets[3:]:
        line.leave(ticket, retry_after_s=60)
    await until_waiting(state, 0)
    assert await state.zcard(KEPT) == 4
