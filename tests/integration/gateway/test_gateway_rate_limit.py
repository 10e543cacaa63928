"""The request rate over several workers on one real Redis, and without it."""

import asyncio
import math
import time
from collections.abc import Callable

import pytest
import redis.asyncio as redis

from gateway import redis_keys
from gateway.auth import Caller
from gateway.errors import AuthenticationFailed, RateLimited
from gateway.gcra import RateState
from gateway.rate_limit import RateLimiter, rate_headers
from gateway.redis_client import FlowRedis
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

ALICE = Caller("key_1", "acct_alice", "free")


def limiter(flow: FlowRedis, per_minute: int, workers: int = 1) -> RateLimiter:
    return RateLimiter(
        flow,
        requests_per_minute=per_minute,
        live_workers=lambda: workers,
        clock=time.monotonic,
    )


async def tally(limiters: list[RateLimiter], requests: int) -> tuple[int, list[RateLimited]]:
    results: list[RateState | BaseException] = await asyncio.gather(
        *(limiters[i % len(limiters)].take(ALICE) for i in range(requests)),
        return_exceptions=True,
    )
    refusals = [result for result in results if isinstance(result, RateLimited)]
    return requests - len(refusals), refusals


async def test_two_hundred_at_once_over_four_workers_pass_exactly_the_limit(
    connect: Callable[[], FlowRedis],
) -> None:
    limiters = [limiter(connect(), 60) for _ in range(4)]
    began_at = time.monotonic()
    passed, refusals = await tally(limiters, 200)
    # One more fits for each second that the race itself takes.
    assert 60 <= passed <= 60 + math.ceil(time.monotonic() - began_at)
    headers = refusals[0].headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-should-retry"] == "true"
    assert int(headers["retry-after"]) >= 1
    assert 0 < int(headers["retry-after-ms"]) <= 1000


async def test_remaining_counts_down_and_reset_counts_up(flow: FlowRedis) -> None:
    rate = limiter(flow, 600)
    first = rate_headers(await rate.take(ALICE))
    assert first["x-ratelimit-limit-requests"] == "600"
    assert first["x-ratelimit-remaining-requests"] == "599"
    assert first["x-ratelimit-reset-requests"] == "100ms"


async def test_accounts_do_not_share(flow: FlowRedis) -> None:
    rate = limiter(flow, 1)
    await rate.take(ALICE)
    with pytest.raises(RateLimited):
        await rate.take(ALICE)
    await rate.take(Caller("key_2", "acct_bob", "free"))


async def test_a_revoked_key_fails_in_the_same_call(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    rate = limiter(flow, 600)
    await rate.take(ALICE)
    async with redis.Redis.from_url(flow_server.url) as client:
        await client.sadd(redis_keys.revoked_keys(ALICE.account_id), ALICE.key_id)
    with pytest.raises(AuthenticationFailed) as refusal:
        await rate.take(ALICE)
    assert refusal.value.code == "revoked_api_key"
    await rate.take(Caller("key_2", ALICE.account_id, "free"))


async def test_without_redis_each_worker_guards_its_share(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    rate = limiter(flow, 60, workers=4)
    await rate.take(ALICE)
    flow_server.kill()
    began_at = time.monotonic()
    passed, refusals = await tally([rate], 100)
    assert 15 <= passed <= 15 + math.ceil((time.monotonic() - began_at) / 4)
    assert refusals[0].headers["x-ratelimit-limit-requests"] == "15"
    flow_server.start()
    while not flow.available:
        await asyncio.gather(rate.take(ALICE), return_exceptions=True)
        await asyncio.sleep(0.02)
    assert (await rate.take(ALICE)).limit == 60
