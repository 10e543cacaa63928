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


class LineSampler:
    """Looks at a Floodgate's flow Redis twice a second while it is entered."""

    def __init__(self, home: Path) -> None:
        state = json.loads((home / "run" / "state.json").read_text())
        self._redis = Redis.from_url(state["flow_url"], decode_responses=True)
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
            demands = [self._read(name) for name in self._redis.scan_iter("fg:demand:*")]
            engines = [
                self._read(name).get("engine", {}) for name in self._redis.scan_iter("fg:replica:*")
            ]
            self._looks.append(
                (
                    sum(demand.get("waiting", 0) for demand in demands),
                    sum(engine.get("running", 0) for engine in engines),
                    sum(engine.get("preemptions", 0) for engine in engines),
                )
            )

    def _read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._redis.get(name) or "{}")
        return found

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
