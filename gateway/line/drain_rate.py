"""How fast a line drains, and how long a place in it will take. Pure.

Grants from the line are counted over the last minute, as far as there was a line all that time.
The wait for `n` grants is n / rate in the middle. The 90th percentile adds the spread that the
grants themselves showed (variance over mean of the counts between looks, at least that of a
Poisson process), for the n grants to come and for those that the rate was taken from.
"""

import itertools
import math
from collections import deque
from dataclasses import dataclass

from gateway.errors import RETRY_AFTER_S_MAX

# A minute smooths over answers of some ten seconds, and still follows a replica that comes or goes.
_WINDOW_S = 60.0
# Below these nothing is known: an estimate from two grants is a guess.
_OBSERVED_S_MIN = 3.0
_GRANTS_MIN = 5
# What a caller is told when nobody knows yet how fast the line drains.
_WAIT_UNKNOWN_S = 10.0
# 90th percentile of the standard normal distribution.
_Z90 = 1.2816


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds until a place is served."""

    p50_s: float
    p90_s: float


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    granted: int


class DrainRate:
    """Fed with one look at the line after another, by a clock in seconds."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()

    def look(self, at: float, granted: int, waiting: int) -> None:
        """`granted`: grants from the line since it exists; `waiting`: tickets in it now."""
        last = self._looks[-1] if self._looks else None
        if waiting == 0 or (last is not None and granted < last.granted):
            self._looks.clear()  # no line, or a Redis that begins anew
        if waiting == 0:
            return
        self._looks.append(_Look(at, granted))
        while at - self._looks[0].at > _WINDOW_S:
            self._looks.popleft()

    @property
    def per_second(self) -> float | None:
        """Grants a second; None while too little was seen."""
        if len(self._looks) < 2:
            return None
        first, last = self._looks[0], self._looks[-1]
        if last.at - first.at < _OBSERVED_S_MIN or last.granted - first.granted < _GRANTS_MIN:
            return None
        return (last.granted - first.granted) / (last.at - first.at)

    def estimate(self, place: int) -> Estimate | None:
        """For somebody with `place` others in front; None while the rate is unknown."""
        rate = self.per_second
        if rate is None:
            return None
        spread = self._spread(rate)
        # Where grants come in bursts, a place inside of one waits for the whole of it.
        grants = place + 1 + (spread - 1) / 2
        middle_s = grants / rate
        seen = self._looks[-1].granted - self._looks[0].granted
        variance = grants * spread * (1 + grants / seen)
        return Estimate(middle_s, middle_s + _Z90 * math.sqrt(variance) / rate)

    def wait_s(self, place: int) -> float:
        """The same as one number, for whoever must be told one in any case."""
        estimate = self.estimate(place)
        return _WAIT_UNKNOWN_S if estimate is None else estimate.p50_s

    def retry_after_s(self, place: int) -> int:
        """The same within what SDKs honour."""
        return max(1, math.ceil(min(RETRY_AFTER_S_MAX, self.wait_s(place))))

    def _spread(self, rate: float) -> float:
        """Variance over mean of the grants between looks."""
        looks = list(self._looks)
        steps = list(itertools.pairwise(looks))
        squares = sum(
            (b.granted - a.granted - rate * (b.at - a.at)) ** 2 / (rate * (b.at - a.at))
            for a, b in steps
            if b.at > a.at
        )
        return max(1.0, squares / len(steps))
