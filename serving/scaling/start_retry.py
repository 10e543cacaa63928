"""When Ray is to try again to start replicas that it has given up. Pure.

A replica that fails to start before any has run since the deployment (or since the controller was
restarted) makes Ray give the deployment up for good: it starts none however many are wanted. It
forgets that once none is wanted. So the target goes to 0 for a moment, after a while that grows:
each try may take a minute of the machine.
"""

from __future__ import annotations

# The first also leaves whoever deploys, and asks Ray four times a second, the time to see why.
_FIRST_AFTER_S = 10.0
_AFTER_S_MAX = 300.0


class StartRetry:
    """Asked in each of Ray's rounds."""

    def __init__(self) -> None:
        self._failures = 0
        self._retry_at: float | None = None

    def target(
        self, wanted: int, *, target: int, running: int, has_failed: bool, now: float
    ) -> int:
        """What to tell Ray where `wanted` replicas are wanted and `target` is what it was told.

        `has_failed`: it has given up. `now` in seconds of a monotonic clock.
        """
        if running:
            self._failures = 0
        if not has_failed:
            self._retry_at = None
            return wanted
        if not target:
            return 0  # until it has forgotten
        if self._retry_at is None:
            self._retry_at = now + min(_AFTER_S_MAX, _FIRST_AFTER_S * 2**self._failures)
            self._failures += 1
        return 0 if now >= self._retry_at else target
