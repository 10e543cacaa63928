"""What an account has left, as response headers. Pure.

`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` as OpenAI sends them (tokens: the minute),
and the fields RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-11, which
also tell the day's tokens.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from gateway.limits.gcra import WINDOW_S

_DAY_S = 86_400


class Quota(NamedTuple):
    """One limit, what is left of it, and in how many ms all of it will be."""

    limit: int
    remaining: int
    reset_ms: int


def rate_headers(requests: Quota, tokens: Quota, day: Quota | None) -> dict[str, str]:
    """The headers of an answer or a refusal."""
    state = (
        f'"requests";r={requests.remaining};t={_seconds(requests.reset_ms)}, '
        f'"tokens";r={tokens.remaining};t={_seconds(tokens.reset_ms)}'
    )
    if day is not None:
        state += f', "tokens-day";r={day.remaining};t={_seconds(day.reset_ms)}'
    return {
        "x-ratelimit-limit-requests": str(requests.limit),
        "x-ratelimit-limit-tokens": str(tokens.limit),
        "x-ratelimit-remaining-requests": str(requests.remaining),
        "x-ratelimit-remaining-tokens": str(tokens.remaining),
        "x-ratelimit-reset-requests": duration(requests.reset_ms),
        "x-ratelimit-reset-tokens": duration(tokens.reset_ms),
        "ratelimit-policy": _policy(requests.limit, tokens.limit, day and day.limit),
        "ratelimit": state,
    }


def wire_headers(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """The same as they are sent. Names are shared: a waiting request holds its own values."""
    return tuple((_wire_name(name), value.encode()) for name, value in headers.items())


@lru_cache(maxsize=64)
def _wire_name(name: str) -> bytes:
    return name.encode()


def duration(ms: int) -> str:
    """A duration as OpenAI writes it (Go's format): 12ms, 1.5s, 2m3s."""
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    rest = f"{rest_ms / 1000:g}s"
    return f"{minutes}m{rest}" if minutes else rest


@lru_cache(maxsize=256)  # one for each plan
def _policy(requests: int, tokens: int, tokens_a_day: int | None) -> str:
    policy = f'"requests";q={requests};w={WINDOW_S}, "tokens";q={tokens};w={WINDOW_S}'
    if tokens_a_day is not None:
        policy += f', "tokens-day";q={tokens_a_day};w={_DAY_S}'
    return policy


def _seconds(ms: int) -> int:
    return math.ceil(ms / 1000)
