"""How invited people become users: the share that takes a step, by the time they have had for it.

Two steps: an invited person redeems, a redeemed person makes a first request. Each is a life
table: of those who had not taken the step when an age began, the share that took it within that
age. Such a table learns from people who are still waiting as well as from those who are through,
and a prior of stated weight stands in where few have been seen.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

_HOUR_S: Final = 3600.0
# Ages double or so: the first hours decide most, the last days hardly anything.
AGE_EDGES_S: Final = tuple(hours * _HOUR_S for hours in (0, 1, 3, 6, 12, 24, 48, 96, 168, 336))
AGES: Final = len(AGE_EDGES_S) - 1


@dataclass(frozen=True, slots=True)
class Cohort:
    """People who could take a step from the same moment on.

    `moved` counts those who took it, by their age then; `closed_s` is the age from which on nobody
    can any more (an invite's life), infinite where there is no end.
    """

    age_s: float
    people: int
    moved: tuple[int, ...]
    closed_s: float = math.inf


@dataclass(frozen=True, slots=True)
class StepCounts:
    """A step's life table, all by age: people who were at risk, who moved, who wait there now."""

    at_risk: tuple[float, ...]
    moved: tuple[int, ...]
    waiting: tuple[int, ...]

    @property
    def people_waiting(self) -> int:
        return sum(self.waiting)


@dataclass(frozen=True, slots=True)
class StepPrior:
    """What is assumed of a step before anything was seen.

    `reach` is the share that ever takes it, `shares` how that share spreads over the ages (their
    sum is 1), `people` how many seen people the assumption weighs as much as.
    """

    reach: float
    shares: tuple[float, ...]
    people: float


@dataclass(frozen=True, slots=True)
class StepCurve:
    """A learned step. `hazards`: the share that takes it within an age, of those who got there."""

    hazards: tuple[float, ...]

    def reach_from(self, age: int) -> float:
        """The share that will yet take the step, of those who have not by the start of an age."""
        return 1.0 - math.prod(1.0 - hazard for hazard in self.hazards[age:])

    @property
    def reach(self) -> float:
        """The share of all that ever takes the step."""
        return self.reach_from(0)

    def reach_within(self, age: int, within_s: float) -> float:
        """The share that will take the step within a time, of those in the midst of an age."""
        stays, from_s = 1.0, (AGE_EDGES_S[age] + AGE_EDGES_S[age + 1]) / 2 if age else 0.0
        until_s = from_s + within_s
        for hazard, (begin_s, end_s) in zip(self.hazards, pairwise(AGE_EDGES_S), strict=True):
            overlap_s = min(end_s, until_s) - max(begin_s, from_s)
            if overlap_s > 0:
                stays *= (1.0 - hazard) ** (overlap_s / (end_s - begin_s))
        return 1.0 - stays

    def expected_within(self, counts: StepCounts, within_s: float) -> float:
        """How many of those who wait now will take the step within a time."""
        return sum(
            people * self.reach_within(age, within_s)
            for age, people in enumerate(counts.waiting)
            if people
        )

    def expected(self, counts: StepCounts) -> float:
        """How many of those who wait now will yet take the step."""
        return sum(people * self.reach_from(age) for age, people in enumerate(counts.waiting))


# Cautious on purpose: more come, and sooner, than launches have seen, so that what is not known
# yet makes batches smaller. 50 people: after 450 the assumption weighs a tenth.
_SOON: Final = (0.15, 0.15, 0.15, 0.15, 0.15, 0.1, 0.08, 0.05, 0.02)
REDEEM_PRIOR: Final = StepPrior(reach=0.9, shares=_SOON, people=50.0)
FIRST_REQUEST_PRIOR: Final = StepPrior(
    reach=0.95, shares=(0.5, 0.12, 0.1, 0.08, 0.08, 0.05, 0.04, 0.02, 0.01), people=50.0
)


def age_of(wait_s: float) -> int:
    """The age that a wait falls into; past the last edge, the last."""
    for age, (_, end_s) in enumerate(pairwise(AGE_EDGES_S)):
        if wait_s < end_s:
            return age
    return AGES - 1


NO_COUNTS: Final = StepCounts((0.0,) * AGES, (0,) * AGES, (0,) * AGES)


def tally(cohorts: Iterable[Cohort], settled: StepCounts = NO_COUNTS) -> StepCounts:
    """The life table of many cohorts, and of `settled` ones that were tallied before.

    Who waits in the midst of an age counts there as half a person at risk (the actuaries' rule).
    """
    at_risk, moved, waiting = list(settled.at_risk), list(settled.moved), list(settled.waiting)
    for cohort in cohorts:
        seen_s = min(cohort.age_s, cohort.closed_s)
        left = cohort.people
        for age, (begin_s, end_s) in enumerate(pairwise(AGE_EDGES_S)):
            if seen_s <= begin_s and not cohort.moved[age]:
                break
            moved[age] += cohort.moved[age]
            stays = max(0, left - cohort.moved[age])
            whole = seen_s >= end_s
            at_risk[age] += cohort.moved[age] + (stays if whole else stays / 2)
            left = stays
        if not is_settled(cohort):
            waiting[age_of(cohort.age_s)] += left
    return StepCounts(tuple(at_risk), tuple(moved), tuple(waiting))


def is_settled(cohort: Cohort) -> bool:
    """Whether nobody of it can take the step any more: its tally is final."""
    return cohort.age_s >= min(cohort.closed_s, AGE_EDGES_S[-1])


def learn(counts: StepCounts, prior: StepPrior) -> StepCurve:
    """The step's curve: what was seen, and the prior as if so many more had been seen."""
    rows = zip(counts.at_risk, counts.moved, prior_hazards(prior), strict=True)
    return StepCurve(tuple((m + prior.people * h) / (risk + prior.people) for risk, m, h in rows))


def prior_hazards(prior: StepPrior) -> Sequence[float]:
    """The prior's shares of all, as shares of those who got to each age."""
    taken = [prior.reach * share for share in prior.shares]
    left = [1.0, *(1.0 - before for before in accumulate(taken))]
    return [share / rest for share, rest in zip(taken, left, strict=False)]
