"""What a played launch is made of: its people, its plan, and its figures. Pure."""

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from waitlist.release.demand_forecast import HOURS_A_DAY

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Population:
    """The people of a launch, unknown to the rule."""

    person_slots: float = 0.01
    spread_sigma: float = 1.5
    person_slots_max: float = 4.0
    redeem_share: float = 0.65
    redeem_delay_median_s: float = 5 * HOUR_S
    redeem_delay_sigma: float = 1.6
    first_request_share: float = 0.85
    first_request_delay_median_s: float = 0.3 * HOUR_S
    first_request_delay_sigma: float = 2.0
    novelty: float = 1.5
    novelty_s: float = 2 * DAY_S
    stay_share: float = 0.55
    leave_s: float = 7 * DAY_S
    daily_swing: float = 0.6
    busiest_hour: float = 20.0
    weekend: float = 0.9
    noise_sigma: float = 0.04

    def fading(self, age_s: float) -> float:
        """Use at an age, over the use of one who stays for good."""
        novelty = 1 + self.novelty * math.exp(-age_s / self.novelty_s)
        return novelty * (self.stay_share + (1 - self.stay_share) * math.exp(-age_s / self.leave_s))

    def cycle(self, at_s: float) -> float:
        """Use at a time of the week, over its mean."""
        hour = at_s / HOUR_S % HOURS_A_DAY
        swing = math.cos(2 * math.pi * (hour - self.busiest_hour) / HOURS_A_DAY)
        return (1 + self.daily_swing * swing) * (self.weekend if at_s // DAY_S % 7 >= 5 else 1.0)


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """What is played: capacity from each day on, how many wait, how often is decided."""

    days: int = 30
    capacity_slots: tuple[tuple[float, float], ...] = ((0.0, 64.0),)
    people_waiting: int = 1_000_000
    decide_every_s: float = 3600.0
    invite_life_s: float = 7 * DAY_S
    seed: int = 1

    def capacity_at(self, at_s: float) -> float:
        """The slots of the last change before."""
        return [slots for day, slots in self.capacity_slots if day * DAY_S <= at_s][-1]


@dataclass(frozen=True, slots=True)
class DayReport:
    """One day: the busiest hour's demand against the day's least capacity, people at its end."""

    day: int
    capacity_slots: float
    safe_slots: float
    busiest_hour_slots: float
    settled: bool
    invited: int
    people_in: int

    @property
    def safe_used(self) -> float:
        return min(1.0, self.busiest_hour_slots / self.safe_slots)


@dataclass(frozen=True, slots=True)
class LaunchReport:
    """A launch in figures.

    `overload_by_release_minutes`: demand above capacity, though capacity was no less than when
    the last batch was let in. `overload_minutes` also has those after a loss of capacity.
    """

    days: tuple[DayReport, ...]
    overload_minutes: float
    overload_by_release_minutes: float

    @property
    def has_settled(self) -> bool:
        return any(day.settled for day in self.days)

    @property
    def safe_used_settled(self) -> float:
        """Mean over the settled days of the share of the safe headroom that was used."""
        return fmean(day.safe_used for day in self.days if day.settled)

    @property
    def safe_used(self) -> float:
        """The same over all days, the first ones and those after a change included."""
        return fmean(day.safe_used for day in self.days)
