"""Who may not wait, or no longer, and whose place is kept, on one real Redis."""

import asyncio
from typing import Any

import pytest

from gateway.engines.pools import PoolState
from gateway.errors import Unavailable
from gateway.line.drain_rate import DrainRate
from gateway.line.line_terms import LineBounds
from gateway.queue_errors import AccountQueueFull, QueueFull
from tests.line_workers import (
    KEYS,
    Workers,
    ask,
    granted,
    has_slot,
    has_waiting,
    replica,
    serve,
    serve_one_a_second,
    used,
)
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration


async def test_an_account_may_have_no_more_waiting_than_its_plan_lets_it(
    workers: Workers,
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("x"))
    for _ in range(3):
        await line.enter(ask("x", waiting=3))
    with pytest.raises(AccountQueueFull) as refused:
        await line.enter(ask("x", waiting=3))
    assert refused.value.status_code == 429
    assert 1 <= int(refused.value.headers["retry-after"]) <= 120
    assert not has_slot(await line.enter(ask("y", waiting=3)))


@pytest.mark.parametrize(
    ("concurrent", "waiting", "told_s"),
    [
        (9, 2, "1"),  # its first is next
        (1, 2, "61"),  # held back by what it runs: behind the whole line
        (9, 0, "61"),  # nothing of it may wait: as who comes now
    ],
)
async def test_a_full_account_is_told_when_the_first_of_its_own_is_served(
    workers: Workers, state: Any, concurrent: int, waiting: int, told_s: str
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("x", concurrent=concurrent))
    for _ in range(waiting):
        await line.enter(ask("x", concurrent=concurrent, waiting=waiting))
    for _ in range(60):
        await line.enter(ask("y"))
    serve_one_a_second(line)
    with pytest.raises(AccountQueueFull) as refused:
        await line.enter(ask("x", concurrent=concurrent, waiting=waiting))
    assert refused.value.headers["retry-after"] == told_s
    assert f"Try again in {told_s} s." in refused.value.message, "no place is kept"
    assert not await state.exists(KEYS + ":account:x:kept")


async def test_a_full_account_is_never_told_more_than_sdks_wait(workers: Workers) -> None:
    line = workers.new(replica("a", 1))
    for _ in range(200):
        await line.enter(ask("y"))
    serve_one_a_second(line)
    with pytest.raises(AccountQueueFull) as refused:
        await line.enter(ask("x", waiting=0))
    assert refused.value.headers["retry-after"] == "120"


async def test_who_is_turned_away_by_a_full_line_keeps_its_place(workers: Workers) -> None:
    line = workers.new(
        replica("a", 1), bounds=LineBounds(tickets_max=2, wait_s_max=300, bytes_max=1 << 30)
    )
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = [("p", await line.enter(ask("p"))), ("q", await line.enter(ask("q")))]
    with pytest.raises(QueueFull) as refused:
        await line.enter(ask("r"))
    assert refused.value.headers["x-should-retry"] == "true"
    assert "your place is kept until then" in refused.value.message
    line.release(blocker, "blocker")
    assert await serve(line, tickets[:1], 1) == ["p"]
    # s is new and takes the room; r comes back and stands before it.
    tickets = [tickets[1], ("s", await line.enter(ask("s", charge=1)))]
    tickets.append(("r", await line.enter(ask("r"))))
    order = await serve(line, tickets, 3)
    assert order.index("r") < order.index("s")


@pytest.mark.parametrize("how", ["timeout", "draining", "stopped", "killed"])
async def test_who_is_turned_away_while_it_waits_keeps_its_place(
    workers: Workers, state: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whoever turned it away: the worker that it comes back to need not be the same."""
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 300 if how == "killed" else 60_000)
    other = workers.new(replica("a", 1))
    turned_away = await other.enter(ask("r"))
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 60_000)
    if how == "stopped":
        await other.lease.stop()
    elif how != "killed":
        other.leave(turned_away, retry_after_s=120 if how == "timeout" else 1)
    await workers.until(lambda: has_waiting(state, 0), line)
    # s is new and arrives first; r comes back and stands before it.
    tickets = [("s", await line.enter(ask("s", charge=1))), ("r", await line.enter(ask("r")))]
    line.release(blocker, "blocker")
    assert await serve(line, tickets, 2) == ["r", "s"]


async def now_ms(state: Any) -> int:
    seconds, microseconds = await state.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


@pytest.mark.parametrize("turned_away_by", ["timeout", "full line"])
async def test_a_kept_place_ends_ten_seconds_after_its_caller_was_told_to_come_back(
    workers: Workers, state: Any, monkeypatch: pytest.MonkeyPatch, turned_away_by: str
) -> None:
    full = LineBounds(tickets_max=0, wait_s_max=300, bytes_max=1 << 30)
    line = workers.new(replica("a", 1))
    narrow = workers.new(replica("a", 1), bounds=full)
    monkeypatch.setattr(DrainRate, "wait_s", lambda _drain, _place: 7.0)
    blocker = await granted(await line.enter(ask("blocker")))
    from_ms = await now_ms(state)
    if turned_away_by == "timeout":
        line.leave(await line.enter(ask("r")), retry_after_s=line.lease.retry_after_s())
        await workers.until(lambda: has_waiting(state, 0))
    else:
        with pytest.raises(QueueFull) as refused:
            await narrow.enter(ask("r"))
        assert refused.value.headers["retry-after"] == "7"
    kept = KEYS + ":account:r:kept"
    assert from_ms + 17_000 <= await state.pexpiretime(kept) <= await now_ms(state) + 17_000
    await state.pexpire(kept, 1)
    while await state.exists(kept):
        await asyncio.sleep(0.01)
    tickets = [("s", await line.enter(ask("s", charge=1))), ("r", await line.enter(ask("r")))]
    line.release(blocker, "blocker")
    assert await serve(line, tickets, 2) == ["s", "r"], "who comes too late has a new place"


@pytest.mark.parametrize("state", PoolState)
@pytest.mark.parametrize("redis_is_there", [True, False])
async def test_whose_wait_ends_is_promised_its_place_unless_nobody_keeps_it(
    workers: Workers, flow_server: RedisServer, state: PoolState, redis_is_there: bool
) -> None:
    at_once = LineBounds(tickets_max=10_000, wait_s_max=0, bytes_max=1 << 30)
    line = workers.new(replica("a", 1), bounds=at_once)
    await line.enter(ask("blocker"))
    ticket = await line.enter(ask("r"))
    if not redis_is_there:
        flow_server.kill()
        await workers.beat()
    line.end_long_waits(state)
    with pytest.raises(Unavailable) as refused:
        await ticket.next_news()
    code = "queue_timeout" if state is PoolState.RUNNING else "no_capacity"
    assert refused.value.code == code
    told_s = refused.value.headers["retry-after"]
    assert ("your place is kept" in refused.value.message) is redis_is_there
    assert f"Try again in {told_s} s" in refused.value.message


async def test_a_restart_promises_a_place_unless_nobody_keeps_it(
    workers: Workers, flow_server: RedisServer
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("blocker"))
    assert line.leave(await line.enter(ask("x")), retry_after_s=1)
    assert not line.leave(await line.enter(ask("x"))), "it has given its place up"
    flow_server.kill()
    assert not line.leave(await line.enter(ask("x")), retry_after_s=1)


async def test_kept_places_let_an_account_run_no_more_than_its_plan_does(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 10))
    running = [await line.enter(ask("x", concurrent=2)) for _ in range(2)]
    turned_away = [await line.enter(ask("x", concurrent=2)) for _ in range(4)]
    for ticket in turned_away:
        line.leave(ticket, retry_after_s=60)
    await workers.until(lambda: has_waiting(state, 0))
    assert await state.zcard(KEYS + ":account:x:kept") == 4
    back = [await line.enter(ask("x", concurrent=2)) for _ in range(4)]
    assert not any(map(has_slot, back))
    assert not await state.exists(KEYS + ":account:x:kept"), "each has taken its place"
    assert await used(state) == {"a": 2}
    line.release(await granted(running[0]), "x")
    assert await granted(back[0]) == "a"
    assert not any(map(has_slot, back[1:]))


async def test_a_later_shorter_promise_does_not_end_an_earlier_one(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("blocker"))
    tickets = [await line.enter(ask("x")) for _ in range(2)]
    line.leave(tickets[0], retry_after_s=120)
    await workers.until(lambda: has_waiting(state, 1))
    line.leave(tickets[1], retry_after_s=1)
    await workers.until(lambda: has_waiting(state, 0))
    assert await state.pttl(KEYS + ":account:x:kept") > 100_000
