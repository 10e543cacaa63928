"""Connections to the flow Redis whose calls fail in time, and the scripts that run there."""

from __future__ import annotations

from importlib import resources

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# Below the second in which a record is written again, so that a Redis that stands still costs one
# record and not two.
REDIS_TIMEOUT_S = 0.8


def connect(flow_url: str) -> Redis:
    """A connection whose calls fail within REDIS_TIMEOUT_S."""
    # One try per call: the next second is the retry.
    return Redis.from_url(
        flow_url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def script(name: str) -> str:
    """The text of a named script of lua/."""
    return resources.files("serving.flow").joinpath("lua", name).read_text(encoding="utf-8")
