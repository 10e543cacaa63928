"""Limits of an account over several workers on one real Redis."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
import redis.asyncio as redis

from gateway import redis_keys
from gateway.auth import Caller
from gateway.errors import AuthenticationFailed, BudgetExhausted, RateLimited, TokensLimited
from gateway.limits import Limits
from gateway.metrics import FLOW_FALLBACKS
from gateway.plans import Plan
from gateway.redis_client import FlowRedis
from gateway.reservation import Reservation, TokenAsk
from gateway.usage import Usage
from gateway.usage_sums import UsageLedgerUnavailable, UsageRow
from tests.plans_file import plan
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

ALICE = Caller("key_1", "acct_alice", "free")
MakeLimits = Callable[..., Limits]


class NoUsage:
    """A usage history that holds nothing, or is gone. The real one: test_gateway_day_use.py."""

    def __init__(self) -> None:
        self.gone = False
        self.rows: list[UsageRow] = []

    async def add(self, writer: str, number: int, rows: Sequence[UsageRow]) -> None:
        if self.gone:
            raise UsageLedgerUnavailable("gone")
        self.rows += rows

    async def tokens_used(self, account_id: str, day: int) -> int:
        if self.gone:
            raise UsageLedgerUnavailable("gone")
        return 0


@pytest.fixture
async def make_limits(connect: Callable[[], FlowRedis]) -> AsyncIterator[MakeLimits]:
    """Each stands for one worker."""
    async with AsyncExitStack() as stack:

        def make(flow: FlowRedis | None = None, workers: int = 1) -> Limits:
            limits = Limits(
                flow or connect(),
                NoUsage(),
                live_workers=lambda: workers,
                clock=time.monotonic,
                wall_clock=time.time,
            )
            stack.push_async_callback(limits.close)
            return limits

        yield make


def ask(prompt: int = 10, cap: int | None = 10, choices: int = 1) -> TokenAsk:
    return TokenAsk("m", prompt_tokens=prompt, choices=choices, output_cap=cap)


async def day_tokens(server: RedisServer) -> int:
    async with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return int(
            await client.hget(redis_keys.account_limits(ALICE.account_id), "day_tokens") or 0
        )


async def until_day_tokens(server: RedisServer, expected: int) -> None:
    while await day_tokens(server) != expected:
        await asyncio.sleep(0.01)


async def tally(workers: list[Limits], plan: Plan, requests: int) -> list[RateLimited]:
    """Refusals among so many requests at once, with a limit on requests alone."""
    results: list[Reservation | BaseException] = await asyncio.gather(
        *(workers[i % len(workers)].reserve(ALICE, plan, ask()) for i in range(requests)),
        return_exceptions=True,
    )
    refusals = [result for result in results if isinstance(result, RateLimited)]
    assert all(isinstance(result, Reservation | RateLimited) for result in results), results
    return refusals


async def test_two_hundred_at_once_over_four_workers_pass_exactly_the_limit(
    make_limits: MakeLimits,
) -> None:
    workers = [make_limits() for _ in range(4)]
    began_at = time.monotonic()
    refusals = await tally(workers, plan(requests_per_minute=60), 200)
    # One more fits for each second that the race itself takes.
    assert 60 <= 200 - len(refusals) <= 60 + math.ceil(time.monotonic() - began_at)
    headers = refusals[0].headers
    assert refusals[0].code == "rate_limit_requests"
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-should-retry"] == "true"
    assert int(headers["retry-after"]) >= 1
    assert 0 < int(headers["retry-after-ms"]) <= 1000
    assert headers["ratelimit-policy"].startswith('"requests";q=60;w=60')


@pytest.mark.parametrize("limit", ["tokens_per_day", "tokens_per_minute"])
async def test_two_hundred_at_once_over_four_workers_never_use_more_than_the_budget(
    make_limits: MakeLimits, limit: str
) -> None:
    """Requests that come again until they are served or the budget is used up."""
    budget, random_ = 20_000, random.Random(3)
    limited = plan(**{limit: budget})
    workers = [make_limits() for _ in range(4)]
    began_at = time.monotonic()
    used: list[int] = []
    served_after_refusal = 0

    async def request(limits: Limits) -> None:
        nonlocal served_after_refusal
        refused = False
        while sum(used) < budget * 0.9:
            cap = random_.choice([None, 50, 400])
            try:
                held = await limits.reserve(ALICE, limited, ask(random_.randint(1, 300), cap))
            except (TokensLimited, BudgetExhausted):
                refused = True
                await asyncio.sleep(random_.uniform(0, 0.05))
                continue
            await asyncio.sleep(random_.uniform(0, 0.2))
            served_after_refusal += refused
            if random_.random() < 0.1:
                limits.give_back(held)
                continue
            assert held.output_cap
            output = random_.randint(0, held.output_cap * held.choices)
            limits.settle(held, Usage(held.prompt_tokens, output, exact=True))
            used.append(held.prompt_tokens + output)

    await asyncio.gather(*(request(workers[i % 4]) for i in range(200)))
    refilled = 0 if limit == "tokens_per_day" else budget * (time.monotonic() - began_at) / 60
    assert budget * 0.9 <= sum(used) <= budget + refilled
    assert served_after_refusal, "what was refunded must be of use"
