"""Demand of the people who are in, at the busiest hours ahead: read off the hours behind. Pure.

How the hours of a day compare is taken from the last whole day, per person who was in. The last
three hours, held against the same three of the day before, tell how much demand there is now in
that measure; so a fading that began this morning shows this morning. Days fade further as the
last days did: by the smaller of the last two fadings, since one quiet day is no trend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

HOURS_A_DAY: Final = 24
# Two days to compare with, and the running one.
HOURS_KEPT: Final = 3 * HOURS_A_DAY
# One hour alone is noisy where few people make the load; six would lag behind a change.
_LEVEL_HOURS: Final = 3
# Serving that was down for a night's maintenance begins anew, one that was restarted does not.
_GAP_HOURS_MAX: Final = 2
# Those who are let in over one night and never come back: a day cannot lose more than this.
_FADING_MIN: Final = 0.7


@dataclass(frozen=True, slots=True)
class HourOfUse:
    """One hour as it was measured: mean slots asked for, and people in (first request made)."""

    hour: int
    demand_slots: float
    people_in: int


@dataclass(frozen=True, slots=True)
class BusyHour:
    """A busiest hour ahead, and what the people who are in now will ask in it."""

    ahead_h: int
    demand_slots: float


@dataclass(frozen=True, slots=True)
class DemandForecast:
    """`peak_ratio`: the busiest hour over the mean hour. `day_fading`: one day over the last."""

    busy_hours: tuple[BusyHour, ...]
    peak_ratio: float
    day_fading: float


def forecast(
    hours: Sequence[HourOfUse], peak_ratio_prior: float, busy_hours: int
) -> DemandForecast:
    """The next busiest hours, from the hours behind in order, the running one the last.

    Until a day has been seen the busiest hour may lie ahead: it is expected within the next hour,
    `peak_ratio_prior` times as busy as the busiest so far.
    """
    used = [hour for hour in unbroken(hours) if hour.people_in]
    if len(used) <= HOURS_A_DAY:
        busiest = max((hour.demand_slots for hour in used), default=0.0) * peak_ratio_prior
        ahead = range(1, busy_hours * HOURS_A_DAY, HOURS_A_DAY)
        return DemandForecast(
            tuple(BusyHour(hour, busiest) for hour in ahead), peak_ratio_prior, 1.0
        )
    per_person = [hour.demand_slots / hour.people_in for hour in used]
    day = per_person[-HOURS_A_DAY - 1 : -1]
    busiest_at = max(range(HOURS_A_DAY), key=day.__getitem__)
    now_slots = sum(hour.demand_slots for hour in used[-_LEVEL_HOURS:])
    before = per_person[-HOURS_A_DAY - _LEVEL_HOURS : -HOURS_A_DAY]
    now_slots *= len(before) / _LEVEL_HOURS
    people_like_then = now_slots / sum(before) if sum(before) > 0 else used[-1].people_in
    busiest = people_like_then * day[busiest_at]
    fading = _day_fading(per_person)
    # day[0] is the running hour of yesterday, so its hour of today is 0 hours ahead.
    ahead = range(busiest_at, busiest_at + busy_hours * HOURS_A_DAY, HOURS_A_DAY)
    return DemandForecast(
        tuple(BusyHour(hour, busiest * fading ** (hour / HOURS_A_DAY)) for hour in ahead),
        max(1.0, day[busiest_at] / fmean(day)) if fmean(day) > 0 else peak_ratio_prior,
        fading,
    )


def unbroken(hours: Sequence[HourOfUse]) -> list[HourOfUse]:
    """The hours up to the last one without a gap.

    A short gap is bridged with the hour before it. Before a longer one the hours count no more:
    which of them was the busiest hour of its day is not known.
    """
    kept: list[HourOfUse] = []
    for hour in hours:
        missing = hour.hour - kept[-1].hour - 1 if kept else 0
        if missing > _GAP_HOURS_MAX:
            kept = []
        for _ in range(missing if kept else 0):
            kept.append(HourOfUse(kept[-1].hour + 1, kept[-1].demand_slots, kept[-1].people_in))
        kept.append(hour)
    return kept


def _day_fading(per_person: Sequence[float]) -> float:
    if len(per_person) < HOURS_KEPT:
        return 1.0
    days = [
        fmean(per_person[-HOURS_A_DAY * (back + 1) : len(per_person) - HOURS_A_DAY * back])
        for back in range(3)
    ]
    if min(days) <= 0:
        return 1.0
    return min(1.0, max(_FADING_MIN, days[0] / days[1], days[1] / days[2]))
