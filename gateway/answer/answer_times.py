"""How fast one streamed answer reaches its caller: TTFT and ITL as metrics."""

import time

from gateway.telemetry.metrics import ITL, TTFT, labelled


class AnswerTimes:
    """One stream's clock. A piece is what the engine sent at once: mostly one event, one token."""

    __slots__ = ("_itl", "_last_at", "_series")

    def __init__(self, began_at: float, *, endpoint: str, model: str, plan: str) -> None:
        """`began_at` is when the request's headers had come (time.perf_counter)."""
        self._itl = labelled(ITL, model, plan)
        self._series = labelled(TTFT, endpoint, model, plan)
        self._last_at = began_at

    def piece(self) -> None:
        """A piece goes out now: the first ends the TTFT, each other one an ITL."""
        now = time.perf_counter()
        self._series.observe(now - self._last_at)
        self._series, self._last_at = self._itl, now
