"""Today's use out of the ledger's history, when flow does not know it. Two real Redis servers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
import redis.asyncio as redis

from gateway.answer.usage import Usage
from gateway.app.ledger import LedgerUsage
from gateway.auth import Caller
from gateway.errors import BudgetExhausted
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.limits.flow_limits import Limits
from gateway.limits.reservation import TokenAsk
from gateway.limits.usage_sums import UsageLedgerUnavailable, UsageRow
from gateway.telemetry.metrics import LEDGER_FALLBACKS
from tests.plans_file import plan
from tests.redis_server import RedisServer
from waitlist.holders.usage import UsageHistory
from waitlist.release.first_requests import FirstRequests
from waitlist.storage.acting_ledger import ActingLedger
from waitlist.storage.ledger import Ledger

pytestmark = pytest.mark.integration

ALICE = Caller("key_1", "acct_alice", "free")
LIMITED = plan(tokens_per_day=1_000)
ASK = TokenAsk("m", prompt_tokens=50, choices=1, output_cap=50)


class CountingUsage(LedgerUsage):
    """The real one, which also counts how often it was asked, and the batches that it added."""

    asked = 0
    added = 0

    async def add(self, writer: str, number: int, rows: Sequence[UsageRow]) -> None:
        await super().add(writer, number, rows)
        self.added += 1

    async def tokens_used(self, account_id: str, day: int) -> int:
        self.asked += 1
        return await super().tokens_used(account_id, day)


class Worker:
    def __init__(self, flow: FlowRedis, ledger: RedisServer) -> None:
        self.flow = flow
        self._ledger = Ledger(ledger.url, deadline_s=2.0)
        acting = ActingLedger(self._ledger, clock=time.time, actor="tests")
        self.usage = CountingUsage(UsageHistory(acting), FirstRequests(acting))
        self.limits = Limits(
            flow,
            self.usage,
            live_workers=lambda: 1,
            clock=time.monotonic,
            wall_clock=time.time,
        )
        self._books = asyncio.create_task(self.limits.keep_books())

    async def use(self, tokens: int) -> None:
        """A request of that many tokens, from its reservation to the ledger."""
        held = await self.limits.reserve(ALICE, LIMITED, ASK)
        self.limits.settle(held, Usage(tokens, 0, exact=True))

    async def left_today(self) -> int:
        held = await self.limits.reserve(ALICE, LIMITED, TokenAsk("m", 0, 0, None))
        state = dict(held.headers)[b"ratelimit"].decode()
        return int(state.partition('"tokens-day";r=')[2].partition(";")[0])

    async def close(self) -> None:
        self._books.cancel()
        await asyncio.gather(self._books, return_exceptions=True)
        await self.limits.close()
        await self._ledger.close()


@pytest.fixture
async def make_worker(
    connect: Callable[[], FlowRedis], ledger_server: RedisServer
) -> AsyncIterator[Callable[[], Worker]]:
    async with AsyncExitStack() as stack:

        def make() -> Worker:
            worker = Worker(connect(), ledger_server)
            stack.push_async_callback(worker.close)
            return worker

        yield make


async def until_in_ledger(worker: Worker, tokens: int) -> None:
    day = int(time.time() // 86_400)
    while True:
        try:
            if await LedgerUsage.tokens_used(worker.usage, ALICE.account_id, day) == tokens:
                return
        except UsageLedgerUnavailable:
            pass
        await asyncio.sleep(0.02)


async def until_left(worker: Worker, tokens: int) -> None:
    while await worker.left_today() != tokens:
        await asyncio.sleep(0.02)


async def until_flow_answers(worker: Worker) -> None:
    while not worker.flow.available:
        await asyncio.gather(worker.left_today(), return_exceptions=True)
        await asyncio.sleep(0.02)


async def test_only_the_first_requests_of_an_account_and_day_ask_the_ledger(
    make_worker: Callable[[], Worker],
) -> None:
    first, second = make_worker(), make_worker()
    await asyncio.gather(*(first.use(1) for _ in range(10)))
    assert first.usage.asked == 1
    await until_left(first, 990)
    await asyncio.gather(*(second.use(1) for _ in range(9)))
    assert second.usage.asked == 0
    await until_left(first, 981)


async def test_a_flow_redis_that_was_restarted_empty_learns_the_day_from_the_ledger(
    make_worker: Callable[[], Worker], flow_server: RedisServer
) -> None:
    worker = make_worker()
    await worker.use(700)
    await until_in_ledger(worker, 700)
    under_way = await worker.limits.reserve(ALICE, LIMITED, ASK)
    flow_server.restart()
    await asyncio.gather(worker.left_today(), return_exceptions=True)
    await until_flow_answers(worker)
    assert await worker.left_today() == 300
    # Reserved before the restart and ended after it: its use counts, its reservation was lost.
    worker.limits.settle(under_way, Usage(50, 10, exact=True))
    await until_left(worker, 240)


async def test_a_settlement_of_before_the_restart_is_not_counted_twice(
    make_worker: Callable[[], Worker], flow_server: RedisServer
) -> None:
    worker = make_worker()
    held = await worker.limits.reserve(ALICE, LIMITED, ASK)
    flow_server.kill()
    worker.limits.settle(held, Usage(50, 10, exact=True))
    await until_in_ledger(worker, 60)
    flow_server.start()
    await asyncio.gather(worker.left_today(), return_exceptions=True)
    await until_flow_answers(worker)
    assert await worker.left_today() == 940
    await worker.limits.close()  # the kept settlement is out
    assert await worker.left_today() == 940


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_without_the_ledger_the_day_begins_with_a_guess_that_is_put_right_later(
    make_worker: Callable[[], Worker],
    flow_server: RedisServer,
    ledger_server: RedisServer,
    how: str,
) -> None:
    worker = make_worker()
    await worker.use(700)
    await until_in_ledger(worker, 700)
    while not worker.usage.added:  # until its answer is here the worker counts them, too
        await asyncio.sleep(0.01)
    getattr(ledger_server, how)()
    async with redis.Redis.from_url(flow_server.url) as client:  # as after a restart
        await client.delete(redis_keys.account_limits(ALICE.account_id))
    fallbacks = LEDGER_FALLBACKS.labels("day_use")._value.get()
    assert await worker.left_today() == 1_000
    assert LEDGER_FALLBACKS.labels("day_use")._value.get() > fallbacks
    await worker.use(30)
    await until_left(worker, 970)
    if how == "kill":
        ledger_server.start()
    else:
        ledger_server.resume()
    await until_in_ledger(worker, 730)
    # Whether the ledger was asked before or after it got the last 30.
    while await worker.left_today() > 300:
        await asyncio.sleep(0.02)
    with pytest.raises(BudgetExhausted):
        await worker.limits.reserve(ALICE, LIMITED, TokenAsk("m", 400, 1, 1))


async def test_what_was_used_while_the_ledger_was_gone_reaches_it_once(
    make_worker: Callable[[], Worker], ledger_server: RedisServer
) -> None:
    worker = make_worker()
    await worker.use(1)
    await until_in_ledger(worker, 1)
    ledger_server.pause()
    for _ in range(20):
        await worker.use(10)
        await asyncio.sleep(0.01)
    ledger_server.resume()
    await until_in_ledger(worker, 201)
    await worker.close()
    assert await worker.usage.tokens_used(ALICE.account_id, int(time.time() // 86_400)) == 201
