"""How long until a place is let in, from how many were let in lately. Pure.

Releases come in bursts, so the spread of the hours matters as much as their mean: the sum of n
hours is taken as normal, and the estimate is the n at which it reaches the people ahead.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

WINDOW_H: Final = 14 * 24
# Of less history a spread cannot be told.
_HISTORY_H_MIN = 24
_RELEASING_HOURS_MIN = 2
# 90 of 100 normal values lie below mean + 1.2816 deviations.
_Z90 = 1.2815515655446004
# Beyond a year nobody knows.
_WAIT_H_MAX = 365 * 24


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds until the place is let in: as likely earlier as later, and 9 times of 10 earlier."""

    p50_s: int
    p90_s: int


def estimate_wait(ahead: int, released_by_hour: Mapping[int, int], hour: int) -> Estimate | None:
    """The wait of somebody with `ahead` people in front; None where it is not known.

    `released_by_hour` maps hours since 1970 to people released; `hour` is the current one, of
    which nothing is taken because it is not over.
    """
    past = {h: n for h, n in released_by_hour.items() if hour - WINDOW_H <= h < hour and n > 0}
    if len(past) < _RELEASING_HOURS_MIN:
        return None
    history_h = hour - min(past)
    if history_h < _HISTORY_H_MIN:
        return None
    mean = sum(past.values()) / history_h
    variance = sum(n * n for n in past.values()) / history_h - mean * mean
    people = ahead + 1
    p50_h = people / mean
    p90_h = _hours_until(people, mean, math.sqrt(max(0.0, variance)))
    if p90_h > _WAIT_H_MAX:
        return None
    return Estimate(p50_s=math.ceil(p50_h) * 3600, p90_s=math.ceil(p90_h) * 3600)


def _hours_until(people: int, mean: float, deviation: float) -> float:
    """The n for which n·mean - z·deviation·√n = people."""
    spread = _Z90 * deviation
    root = (spread + math.sqrt(spread * spread + 4 * mean * people)) / (2 * mean)
    return root * root
