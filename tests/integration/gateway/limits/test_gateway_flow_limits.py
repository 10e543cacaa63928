"""Limits of an account over several workers on one real Redis."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
import redis.asyncio as redis

from gateway.answer.usage import Usage
from gateway.auth import Caller
from gateway.errors import AuthenticationFailed, BudgetExhausted, RateLimited, TokensLimited
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.limits.flow_limits import Limits
from gateway.limits.plans import Plan
from gateway.limits.reservation import Reservation, TokenAsk
from gateway.limits.usage_sums import UsageLedgerUnavailable, UsageRow
from tests.gateway_callers import day_tokens, until_day_tokens
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


async def test_the_headers_count_down(make_limits: MakeLimits) -> None:
    limited = plan(requests_per_minute=600, tokens_per_minute=60_000, tokens_per_day=90_000)
    held = await make_limits().reserve(ALICE, limited, ask(prompt=100, cap=500, choices=2))
    assert (held.tokens, held.output_cap) == (1_100, 500)
    headers = {name.decode(): value.decode() for name, value in held.headers}
    assert headers["x-ratelimit-remaining-requests"] == "599"
    assert headers["x-ratelimit-reset-requests"] == "100ms"
    assert headers["x-ratelimit-remaining-tokens"] == "58900"
    assert headers["x-ratelimit-reset-tokens"] == "1.1s"
    assert '"tokens-day";r=88900;' in headers["ratelimit"]


async def test_accounts_do_not_share(make_limits: MakeLimits) -> None:
    limits, once = make_limits(), plan(requests_per_minute=1)
    await limits.reserve(ALICE, once, ask())
    with pytest.raises(RateLimited):
        await limits.reserve(ALICE, once, ask())
    await limits.reserve(Caller("key_2", "acct_bob", "free"), once, ask())


async def test_a_revoked_key_fails_in_the_same_call_and_costs_nothing(
    make_limits: MakeLimits, flow_server: RedisServer
) -> None:
    limits, limited = make_limits(), plan(tokens_per_day=100)
    await limits.reserve(ALICE, limited, ask())
    async with redis.Redis.from_url(flow_server.url) as client:
        await client.sadd(redis_keys.revoked_keys(ALICE.account_id), ALICE.key_id)
    with pytest.raises(AuthenticationFailed) as refusal:
        await limits.reserve(ALICE, limited, ask())
    assert refusal.value.code == "revoked_api_key"
    assert await day_tokens(flow_server, ALICE.account_id) == 20
    await limits.reserve(Caller("key_2", ALICE.account_id, "free"), limited, ask())


@pytest.mark.parametrize(
    ("limits", "prompt", "error", "retry"),
    [
        ({"tokens_per_minute": 100}, 90, TokensLimited, "true"),
        ({"tokens_per_minute": 100}, 101, TokensLimited, "false"),
        ({"tokens_per_day": 100}, 101, BudgetExhausted, "false"),
    ],
)
async def test_a_refusal_says_whether_waiting_helps_and_costs_nothing(
    make_limits: MakeLimits,
    flow_server: RedisServer,
    limits: dict[str, int],
    prompt: int,
    error: type[RateLimited],
    retry: str,
) -> None:
    worker, limited = make_limits(), plan(requests_per_minute=10, **limits)
    await worker.reserve(ALICE, limited, ask(prompt=40, cap=10))
    before = await day_tokens(flow_server, ALICE.account_id)
    for _ in range(50):
        with pytest.raises(error) as refusal:
            await worker.reserve(ALICE, limited, ask(prompt=prompt, cap=1))
    headers = refusal.value.headers
    assert type(refusal.value) is error
    assert headers["x-should-retry"] == retry
    assert 1 <= int(headers["retry-after"]) <= 120
    assert 1 <= int(headers["retry-after-ms"]) <= 120_000
    assert int(headers["x-ratelimit-remaining-requests"]) >= 9
    assert await day_tokens(flow_server, ALICE.account_id) == before
    await worker.reserve(ALICE, limited, ask(prompt=30, cap=10))


async def test_a_day_that_is_used_up_is_worth_no_retry_unless_it_ends_soon(
    make_limits: MakeLimits,
) -> None:
    limits, limited = make_limits(), plan(tokens_per_day=100)
    await limits.reserve(ALICE, limited, ask(prompt=80, cap=10))
    with pytest.raises(BudgetExhausted) as refusal:
        await limits.reserve(ALICE, limited, ask(prompt=20, cap=10))
    assert "10 of 100 are left today" in refusal.value.message
    left_s = 86_400 - time.time() % 86_400
    if left_s > 125:
        assert refusal.value.headers["x-should-retry"] == "false"
        assert refusal.value.headers["retry-after"] == "120"


async def test_what_is_left_cuts_an_answer_for_which_no_cap_was_named(
    make_limits: MakeLimits,
) -> None:
    limits = make_limits()
    limited = plan(tokens_per_minute=1_000, tokens_per_day=1_000)
    first = await limits.reserve(ALICE, limited, ask(prompt=100, cap=None, choices=3))
    assert (first.output_cap, first.tokens) == (300, 1_000)
    limits.give_back(first)


async def test_a_surcharge_counts_and_a_refund_comes_back(
    make_limits: MakeLimits, flow_server: RedisServer
) -> None:
    limits, limited = make_limits(), plan(tokens_per_day=1_000, tokens_per_minute=1_000)
    held = await limits.reserve(ALICE, limited, ask(prompt=100, cap=800))
    limits.settle(held, Usage(50, 50, exact=True))
    await until_day_tokens(flow_server, ALICE.account_id, 100)
    held = await limits.reserve(ALICE, limited, ask(prompt=100, cap=700))
    # So many that the minute's bucket, which leaks meanwhile, stays full for long.
    limits.settle(held, Usage(3_000, 7_000, exact=True))
    await until_day_tokens(flow_server, ALICE.account_id, 10_100)
    with pytest.raises(BudgetExhausted) as refusal:
        await limits.reserve(ALICE, limited, ask(prompt=1, cap=1))
    assert refusal.value.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_what_is_given_back_leaves_nothing_behind(
    make_limits: MakeLimits, flow_server: RedisServer
) -> None:
    limits, once = make_limits(), plan(requests_per_minute=1, tokens_per_day=20)
    for _ in range(5):
        limits.give_back(await limits.reserve(ALICE, once, ask()))
        await until_day_tokens(flow_server, ALICE.account_id, 0)


async def test_a_request_that_has_leaked_out_is_not_given_back_once_more(
    make_limits: MakeLimits, flow_server: RedisServer
) -> None:
    """Else those that were refused after a long wait would let more than the limit pass."""
    per_minute = 6_000
    limited = plan(requests_per_minute=per_minute, tokens_per_day=1_000_000)
    limits, key = make_limits(), redis_keys.account_limits(ALICE.account_id)
    async with redis.from_url(flow_server.url, decode_responses=True) as client:
        long_ago = [await limits.reserve(ALICE, limited, ask()) for _ in range(5)]
        while time.time() * 1e6 < max(each.request_leaked_at_us for each in long_ago):
            await asyncio.sleep(0.01)
        for _ in range(200):  # they leak out in two seconds
            await limits.reserve(ALICE, limited, ask())
        before_at, before = [int(n or 0) for n in await client.hmget(key, "at", "requests")]
        for reservation in long_ago:
            limits.give_back(reservation)
        await until_day_tokens(flow_server, ALICE.account_id, 200 * 20)
        after_at, after = [int(n or 0) for n in await client.hmget(key, "at", "requests")]
    assert after == max(0, before - (after_at - before_at) * per_minute)


async def test_settlements_outlive_a_flow_redis_that_is_gone(
    make_limits: MakeLimits, flow: FlowRedis, flow_server: RedisServer
) -> None:
    limits, limited = make_limits(flow), plan(tokens_per_day=1_000)
    held = [await limits.reserve(ALICE, limited, ask(prompt=10, cap=90)) for _ in range(3)]
    flow_server.pause()
    for reservation in held:
        limits.settle(reservation, Usage(10, 10, exact=True))
    # The batch is in the stopped server's buffer, unanswered: it will be executed and sent again.
    while flow.available:
        await asyncio.sleep(0.02)
    flow_server.resume()
    await until_day_tokens(flow_server, ALICE.account_id, 60)
    await limits.close()
    assert await day_tokens(flow_server, ALICE.account_id) == 60


async def test_what_redis_executes_when_nobody_waits_any_more_charges_nothing(
    make_limits: MakeLimits, flow: FlowRedis, flow_server: RedisServer
) -> None:
    """It stood still, and the request went on from the worker's own share."""
    limits, limited = make_limits(flow), plan(tokens_per_day=1_000)
    limits.settle(await limits.reserve(ALICE, limited, ask()), Usage(10, 10, exact=True))
    await until_day_tokens(flow_server, ALICE.account_id, 20)
    flow_server.pause()
    held = await asyncio.gather(*(limits.reserve(ALICE, limited, ask()) for _ in range(10)))
    assert all(reservation.local_share for reservation in held)
    flow_server.resume()
    for reservation in held:
        limits.settle(reservation, Usage(1, 1, exact=True))
    await until_day_tokens(flow_server, ALICE.account_id, 20 + 10 * 2)
    while not flow.available:
        await asyncio.sleep(0.02)
    last = await limits.reserve(ALICE, limited, ask())
    assert last.local_share is None
    assert await day_tokens(flow_server, ALICE.account_id) == 20 + 10 * 2 + 20


async def test_a_redis_whose_clock_was_set_forward_still_decides(
    flow: FlowRedis, connect: Callable[[], FlowRedis]
) -> None:
    """What this worker knows of that clock is an hour old."""
    ahead_s = 3600.0
    limits = Limits(
        flow,
        NoUsage(),
        live_workers=lambda: 1,
        clock=time.monotonic,
        wall_clock=lambda: time.time() + ahead_s,
    )
    assert (await limits.reserve(ALICE, plan(), ask())).local_share is None
    ahead_s = 0.0
    assert (await limits.reserve(ALICE, plan(), ask())).local_share is None
    await limits.close()


async def test_one_busy_accounts_settlements_do_not_pile_up(
    make_limits: MakeLimits, flow_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch holds 64. Whole batches go out one after the other, without gathering in between."""
    limits, limited = make_limits(), plan(tokens_per_minute=10_000_000, tokens_per_day=10_000_000)
    asks = (limits.reserve(ALICE, limited, ask(prompt=10, cap=90)) for _ in range(600))
    held = await asyncio.gather(*asks)
    monkeypatch.setattr("gateway.limits.settlements._GATHER_S", 3600.0)
    for reservation in held:
        limits.settle(reservation, Usage(10, 10, exact=True))
    left = 600 % 64  # too few for a batch: these gather
    await until_day_tokens(flow_server, ALICE.account_id, (600 - left) * 20 + left * 100)


async def test_a_batch_that_is_sent_again_counts_once(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    keys = (redis_keys.account_limits("a"), redis_keys.settled_batch("a", "w"))
    reserve = ("k", "60 1000 1000 100 1 100 100 0", f"{int(time.time() // 86_400)} 0 1")
    answer = await flow.run("reserve", (keys[0], redis_keys.revoked_keys("a")), reserve)
    since, leaked_at = answer[9], answer[10]
    correction = f"{answer[8]} {since} 200 50 {leaked_at} {since} 0 {answer[12]}"
    for number, counted in ((1, 1), (1, 0), (2, 1), (1, 0), (2, 0)):
        args = (number, 1_000_000, 60, 1_000, correction)
        assert await flow.run("settle", keys, args) == counted
    async with redis.Redis.from_url(flow_server.url) as client:
        assert await client.hget(keys[0], "day_tokens") == b"0"  # 200 - 150 - 50, not below zero


async def test_without_redis_each_worker_guards_its_share(
    make_limits: MakeLimits, flow: FlowRedis, flow_server: RedisServer
) -> None:
    limits = make_limits(flow, workers=4)
    limited = plan(requests_per_minute=60, tokens_per_minute=4_000, tokens_per_day=40_000)
    await limits.reserve(ALICE, limited, ask())
    flow_server.kill()
    began_at = time.monotonic()
    refusals = await tally([limits], limited, 100)
    assert 15 <= 100 - len(refusals) <= 15 + math.ceil((time.monotonic() - began_at) / 4)
    assert refusals[0].headers["x-ratelimit-limit-requests"] == "15"
    assert refusals[0].headers["x-ratelimit-limit-tokens"] == "1000"
    with pytest.raises(TokensLimited):
        await limits.reserve(Caller("key_2", "acct_bob", "free"), limited, ask(1_001, 1))
    flow_server.start()
    while not flow.available:
        await asyncio.gather(limits.reserve(ALICE, limited, ask()), return_exceptions=True)
        await asyncio.sleep(0.02)
    held = await limits.reserve(ALICE, limited, ask())
    assert dict(held.headers)[b"x-ratelimit-limit-requests"] == b"60"


async def test_use_while_flow_was_gone_counts_today_once_it_is_back(
    make_limits: MakeLimits, flow: FlowRedis, flow_server: RedisServer
) -> None:
    limits, limited = make_limits(flow), plan(tokens_per_day=1_000)
    flow_server.kill()
    held = await limits.reserve(ALICE, limited, ask(prompt=10, cap=90))
    assert held.local_share
    flow_server.start()
    while not flow.available:
        await asyncio.gather(limits.reserve(ALICE, limited, ask(0, 0)), return_exceptions=True)
        await asyncio.sleep(0.02)
    await limits.reserve(ALICE, limited, ask(prompt=10, cap=10))
    limits.settle(held, Usage(10, 30, exact=True))
    await until_day_tokens(flow_server, ALICE.account_id, 60)
