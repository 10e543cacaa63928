"""What an engine runs while a line stands in front of it: the gateway's line, or vLLM's own."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from loadtests.clients import http_probe
from loadtests.errors import MeasurementError
from loadtests.probes.looks import Looks
from loadtests.stack.target import Target

# By default a replica offers a sixteenth more than vLLM batches: one slot of seventeen stands by.
SLOTS_FOR_ONE_ON_STANDBY = 17


@dataclass(frozen=True)
class Look:
    """Requests in line, those that the engine runs, and those that it has ever preempted."""

    waiting: int
    running: int
    preemptions: int


@dataclass(frozen=True)
class StandingLine:
    """Running requests in each look at which somebody waited, and what was preempted."""

    running: list[int]
    preemptions: int


def batched_requests(home: Path) -> int:
    """Requests that vLLM batches in the one replica of a Floodgate with this home, by its record.

    Raises:
        MeasurementError: there is not one replica.
    """
    with _flow_redis(home) as redis:
        records = _records(redis, "fg:replica:*")
    if len(records) != 1:
        raise MeasurementError(f"one replica was to be measured, not {len(records)}")
    slots = int(records[0]["slots"])
    return slots - slots // SLOTS_FOR_ONE_ON_STANDBY


@contextmanager
def looks_at_line(home: Path) -> Iterator[Looks[Look]]:
    """Looks at a Floodgate's flow Redis."""

    def look() -> Look:
        demands = _records(redis, "fg:demand:*")
        engines = [record.get("engine", {}) for record in _records(redis, "fg:replica:*")]
        return Look(
            waiting=sum(demand.get("waiting", 0) for demand in demands),
            running=sum(engine.get("running", 0) for engine in engines),
            preemptions=sum(engine.get("preemptions", 0) for engine in engines),
        )

    with _flow_redis(home) as redis, Looks(look) as looks:
        yield looks


@contextmanager
def looks_at_vllm(target: Target) -> Iterator[Looks[Look]]:
    """Looks at what vLLM's own server says of its queue."""

    def look() -> Look:
        return vllm_look(http_probe.call("GET", f"{target.url}/metrics").body.decode())

    with Looks(look) as looks:
        yield looks


def vllm_look(metrics: str) -> Look:
    """One look at vLLM's metrics, over all of its engines.

    Raises:
        MeasurementError: they are not vLLM's.
    """
    return Look(
        waiting=_total(metrics, "num_requests_waiting"),
        running=_total(metrics, "num_requests_running"),
        preemptions=_total(metrics, "num_preemptions_total"),
    )


def standing_line(taken: Sequence[Look]) -> StandingLine:
    """The looks of which both neighbours saw a line too: records are a second old.

    From the first on at which the engine ran its most: before, it reads in what came at once, four
    seconds of some 35 on two cores.

    Raises:
        MeasurementError: there was no line.
    """
    running = [
        here.running
        for before, here, after in zip(taken, taken[1:], taken[2:], strict=False)
        if before.waiting and here.waiting and after.waiting
    ]
    if not running:
        raise MeasurementError("no line stood in front of the engine")
    filled = running.index(max(running))
    return StandingLine(running[filled:], taken[-1].preemptions - taken[0].preemptions)


def _flow_redis(home: Path) -> Redis:
    state = json.loads((home / "run" / "state.json").read_text())
    return Redis.from_url(state["flow_url"], decode_responses=True)


def _records(redis: Redis, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(redis.get(name) or "{}") for name in redis.scan_iter(pattern)]


def _total(metrics: str, name: str) -> int:
    """The sum of a vLLM metric over its labels. A Prometheus line ends with the value."""
    values = re.findall(rf"^vllm:{name}\{{.*\}} (\S+)$", metrics, re.M)
    if not values:
        raise MeasurementError(f"vLLM tells no {name}")
    return round(sum(float(value) for value in values))
