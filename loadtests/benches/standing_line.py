"""What an engine runs while a line stands in front of it, from what its replica publishes."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis

from loadtests.errors import MeasurementError

_PERIOD_S = 0.5


@dataclass(frozen=True)
class StandingLine:
    """Looks at which somebody waited: running requests in each, and what was preempted."""

    running: list[int] = field(default_factory=list)
    preemptions: int = 0


def published_slots(home: Path) -> int:
    """Slots of the one replica of a Floodgate with this home, by its record.

    Raises:
        MeasurementError: there is not one replica.
    """
    with _flow_redis(home) as redis:
        records = [_read_record(redis, name) for name in redis.scan_iter("fg:replica:*")]
    if len(records) != 1:
        raise MeasurementError(f"one replica was to be measured, not {len(records)}")
    return int(records[0]["slots"])


def _flow_redis(home: Path) -> Redis:
    state = json.loads((home / "run" / "state.json").read_text())
    return Redis.from_url(state["flow_url"], decode_responses=True)


def _read_record(redis: Redis, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(redis.get(name) or "{}")
    return found


class LineSampler:
    """Looks at a Floodgate's flow Redis twice a second while it is entered."""

    def __init__(self, home: Path) -> None:
        self._redis = _flow_redis(home)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="line-sampler", daemon=True)
        self._looks: list[tuple[int, int, int]] = []  # waiting, running, preemptions

    def found(self) -> StandingLine:
        """The looks of which both neighbours saw a line too: records are a second old.

        Raises:
            MeasurementError: there was no line.
        """
        standing = [
            here[1]
            for before, here, after in zip(
                self._looks, self._looks[1:], self._looks[2:], strict=False
            )
            if before[0] and here[0] and after[0]
        ]
        if not standing:
            raise MeasurementError("no line stood in front of the engine")
        return StandingLine(standing, self._looks[-1][2] - self._looks[0][2])

    def _look_on(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            demands = [
                _read_record(self._redis, name) for name in self._redis.scan_iter("fg:demand:*")
            ]
            engines = [
                _read_record(self._redis, name).get("engine", {})
                for name in self._redis.scan_iter("fg:replica:*")
            ]
            self._looks.append(
                (
                    sum(demand.get("waiting", 0) for demand in demands),
                    sum(engine.get("running", 0) for engine in engines),
                    sum(engine.get("preemptions", 0) for engine in engines),
                )
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._redis.close()
