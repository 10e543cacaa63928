"""Where the seconds of a replica's start go."""

from __future__ import annotations

from collections.abc import Callable


class StartSteps:
    """Steps in their order, each with its seconds, by a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._done_at = clock()
        self.seconds: dict[str, float] = {}

    def done(self, step: str) -> None:
        """The step has taken from the one before until now."""
        now = self._clock()
        self.seconds[step] = round(now - self._done_at, 1)
        self._done_at = now
