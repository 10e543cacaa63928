"""The generic cell rate algorithm (ITU-T I.371), in the process. Pure.

The same arithmetic as lua/take_request.lua, which holds over all workers; this one guards each
worker's local share while the flow Redis is gone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

# One full minute may be used at once by an account that was idle.
WINDOW_S = 60.0
# Accounts remembered; beyond it those whose minute is unused are forgotten first.
_ACCOUNTS_MAX = 50_000


@dataclass(frozen=True, slots=True)
class RateState:
    """What an account's rate looks like after one request."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float


class Gcra:
    """Rates by account, in requests a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._arrivals: dict[str, float] = {}

    def take(self, account_id: str, limit: int) -> RateState:
        now = self._clock()
        interval_s = WINDOW_S / limit
        arrival = max(self._arrivals.get(account_id, now), now)
        ahead_s = arrival + interval_s - now
        if ahead_s > WINDOW_S + 1e-6:
            return RateState(False, limit, 0, arrival - now, ahead_s - WINDOW_S)
        if len(self._arrivals) >= _ACCOUNTS_MAX:
            self._forget_idle(now)
        self._arrivals[account_id] = arrival + interval_s
        remaining = math.floor((WINDOW_S - ahead_s) / interval_s + 1e-9)
        return RateState(True, limit, remaining, ahead_s, 0.0)

    def _forget_idle(self, now: float) -> None:
        self._arrivals = {a: t for a, t in self._arrivals.items() if t > now}
        if len(self._arrivals) >= _ACCOUNTS_MAX:
            self._arrivals.clear()  # memory stays bounded; the error favours the callers
