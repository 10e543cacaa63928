"""Calls into the line that fail, run without an answer, or come late: nothing of them may stay."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.line.line_terms import LineBounds
from gateway.line.pool_line import PoolLine
from gateway.line.ticket import Granted, Passage, SlotAsk, Ticket
from gateway.queue_errors import AccountQueueFull, Draining, QueueFull
from tests.line_workers import KEYS, Workers, ask, granted, has_slot, is_empty, replica, used
from tests.redis_server import RedisServer
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.integration

LEASE_MS = 100
COUNTERS = KEYS + ":counters"


@pytest.fixture
async def proxy(flow_server: RedisServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(flow_server.port) as running:
        yield running


async def after_ten_leases(state: Any) -> None:
    """Longer than Redis once remembered what a silent worker held."""
    began, _ = await state.time()
    while (await state.time())[0] - began < 10 * LEASE_MS / 1000 + 2:
        await asyncio.sleep(0.05)


async def until_counter(workers: Workers, state: Any, account: str, tokens: float) -> None:
    async def is_there() -> bool:
        return float(await state.zscore(COUNTERS, account) or 0) == pytest.approx(tokens)

    try:
        async with asyncio.timeout(20):
            await workers.until(is_there)
    except TimeoutError:
        pytest.fail(f"the counter stays at {await state.zscore(COUNTERS, account)}")


async def beat_until(workers: Workers, ticket: Ticket) -> str:
    """Heartbeats until the ticket has a slot."""
    async with asyncio.timeout(20):
        while not has_slot(ticket):
            await workers.beat()
            await asyncio.sleep(0.01)
    return await granted(ticket)


async def until_empty(workers: Workers, state: Any) -> None:
    try:
        async with asyncio.timeout(20):
            await workers.until(lambda: is_empty(state))
    except TimeoutError:
        kept = {key: await state.hgetall(KEYS + key) for key in (":slots", ":running", ":state")}
        keys = [key async for key in state.scan_iter(KEYS + ":worker:*")]
        pytest.fail(f"left behind: {kept}, {keys}")
    assert all(line.held.total == 0 for line in workers.lines)


async def test_an_account_is_not_locked_out_by_workers_that_all_died_long_ago(
    workers: Workers, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", LEASE_MS)
    dead = workers.new(replica("a", 4))
    await workers.beat()
    assert await granted(await dead.enter(ask("x", concurrent=1))) == "a"
    await dead.lease.renew()
    workers.lines.clear()
    await after_ten_leases(state)
    late = workers.new(replica("a", 4))
    assert await beat_until(workers, await late.enter(ask("x", concurrent=1))) == "a"
    assert await state.hgetall(KEYS + ":running") == {"x": "1"}


@pytest.mark.parametrize("running", [0, 1])
async def test_requests_are_counted_once_after_a_silence_of_ten_leases(
    workers: Workers, state: Any, monkeypatch: pytest.MonkeyPatch, running: int
) -> None:
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", LEASE_MS)
    line = workers.new(replica("a", 4))
    await workers.beat()
    held = await granted(await line.enter(ask("x")))
    await line.lease.renew()
    await after_ten_leases(state)
    if not running:  # what ends in the silence
        line.release(held, "x")
    await workers.beat()
    await workers.beat()
    assert await state.hgetall(KEYS + ":running") == ({"x": "1"} if running else {})
    if running:
        line.release(held, "x")
    await until_empty(workers, state)


async def test_what_redis_counts_too_much_for_whatever_reason_is_gone_with_the_heartbeats(
    workers: Workers, state: Any
) -> None:
    line, other = workers.new(replica("a", 2)), workers.new(replica("a", 2))
    tickets = [await line.enter(ask("x")), await other.enter(ask("y"))]
    await workers.beat()
    await state.hincrby(KEYS + ":slots", "a", 5)
    for account in ("x", "z"):
        await state.hincrby(KEYS + ":running", account, 3)
    await workers.beat()
    assert await used(state) == {"a": 2}, "what lives is never taken away"
    assert await state.hgetall(KEYS + ":running") == {"x": "1", "y": "1"}
    for worker, ticket, account in zip((line, other), tickets, "xy", strict=True):
        worker.release(await granted(ticket), account)
    await until_empty(workers, state)


async def test_a_grant_whose_acknowledgement_was_lost_is_acknowledged_again(
    workers: Workers, state: Any, proxy: TcpProxy
) -> None:
    first, second = workers.new(replica("a", 1)), workers.new(replica("a", 1), by=proxy)
    await workers.beat()
    held = await granted(await first.enter(ask("x")))
    ticket = await second.enter(ask("y"))
    first.release(held, "x")
    assert await granted(ticket) == "a"
    proxy.loses = "requests"
    second.release("a", "y")
    await workers.beat(second)
    proxy.loses = "nothing"
    await until_empty(workers, state)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("how", ["drain", "hang up"])
async def test_who_leaves_while_its_call_is_under_way_leaves_nothing_behind(
    workers: Workers, state: Any, how: str, waits: bool
) -> None:
    line = workers.new(replica("a", 1))
    await workers.beat()
    if waits:
        blocker = await granted(await line.enter(ask("blocker")))
    entering = asyncio.create_task(line.enter(ask("x")))
    while not line.tickets.waiting:
        await asyncio.sleep(0)
    (ticket,) = line.tickets.waiting.values()
    if how == "drain":
        line.leave(ticket, retry_after_s=1)
        ticket.tell(Draining())
        assert not has_slot(await entering)
    else:
        entering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await entering
    if waits:
        async with asyncio.timeout(20):
            while int(await state.hget(KEYS + ":state", "waiting")):
                await asyncio.sleep(0.01)
        assert await state.exists(KEYS + ":account:x:kept") == (how == "drain")
        line.release(blocker, "blocker")
    await until_empty(workers, state)
    await until_counter(workers, state, "x", 0)


async def test_hanging_up_at_any_step_of_entering_gives_the_charge_back(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 3))
    await workers.beat()
    for turns in range(60):
        entering = asyncio.create_task(line.enter(ask("x")))
        for _ in range(turns):
            await asyncio.sleep(0)
        entering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            line.abandon(await entering)
        await until_counter(workers, state, "x", 0)
    await until_empty(workers, state)


async def test_who_hangs_up_as_a_new_redis_hears_of_it_again_leaves_nothing_behind(
    workers: Workers, flow_server: RedisServer, state: Any
) -> None:
    line = workers.new(replica("a", 30))
    line.lease.replicas = {}
    tickets = [await line.enter(ask("x")) for _ in range(20)]
    flow_server.restart()
    line.lease.replicas = {"a": replica("a", 30)}
    renewing = asyncio.create_task(workers.until(lambda: _is_granted(tickets[-1])))
    while not has_slot(tickets[0]):
        await asyncio.sleep(0)
    for ticket in tickets:  # one after the other, some in the middle of their call
        for _ in range(5):
            await asyncio.sleep(0)
        line.abandon(ticket)
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    await until_empty(workers, state)
    await until_counter(workers, state, "x", 0)


async def _is_granted(ticket: Ticket) -> bool:
    return has_slot(ticket)


def flow_is_available(line: PoolLine) -> bool:
    return line._flow.available


async def in_front_of_the_last_slot(workers: Workers, proxy: TcpProxy) -> tuple[PoolLine, Ticket]:
    """Of two slots one is held, which is this worker's share: without Redis it grants no other."""
    line, other = workers.new(replica("a", 2), by=proxy), workers.new(replica("a", 2))
    await workers.beat(line, other)
    await workers.beat(line)
    assert line.lease.live_workers == 2
    return line, await line.enter(ask("held"))


@pytest.mark.parametrize("lost", ["requests", "answers"])
async def test_who_entered_by_a_call_that_was_lost_is_served_and_charged_once(
    workers: Workers, state: Any, proxy: TcpProxy, lost: Any
) -> None:
    line, held = await in_front_of_the_last_slot(workers, proxy)
    proxy.loses = lost
    ticket = await line.enter(ask("x"))
    proxy.loses = "nothing"
    assert not has_slot(ticket)
    assert float(await state.zscore(COUNTERS, "x") or 0) == (100 if lost == "answers" else 0)
    assert await beat_until(workers, ticket) == "a"
    await workers.beat()
    await workers.beat()
    assert await used(state) == {"a": 2}
    assert await state.zscore(COUNTERS, "x") == 100
    line.release("a", "x")
    line.release(await granted(held), "held")
    await until_empty(workers, state)


async def test_who_left_after_a_call_that_was_lost_leaves_nothing_behind(
    workers: Workers, state: Any, proxy: TcpProxy
) -> None:
    line, held = await in_front_of_the_last_slot(workers, proxy)
    proxy.loses = "answers"
    ticket = await line.enter(ask("x"))
    proxy.loses = "nothing"
    line.leave(ticket)
    await until_counter(workers, state, "x", 0)
    line.release(await granted(held), "held")
    await until_empty(workers, state)


async def test_who_was_served_locally_after_a_call_that_was_lost_holds_one_slot(
    workers: Workers, state: Any, proxy: TcpProxy
) -> None:
    line = workers.new(replica("a", 2), by=proxy)
    await workers.beat()
    proxy.loses = "answers"
    ticket = await line.enter(ask("x"))
    proxy.loses = "nothing"
    assert await granted(ticket) == "a"
    await until_counter(workers, state, "x", 0)
    assert await used(state) == {"a": 1}
    assert await state.hgetall(KEYS + ":running") == {"x": "1"}
    line.release("a", "x")
    await until_empty(workers, state)


async def test_a_grant_lost_to_a_worker_whose_lease_then_ended_is_charged_once(
    workers: Workers, state: Any, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, held = await in_front_of_the_last_slot(workers, proxy)
    proxy.loses = "answers"
    ticket = await line.enter(ask("x"))
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 1)
    proxy.loses = "nothing"
    other = workers.lines[1]
    await state.zadd(KEYS + ":leases", {line.lease.worker_id: 1})
    await workers.beat(other)
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", 60_000)
    assert await used(state) == {}, "its lease has ended"
    assert await beat_until(workers, ticket) == "a"
    assert await state.zscore(COUNTERS, "x") == 100
    line.release("a", "x")
    line.release(await granted(held), "held")
    await until_empty(workers, state)


async def test_refusals_without_redis_leave_nothing_to_be_told(
    workers: Workers, flow_server: RedisServer, state: Any
) -> None:
    bounds = LineBounds(tickets_max=2, wait_s_max=300, bytes_max=1 << 30)
    line = workers.new(replica("a", 1), bounds=bounds)
    held = await granted(await line.enter(ask("x")))
    flow_server.kill()
    waiting = [await line.enter(ask("x")) for _ in range(2)]
    for _ in range(300):
        with pytest.raises(QueueFull):
            await line.enter(ask("x"))
    hung_up = waiting.pop()
    line.leave(hung_up)
    assert not line.tickets.has_leaves
    assert len(line.tickets.doubted) <= 1, "the one call that was sent"
    flow_server.start()
    await workers.beat()
    line.release(held, "x")
    line.release(await beat_until(workers, waiting[0]), "x")
    await until_empty(workers, state)


@pytest.mark.parametrize("lost", ["requests", "answers"])
async def test_a_correction_whose_call_was_lost_counts_once(
    workers: Workers, state: Any, proxy: TcpProxy, lost: Any
) -> None:
    line = workers.new(replica("a", 2), by=proxy)
    await workers.beat()
    await granted(await line.enter(ask("x", charge=100)))
    proxy.loses = lost
    line.correct("x", -60.0)
    while flow_is_available(line):
        await asyncio.sleep(0)
    line.correct("x", 1.0)
    proxy.loses = "nothing"
    await until_counter(workers, state, "x", 41)
    line.correct("x", 1.0)
    await until_counter(workers, state, "x", 42)


async def test_a_correction_counts_though_the_workers_lease_has_ended(
    workers: Workers, state: Any
) -> None:
    line, other = workers.new(replica("a", 2)), workers.new(replica("a", 2))
    await workers.beat()
    held = await granted(await line.enter(ask("x", charge=100)))
    await state.zadd(KEYS + ":leases", {line.lease.worker_id: 1})
    await workers.beat(other)
    line.correct("x", -60.0)
    line.release(held, "x")
    await until_counter(workers, state, "x", 40)


def has_more_to_tell(line: PoolLine) -> bool:
    return bool(line.tickets.has_leaves or line.tickets.doubted or line.held.has_news)


class Trouble:
    """Breaks connections before or after their calls have run, and lets Redis stand still."""

    def __init__(self, server: RedisServer, proxies: list[TcpProxy], chance: random.Random) -> None:
        self._server = server
        self._proxies = proxies
        self._chance = chance

    async def make(self) -> None:
        """Until cancelled, and all is well again then."""
        try:
            for turn in itertools.count(1):
                proxy = self._chance.choice(self._proxies)
                proxy.loses = self._chance.choice(("requests", "answers", "nothing"))
                await asyncio.sleep(self._chance.random() * 0.1)
                proxy.loses = "nothing"
                if turn % 20 == 0:
                    self._server.pause()
                    await asyncio.sleep(12 * LEASE_MS / 1000)
                    self._server.resume()
        finally:
            self._server.resume()
            for proxy in self._proxies:
                proxy.loses = "nothing"


class Visits:
    """Callers who enter, hang up, hold slots, ask for another one, and correct, at random.

    Some come from five accounts that have more to do than may run, and cost nothing. The others
    come from an account each. So every ticket starts at 0 in the order of the line, no counter is
    lifted to another, and what an account was charged in the end is exact.
    """

    def __init__(self, workers: Workers, chance: random.Random) -> None:
        self._workers = workers
        self._chance = chance
        self.charged: dict[str, float] = {}  # by account, once its visit is over

    async def make(self, number: int) -> None:
        await asyncio.sleep(self._chance.random() * 5)
        line, account, charge = self._chance.choice(self._workers.lines), f"own{number}", 0
        if number % 2:
            account = f"acct{number % 5}"
        else:
            charge = self._chance.randint(1, 500)
        self.charged[account] = 0
        work = asyncio.create_task(self._visit(line, account, charge))
        if self._chance.random() < 0.4:
            await asyncio.sleep(self._chance.random() * 0.2)
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError, AccountQueueFull, QueueFull):
            await work

    async def _visit(self, line: PoolLine, account: str, charge: int) -> None:
        passage = Passage()
        passage.avoid = await self._run(line, ask(account, charge, 3, 20), passage)
        if not charge and self._chance.random() < 0.3:  # the replica gave no answer
            passage.was_granted = True
            await self._run(line, ask(account, charge, 3, 20), passage)

    async def _run(self, line: PoolLine, what: SlotAsk, passage: Passage) -> str:
        ticket = await line.enter(what, passage)
        try:
            news = await ticket.next_news()
        except asyncio.CancelledError:
            line.abandon(ticket)
            raise
        assert isinstance(news, Granted)
        try:
            await asyncio.sleep(self._chance.random() * 0.1)
        finally:
            line.release(news.replica_id, what.account_id)
            if what.charge:
                # Never more than it was charged: that would move what Redis has of it in line.
                correction = self._chance.randint(-round(news.charge), 0)
                line.correct(what.account_id, correction)
                self.charged[what.account_id] = news.charge + correction
        return news.replica_id


# Of so many, several enter by calls that run unheard.
VISITS = 600
# What a line that nobody uses keeps of its accounts and workers.
KEPT_KINDS = {"state", "counters", "capacity", "room", "leases", "corrected"}
KEPT_KINDS |= {"account:kept", "account:kept_ends", "account:floor"}


async def kinds_of_keys(state: Any) -> set[str]:
    """Kinds of keys that the pool has, without the names of accounts and workers."""
    found = set()
    async for key in state.scan_iter(KEYS + ":*", count=1000):
        kind, *rest = key.removeprefix(KEYS + ":").split(":")
        found.add(f"{kind}:{rest[1]}" if len(rest) > 1 else kind)
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_calls_that_fail_in_any_order_leave_nothing_behind(
    workers: Workers,
    flow_server: RedisServer,
    state: Any,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Enter, hang up, release, beat and correct at random, while calls fail, or run unheard."""
    monkeypatch.setattr("gateway.line.line_lease.LEASE_MS", LEASE_MS)
    chance = random.Random(seed)

    async def beat(line: PoolLine) -> None:
        while True:
            await workers.beat(line)
            await asyncio.sleep(0.02)

    async with contextlib.AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(TcpProxy(flow_server.port)) for _ in range(3)]
        lines = [workers.new(replica("a", 3), replica("b", 5), by=proxy) for proxy in proxies]
        visits = Visits(workers, chance)
        tasks = [asyncio.create_task(beat(line)) for line in lines]
        tasks.append(asyncio.create_task(Trouble(flow_server, proxies, chance).make()))
        try:
            async with asyncio.timeout(50):
                await asyncio.gather(*(visits.make(number) for number in range(VISITS)))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await until_empty(workers, state)
        assert not any(line.tickets.waiting for line in lines)
        async with asyncio.timeout(20):
            while any(map(has_more_to_tell, lines)):
                await workers.beat()
        assert await state.hget(KEYS + ":state", "virtual") in (None, "0"), f"seed {seed}"
        counters = dict(await state.zrange(COUNTERS, 0, -1, withscores=True))
        wrong = {
            account: (counters.get(account, 0), charged)
            for account, charged in visits.charged.items()
            if counters.get(account, 0) != charged
        }
        assert not wrong, f"counted and due by account, seed {seed}: {wrong}"
        assert await kinds_of_keys(state) <= KEPT_KINDS, f"seed {seed}"
