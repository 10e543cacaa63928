"""The generic cell rate algorithm (ITU-T I.371) as a bucket that leaks. Pure.

The same arithmetic as lua/reserve.lua, which holds over all workers; this one guards each worker's
local share while the flow Redis is gone. What was used leaks out at the limit's rate, and whatever
fits on top may be used at once, so an idle account may use its whole minute. A bucket is kept in
units of which one request or token has 60,000,000 and which leak by the limit each microsecond:
whole numbers, so nothing drifts.
"""

from dataclasses import dataclass

WINDOW_S = 60
# Units of one request or token: the microseconds of the window.
UNITS = WINDOW_S * 1_000_000


@dataclass(slots=True)
class Bucket:
    """What one account has used of one limit a minute, by `at_us`."""

    level: int = 0
    at_us: int = 0

    def leak(self, limit: int, now_us: int) -> None:
        """Brings the bucket to this moment. A clock that was set back leaks nothing."""
        self.level = max(0, self.level - max(0, now_us - self.at_us) * limit)
        self.at_us = now_us

    def left(self, limit: int) -> int:
        """Whole requests or tokens that fit; below zero where more was used than reserved."""
        return (limit * UNITS - self.level) // UNITS

    def wait_ms(self, limit: int, amount: int) -> int:
        """Until the amount fits; 0 when it does now."""
        return max(0, _ceil_div(self.level + (amount - limit) * UNITS, limit * 1000))

    def empty_in_us(self, limit: int) -> int:
        """Until everything has leaked out."""
        return _ceil_div(self.level, limit)

    def add(self, amount: int) -> None:
        self.level = max(0, self.level + amount * UNITS)

    def give_back(self, amount: int, limit: int, leaked_at_us: int) -> None:
        """Takes out what was added and not used, as far as it has not leaked out yet."""
        not_leaked = max(0, leaked_at_us - self.at_us) * limit
        self.level = max(0, self.level - min(amount * UNITS, not_leaked))


def _ceil_div(amount: int, by: int) -> int:
    return -(-amount // by)
