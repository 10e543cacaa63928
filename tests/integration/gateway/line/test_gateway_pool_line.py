"""The line raced over several workers on one real Redis."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.engines.pools import PoolState
from gateway.errors import AccountQueueFull, QueueFull, Unavailable
from gateway.flow import redis_keys
from gateway.line.line_lease import LineLease
from gateway.line.line_terms import LineBounds
from gateway.line.pool_line import PoolLine
from gateway.line.ticket import Passage, Ticket
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
    await workers.until(lambda: _true(has_slot(ticket)), first, second)
    assert await used(state) == {"a": 1}
    await workers.beat()
    assert await used(state) == {"a": 1}
    second.release(await granted(ticket), "y")
    await workers.until(lambda: is_empty(state))


async def _true(condition: bool) -> bool:
    return condition


async def serve(line: PoolLine, tickets: list[tuple[str, Ticket]], count: int) -> list[str]:
    """Serves one at a time; the accounts in the order in which they got the one slot."""
    order: list[str] = []
    waiting = dict(enumerate(tickets))
    while len(order) < count:
        for number, (account, ticket) in list(waiting.items()):
            if ticket.granted is not None:
                line.release(await granted(ticket), account)
                order.append(account)
                del waiting[number]
        await asyncio.sleep(0)
    return order


async def test_accounts_share_by_weighted_tokens_however_many_requests_they_have(
    workers: Workers,
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets: list[tuple[str, Ticket]] = []
    # The greedy one comes first with most requests; charges are tokens / weight.
    for account, charge, requests in (
        ("greedy", 100.0, 400),
        ("modest", 100.0, 120),
        ("double", 50.0, 240),
        ("wordy", 300.0, 40),
    ):
        tickets += [(account, await line.enter(ask(account, charge))) for _ in range(requests)]
    line.release(blocker, "blocker")
    order = await serve(line, tickets, 400)
    counts = Counter(order)
    # By tokens / weight: greedy and modest 1, double 2, wordy a third: 400 · (3, 3, 6, 1) / 13.
    assert counts == pytest.approx({"greedy": 92, "modest": 92, "double": 184, "wordy": 31}, abs=2)


async def test_inside_an_account_the_first_come_is_served_first(workers: Workers) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("x", concurrent=2)))
    tickets = [await line.enter(ask("x", charge=100 - i, concurrent=2)) for i in range(20)]
    line.release(blocker, "x")
    for ticket in tickets:
        assert await granted(ticket) == "a"
        assert sum(has_slot(t) for t in tickets) == 0
        line.release("a", "x")


async def test_a_new_account_is_not_punished_and_an_idle_one_saves_nothing(
    workers: Workers,
) -> None:
    line = workers.new(replica("a", 1))
    idle = await granted(await line.enter(ask("idle")))
    line.release(idle, "idle")
    blocker = await granted(await line.enter(ask("busy")))
    tickets = [("busy", await line.enter(ask("busy"))) for _ in range(60)]
    line.release(blocker, "busy")
    await serve(line, tickets, 30)
    late = [("idle", await line.enter(ask("idle"))) for _ in range(10)]
    late += [("new", await line.enter(ask("new"))) for _ in range(10)]
    still = [t for t in tickets if t[1].id in line.tickets.waiting or t[1].granted]
    order = await serve(line, still + late, 24)
    assert Counter(order) == pytest.approx({"busy": 8, "idle": 8, "new": 8}, abs=2)
    assert {"idle", "new"} <= set(order[:4]), "their first requests come at once"


async def test_an_account_runs_no_more_than_its_plan_lets_it_and_others_pass(
    workers: Workers,
) -> None:
    line = workers.new(replica("a", 10))
    tickets = [await line.enter(ask("x", concurrent=2)) for _ in range(5)]
    assert [has_slot(t) for t in tickets] == [True, True, False, False, False]
    assert has_slot(await line.enter(ask("y", concurrent=2)))
    line.release(await granted(tickets[0]), "x")
    assert await granted(tickets[2]) == "a"
    assert not has_slot(tickets[3])


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


def serve_one_a_second(line: PoolLine) -> None:
    """What the line drains at, by two looks at it."""
    for at in (0, 10):
        line.lease.drain.look(at, granted=at, waiting=1)
    line.lease.waiting_everywhere = len(line.tickets.waiting)


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
    await workers.until(lambda: _has_waiting(state, 0), line)
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
    monkeypatch.setattr(LineLease, "wait_s", 7.0)
    blocker = await granted(await line.enter(ask("blocker")))
    from_ms = await now_ms(state)
    if turned_away_by == "timeout":
        line.leave(await line.enter(ask("r")), retry_after_s=line.lease.retry_after_s())
        await workers.until(lambda: _has_waiting(state, 0))
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


async def test_kept_places_let_an_account_run_no_more_than_its_plan_does(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 10))
    running = [await line.enter(ask("x", concurrent=2)) for _ in range(2)]
    turned_away = [await line.enter(ask("x", concurrent=2)) for _ in range(4)]
    for ticket in turned_away:
        line.leave(ticket, retry_after_s=60)
    await workers.until(lambda: _has_waiting(state, 0))
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
    await workers.until(lambda: _has_waiting(state, 1))
    line.leave(tickets[1], retry_after_s=1)
    await workers.until(lambda: _has_waiting(state, 0))
    assert await state.pttl(KEYS + ":account:x:kept") > 100_000


async def test_leaving_gives_the_place_up_and_the_charge_back(workers: Workers, state: Any) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = [await line.enter(ask("x")) for _ in range(50)]
    before = float(await state.zscore(KEYS + ":counters", "x"))
    for ticket in tickets[10:]:
        line.leave(ticket)
    await workers.until(lambda: _has_waiting(state, 10))
    assert float(await state.zscore(KEYS + ":counters", "x")) == before - 40 * 100
    for ticket in tickets[:10]:
        line.leave(ticket)
    line.release(blocker, "blocker")
    await workers.until(lambda: is_empty(state))


async def test_hanging_up_with_a_slot_that_has_just_come_gives_the_charge_back(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    ticket = await line.enter(ask("x"))
    assert has_slot(ticket)
    assert await state.zscore(KEYS + ":counters", "x") == 100
    line.abandon(ticket)
    while await state.zscore(KEYS + ":counters", "x"):
        await asyncio.sleep(0.01)
    await workers.until(lambda: is_empty(state))


async def test_a_grant_that_crosses_a_leave_gives_slot_and_charge_back(
    workers: Workers, state: Any
) -> None:
    first, second = workers.new(replica("a", 1)), workers.new(replica("a", 1))
    held = await granted(await first.enter(ask("x")))
    ticket = await second.enter(ask("y"))
    workers.tasks[1].cancel()  # the push is on its way
    await asyncio.gather(workers.tasks[1], return_exceptions=True)
    first.release(held, "x")
    while not await state.zscore(KEYS + ":counters", "y"):
        await asyncio.sleep(0.01)
    second.leave(ticket)
    await workers.until(lambda: is_empty(state))
    assert not await state.zscore(KEYS + ":counters", "y")


async def _has_waiting(state: Any, count: int) -> bool:
    return int(await state.hget(KEYS + ":state", "waiting") or 0) == count


async def test_a_correction_moves_the_account_and_what_it_has_in_line(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("x"))
    await line.enter(ask("other"))
    ticket = await line.enter(ask("x"))
    start = float(await state.zscore(KEYS + ":line", ticket.id))
    line.correct("x", -30.0)
    line.correct("x", 10.0)
    while float(await state.zscore(KEYS + ":line", ticket.id)) != start - 20:
        await asyncio.sleep(0.01)


async def test_the_service_that_fairness_is_measured_by_is_corrected_too(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = [("x", await line.enter(ask("x"))) for _ in range(3)]
    line.release(blocker, "blocker")
    assert await granted(tickets[0][1]) == "a"
    while await state.hget(KEYS + ":service", "x") != "100":
        await asyncio.sleep(0.01)
    line.correct("x", -60.0)
    while await state.hget(KEYS + ":service", "x") != "40":
        await asyncio.sleep(0.01)


async def test_an_account_that_comes_back_into_line_begins_another_stay(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    first, second = [await line.enter(ask("x")) for _ in range(2)]
    line.release(blocker, "blocker")
    slot = await granted(first)
    assert await state.hget(KEYS + ":stays", "x") == first.id, "the second still waits"
    line.release(slot, "x")
    slot = await granted(second)
    assert not await state.exists(KEYS + ":stays", KEYS + ":service")
    third = await line.enter(ask("x"))
    assert await state.hget(KEYS + ":stays", "x") == third.id
    line.release(slot, "x")
    await granted(third)


async def test_somebody_who_was_not_served_for_long_goes_first(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    starved = await line.enter(ask("starved", charge=1.0))
    line.correct("starved", 1e9)
    tickets = [("x", await line.enter(ask("x"))) for _ in range(40)]
    await state.zadd(KEYS + ":served", {"starved": 1})
    line.release(blocker, "blocker")
    order = await serve(line, [*tickets, ("starved", starved)], 10)
    assert "starved" in order


async def test_several_who_starve_are_served_by_every_eighth_grant_the_longest_first(
    workers: Workers, state: Any
) -> None:
    """The bound that docs/api.md names: 8 grants for each of them."""
    starving = [f"starving{i}" for i in range(5)]
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = []
    for account in starving:
        tickets.append((account, await line.enter(ask(account))))
        line.correct(account, 1e9)
    tickets += [("x", await line.enter(ask("x"))) for _ in range(60)]
    # The later it came, the longer it is said to have starved.
    await state.zadd(KEYS + ":served", {a: 10 - i for i, a in enumerate(starving)})
    line.release(blocker, "blocker")
    order = await serve(line, tickets, 8 * len(starving))
    served_at = {account: order.index(account) + 1 for account in starving}
    assert list(served_at.values()) == sorted(served_at.values(), reverse=True)
    for before, account in enumerate(reversed(starving)):
        assert served_at[account] <= 8 * (before + 1)
    assert order.count("x") == 7 * len(starving), "and the others by the seven between"


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
    await workers.until(lambda: _true(has_slot(ticket)), living)
    assert await used(state) == {"a": 1}
    assert await _has_waiting(state, 0)
    assert await state.hgetall(KEYS + ":running") == {"y": "1"}


async def test_a_worker_that_was_stopped_longer_than_its_lease_registers_all_again(
    workers: Workers, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 300)
    stopped, living = workers.new(replica("a", 4)), workers.new(replica("a", 4))
    slots = [await granted(await stopped.enter(ask("x"))) for _ in range(4)]
    tickets = [await stopped.enter(ask("x")) for _ in range(3)]
    await workers.until(lambda: _has_waiting(state, 0), living)  # its lease has ended
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 60_000)
    late = await stopped.enter(ask("x"))
    assert not has_slot(late), "its own streams still run"
    assert await used(state) == {"a": 4}
    assert await _has_waiting(state, 4)
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
        return await used(state) == {"a": 2} and await _has_waiting(state, 10)

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
        return await used(state) == {"a": 8} and await _has_waiting(state, 0)

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


async def test_a_replica_to_avoid_is_avoided_and_who_retries_goes_first_and_pays_nothing(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1), replica("b", 1))
    first = await granted(await line.enter(ask("x")))
    second = await granted(await line.enter(ask("y")))
    others = [await line.enter(ask("z")) for _ in range(3)]
    counter = await state.zscore(KEYS + ":counters", "x")
    again = await line.enter(ask("x"), Passage(was_granted=True, avoid=first))
    line.release(first, "x")
    assert await granted(others[0]) == first
    assert not has_slot(again)
    line.release(second, "y")
    assert await granted(again) == second
    assert await state.zscore(KEYS + ":counters", "x") == counter


async def test_who_retries_pays_nothing_either_when_a_restarted_redis_hears_of_it_again(
    workers: Workers, flow_server: RedisServer, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    again = await line.enter(ask("x"), Passage(was_granted=True))
    flow_server.restart()
    await workers.until(lambda: _has_waiting(state, 1))
    line.release(blocker, "blocker")
    assert await granted(again) == "a"
    assert not await state.zscore(KEYS + ":counters", "x")


async def test_places_are_those_in_which_the_line_then_serves(workers: Workers) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = []
    for i in range(30):
        account = f"acct{i % 4}"
        tickets.append((account, await line.enter(ask(account, charge=50 + i % 3, concurrent=5))))
    positions = await line.positions([ticket for _, ticket in tickets])
    assert sorted(positions)[:20] == list(range(20)), "5 of each account stand in line"
    expected = {p: ticket.id for p, (_, ticket) in zip(positions, tickets, strict=True) if p < 20}
    line.release(blocker, "blocker")
    served: list[str] = []
    while len(served) < 4:
        for account, ticket in tickets:
            if ticket.granted is not None:
                served.append(ticket.id)
                line.release(await granted(ticket), account)
        await asyncio.sleep(0)
    assert served == [expected[p] for p in range(4)]
    assert await line.positions([tickets[0][1]]) == [-1]


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
