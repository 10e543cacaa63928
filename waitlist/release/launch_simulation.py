"""A launch played through with the real sizing rule: what would be released, and how full it gets.

People are drawn, not measured: how soon and how many come (log-normal delays after the invite and
after the account), how unequally they use it (log-normal, a tenth make two thirds of the load),
how use fades after the first days, and a daily and weekly cycle. The rule sees none of that; it
gets what a running Floodgate would measure. Time goes in steps of ten minutes.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from waitlist.release.activation_curve import (
    AGE_EDGES_S,
    AGES,
    NO_COUNTS,
    Cohort,
    StepCounts,
    age_of,
    is_settled,
    tally,
)
from waitlist.release.demand_forecast import HOURS_A_DAY, HOURS_KEPT, HourOfUse
from waitlist.release.launch_report import HOUR_S, DayReport, LaunchPlan, LaunchReport, Population
from waitlist.release.release_sizing import (
    NEWCOMER_DAYS,
    NEWCOMER_PERSON_DAYS,
    NewcomerUse,
    ReleaseInputs,
    SizingPolicy,
    size_batch,
)

STEP_S: Final = 600.0
_STEPS_AN_HOUR: Final = 6
_STEPS_A_DAY: Final = _STEPS_AN_HOUR * HOURS_A_DAY
_NEWCOMER_STEPS: Final = NEWCOMER_DAYS * _STEPS_A_DAY
# A day is settled when capacity has stood for three days: by then who was invited has come.
_SETTLED_DAYS: Final = 3


@dataclass
class _Group:
    """People with the same moment of a step, or of their first request (`weight`: their use)."""

    step: int
    people: int = 0
    weight: float = 0.0
    slot_days: float = 0.0
    moved: list[int] = field(default_factory=lambda: [0] * AGES)

    def cohort(self, now_step: int, closed_s: float) -> Cohort:
        age_s = (now_step - self.step) * STEP_S
        return Cohort(age_s, self.people, tuple(self.moved), closed_s)


class Launch:
    """One launch, step by step."""

    def __init__(self, plan: LaunchPlan, population: Population, policy: SizingPolicy) -> None:
        self._plan = plan
        self._population = population
        self._policy = policy
        self._draw = random.Random(plan.seed)  # noqa: S311 - people, not secrets
        self._invited: dict[int, _Group] = {}
        self._redeemed: dict[int, _Group] = {}
        self._active: dict[int, _Group] = {}
        self._arrivals: dict[int, list[int]] = {}
        self._redemptions: dict[int, list[int]] = {}
        self._waiting = plan.people_waiting
        self._people_in = 0
        self._demand: list[float] = []
        self._people: list[int] = []
        self._capacity_at_release = 0.0
        self.overload_steps = 0
        self.overload_by_release_steps = 0
        # Per hour of age, so that a group's fading is one look-up a step.
        hours = plan.days * HOURS_A_DAY + 1
        self._fading = [population.fading(hour * HOUR_S) for hour in range(hours)]
        self._settled = {"invited": NO_COUNTS, "redeemed": NO_COUNTS}

    def run(self) -> Iterator[DayReport]:
        """Plays the launch; yields each day as it ends."""
        plan, invited_today = self._plan, 0
        decide_every = max(1, round(plan.decide_every_s / STEP_S))
        for step in range(plan.days * _STEPS_A_DAY):
            self._people_come(step)
            self._measure(step)
            capacity = plan.capacity_at(step * STEP_S)
            if self._demand[-1] > capacity:
                self.overload_steps += 1
                self.overload_by_release_steps += capacity >= self._capacity_at_release
            if step % decide_every == 0:
                invited_today += self._decide(step, capacity)
            if (step + 1) % _STEPS_A_DAY == 0:
                yield self._day(step, invited_today)
                invited_today = 0

    def _people_come(self, step: int) -> None:
        """Moves everyone whose time it is: redeems accounts, makes first requests."""
        for invited_step in self._redemptions.pop(step, []):
            waited_s = (step - invited_step) * STEP_S
            self._invited[invited_step].moved[age_of(waited_s)] += 1
            hour_step = step - step % _STEPS_AN_HOUR
            group = self._redeemed.setdefault(hour_step, _Group(hour_step))
            group.people += 1
            population = self._population
            if self._draw.random() < population.first_request_share:
                delay = self._delay_steps(
                    population.first_request_delay_median_s, population.first_request_delay_sigma
                )
                if (delay + _STEPS_AN_HOUR) * STEP_S < AGE_EDGES_S[-1]:
                    self._arrivals.setdefault(step + delay, []).append(hour_step)
        for redeemed_step in self._arrivals.pop(step, []):
            waited_s = (step - redeemed_step) * STEP_S
            self._redeemed[redeemed_step].moved[age_of(waited_s)] += 1
            hour_step = step - step % _STEPS_AN_HOUR
            group = self._active.setdefault(hour_step, _Group(hour_step))
            group.people += 1
            group.weight += self._weight()
            self._people_in += 1

    def _weight(self) -> float:
        population = self._population
        sigma = population.spread_sigma
        slots = population.person_slots * self._draw.lognormvariate(-(sigma**2) / 2, sigma)
        return min(slots, population.person_slots_max)

    def _delay_steps(self, median_s: float, sigma: float) -> int:
        return max(1, round(median_s * self._draw.lognormvariate(0.0, sigma) / STEP_S))

    def _measure(self, step: int) -> None:
        at_s = step * STEP_S
        noise = self._draw.lognormvariate(0.0, self._population.noise_sigma)
        now = self._population.cycle(at_s) * noise
        total = 0.0
        for begin, group in self._active.items():
            slots = group.weight * self._fading[(step - begin) // _STEPS_AN_HOUR] * now
            if step - begin < _NEWCOMER_STEPS:
                group.slot_days += slots / _STEPS_A_DAY
            total += slots
        self._demand.append(total)
        self._people.append(self._people_in)

    def _newcomer_use(self, step: int) -> NewcomerUse:
        people, person_days, slot_days = 0, 0.0, 0.0
        for group in sorted(self._active.values(), key=lambda group: -group.step):
            people += group.people
            person_days += group.people * min(step - group.step, _NEWCOMER_STEPS) / _STEPS_A_DAY
            slot_days += group.slot_days
            if person_days >= NEWCOMER_PERSON_DAYS:
                break
        return NewcomerUse(people, person_days, slot_days)

    def _counts(self, name: str, groups: dict[int, _Group], step: int, life_s: float) -> StepCounts:
        """The step's life table; groups in which nothing can happen any more are folded in."""
        cohorts = {begin: group.cohort(step, life_s) for begin, group in groups.items()}
        over = [begin for begin, cohort in cohorts.items() if is_settled(cohort)]
        self._settled[name] = tally((cohorts.pop(begin) for begin in over), self._settled[name])
        for begin in over:
            del groups[begin]
        return tally(cohorts.values(), self._settled[name])

    def _hours(self, step: int) -> tuple[HourOfUse, ...]:
        hour = step // _STEPS_AN_HOUR
        rows = []
        for h in range(max(0, hour - HOURS_KEPT + 1), hour + 1):
            steps = slice(h * _STEPS_AN_HOUR, (h + 1) * _STEPS_AN_HOUR)
            rows.append(HourOfUse(h, fmean(self._demand[steps]), self._people[steps][-1]))
        return tuple(rows)

    def _decide(self, step: int, capacity: float) -> int:
        life_s = self._plan.invite_life_s
        over = self._demand[-1] > capacity
        inputs = ReleaseInputs(
            at_s=step * STEP_S,
            capacity_slots=capacity,
            overload="callers wait for slots" if over else "",
            hours=self._hours(step),
            people_in=self._people_in,
            people_waiting=self._waiting,
            newcomers=self._newcomer_use(step),
            invited=self._counts("invited", self._invited, step, life_s),
            redeemed=self._counts("redeemed", self._redeemed, step, math.inf),
        )
        batch = size_batch(inputs, self._policy).batch
        if batch:
            self._release(step, batch)
            self._capacity_at_release = capacity
        return batch

    def _release(self, step: int, count: int) -> None:
        population = self._population
        self._waiting -= count
        self._invited[step] = _Group(step, people=count)
        for _ in range(count):
            if self._draw.random() >= population.redeem_share:
                continue
            delay = self._delay_steps(
                population.redeem_delay_median_s, population.redeem_delay_sigma
            )
            if delay * STEP_S < self._plan.invite_life_s:
                self._redemptions.setdefault(step + delay, []).append(step)

    def _day(self, step: int, invited: int) -> DayReport:
        day = step // _STEPS_A_DAY
        first = day * _STEPS_A_DAY
        capacity = min(self._plan.capacity_at(s * STEP_S) for s in range(first, step + 1))
        busiest = max(
            fmean(self._demand[s : s + _STEPS_AN_HOUR])
            for s in range(first, step + 1, _STEPS_AN_HOUR)
        )
        changes = [changed for changed, _ in self._plan.capacity_slots]
        settled = all(not changed - 1 < day < changed + _SETTLED_DAYS for changed in changes)
        return DayReport(
            day=day + 1,
            capacity_slots=capacity,
            safe_slots=capacity * self._policy.target_use,
            busiest_hour_slots=busiest,
            settled=settled,
            invited=invited,
            people_in=self._people_in,
        )


def play(
    plan: LaunchPlan, population: Population | None = None, policy: SizingPolicy | None = None
) -> LaunchReport:
    """The whole launch."""
    launch = Launch(plan, population or Population(), policy or SizingPolicy())
    return report_of(launch, list(launch.run()))


def report_of(launch: Launch, days: Sequence[DayReport]) -> LaunchReport:
    """The figures of a launch that was played to its end."""
    minutes = STEP_S / 60
    return LaunchReport(
        days=tuple(days),
        overload_minutes=launch.overload_steps * minutes,
        overload_by_release_minutes=launch.overload_by_release_steps * minutes,
    )
