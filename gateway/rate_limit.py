"""Request rate per account: exact over all workers and gateways while the flow Redis answers.

The script that takes from the rate also reads the account's revoked keys, so that a revocation
holds from the next request on without another round trip. While the flow Redis is gone each
worker guards its own share, the limit divided by the living workers, and counts it in
`floodgate_flow_fallbacks_total`.
"""

import math
from collections.abc import Callable, Mapping

from gateway import redis_keys
from gateway.auth import Caller, revoked_key
from gateway.errors import FlowUnavailable, RateLimited
from gateway.gcra import Gcra, RateState
from gateway.metrics import FLOW_FALLBACKS
from gateway.redis_client import FlowRedis

# The OpenAI SDKs honour Retry-After up to 120 s and give up beyond.
RETRY_AFTER_S_MAX = 120


class RateLimiter:
    def __init__(
        self,
        flow: FlowRedis,
        *,
        requests_per_minute: int,
        live_workers: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._flow = flow
        self._limit = requests_per_minute
        self._live_workers = live_workers
        self._local = Gcra(clock)

    async def take(self, caller: Caller) -> RateState:
        """Takes one request from the caller's account.

        Raises:
            AuthenticationFailed: the key was revoked.
            RateLimited: the account's minute is used up.
        """
        state = await self._take(caller)
        if not state.allowed:
            retry_after_s = min(max(1, math.ceil(state.retry_after_s)), RETRY_AFTER_S_MAX)
            raise RateLimited(
                f"Rate limit of {state.limit} requests per minute reached. "
                f"Try again in {retry_after_s} s.",
                headers={
                    **rate_headers(state),
                    "retry-after": str(retry_after_s),
                    "retry-after-ms": str(math.ceil(state.retry_after_s * 1000)),
                    "x-should-retry": "true",
                },
            )
        return state

    async def _take(self, caller: Caller) -> RateState:
        keys = (
            redis_keys.request_rate(caller.account_id),
            redis_keys.revoked_keys(caller.account_id),
        )
        try:
            verdict, remaining, reset_ms, retry_after_ms = await self._flow.run(
                "take_request", keys, (caller.key_id, self._limit)
            )
        except FlowUnavailable:
            FLOW_FALLBACKS.labels("rate_limit").inc()
            share = max(1, self._limit // max(1, self._live_workers()))
            return self._local.take(caller.account_id, share)
        if verdict == -1:
            raise revoked_key()
        return RateState(
            verdict == 1, self._limit, remaining, reset_ms / 1000, retry_after_ms / 1000
        )


def rate_headers(state: RateState) -> Mapping[str, str]:
    """`x-ratelimit-*` as OpenAI sends them: the reset is a duration such as 12ms or 1m0.5s."""
    return {
        "x-ratelimit-limit-requests": str(state.limit),
        "x-ratelimit-remaining-requests": str(state.remaining),
        "x-ratelimit-reset-requests": duration(state.reset_s),
    }


def duration(seconds: float) -> str:
    """A duration as OpenAI writes it (Go's format): 12ms, 1.5s, 2m3s."""
    ms = math.ceil(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    rest = f"{rest_ms / 1000:g}s"
    return f"{minutes}m{rest}" if minutes else rest
