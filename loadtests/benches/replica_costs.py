"""What a request costs a gateway worker and the flow Redis, apart from what time costs them.

Both work once a second for each replica whether anybody asks or not: records are written and
read. That is taken at rest and left out of what a request costs.
"""

import time
from dataclasses import dataclass
from typing import Self

from redis import Redis

from loadtests.errors import MeasurementError
from loadtests.stack.whole_stack import Stack


@dataclass(frozen=True)
class Use:
    """What was used between two readings, or since the start: seconds, and counts.

    `round_trips` are reads from sockets by the flow Redis: calls that are sent together are one.
    `scripts_us` is how long scripts held it.
    """

    seconds: float
    gateway_cpu_s: float
    flow_cpu_s: float
    round_trips: float
    scripts: float
    scripts_us: float
    requests: float

    def since(self, before: Self) -> "Use":
        """What came after another reading."""
        return Use(
            self.seconds - before.seconds,
            self.gateway_cpu_s - before.gateway_cpu_s,
            self.flow_cpu_s - before.flow_cpu_s,
            self.round_trips - before.round_trips,
            self.scripts - before.scripts,
            self.scripts_us - before.scripts_us,
            self.requests - before.requests,
        )


@dataclass(frozen=True)
class RestCost:
    """What a second takes of each while nobody asks."""

    gateway_ms_per_s: float
    flow_ms_per_s: float
    round_trips_per_s: float
    scripts_per_s: float
    scripts_us_per_s: float


@dataclass(frozen=True)
class RequestCost:
    """What one request takes, without what the same time takes at rest."""

    requests_per_s: float
    gateway_us: float
    flow_us: float
    round_trips: float
    scripts: float
    scripts_us: float


def rest_cost(use: Use) -> RestCost:
    """By the second. Raises MeasurementError when somebody asked meanwhile."""
    if use.requests:
        raise MeasurementError(f"{use.requests:.0f} requests were answered at rest")
    return RestCost(
        gateway_ms_per_s=1e3 * use.gateway_cpu_s / use.seconds,
        flow_ms_per_s=1e3 * use.flow_cpu_s / use.seconds,
        round_trips_per_s=use.round_trips / use.seconds,
        scripts_per_s=use.scripts / use.seconds,
        scripts_us_per_s=use.scripts_us / use.seconds,
    )


def request_cost(use: Use, rest: RestCost) -> RequestCost:
    """By the request. Raises MeasurementError when none was answered."""
    if use.requests <= 0:
        raise MeasurementError("no request was answered")

    def each(used: float, at_rest_per_s: float) -> float:
        return (used - at_rest_per_s * use.seconds) / use.requests

    return RequestCost(
        requests_per_s=use.requests / use.seconds,
        gateway_us=each(1e6 * use.gateway_cpu_s, 1e3 * rest.gateway_ms_per_s),
        flow_us=each(1e6 * use.flow_cpu_s, 1e3 * rest.flow_ms_per_s),
        round_trips=each(use.round_trips, rest.round_trips_per_s),
        scripts=each(use.scripts, rest.scripts_per_s),
        scripts_us=each(use.scripts_us, rest.scripts_us_per_s),
    )


class CostGauge:
    """Reads a stack: its gateway, its flow Redis, and what its engines have answered."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._redis = Redis.from_url(stack.redis.flow_url, decode_responses=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()

    def read(self) -> Use:
        """Everything since the start. Raises redis.RedisError when the flow Redis is gone."""
        requests = self._stack.simulator.total("finished")
        gateway = self._stack.gateway.usage()
        # One INFO of each kind: the server's own clock of its time is finer than /proc's 10 ms.
        flow = self._redis.info("everything")
        scripts = flow.get("cmdstat_evalsha", {})
        return Use(
            seconds=time.monotonic(),
            gateway_cpu_s=gateway.cpu_s,
            flow_cpu_s=flow["used_cpu_user"] + flow["used_cpu_sys"],
            round_trips=flow["total_reads_processed"],
            scripts=scripts.get("calls", 0),
            scripts_us=scripts.get("usec", 0),
            requests=requests,
        )
