"""How many people the next batch lets in: the whole rule, pure.

    batch = (capacity x target use - demand of the people who are in - demand of those on the way)
            / demand of one more invited person

worked out for the busiest hour of each of the next four days, of which the tightest counts. All
demand is in engine slots, waiting callers included, so it can be above capacity.

in      the forecast for that hour (demand_forecast)
on the way
        invited and redeemed people who have made no request yet, each with the learned chance
        that they will by then (activation_curve), times what a new person asks.
one more person
        the chance that an invite ends in a first request by then, times what a new person asks.

What a new person asks is measured on the first days of those who came last, mixed with a prior.
A few people with very unequal use say little about the mean of the next few, so a quantile of that
mean is taken (log-normal; variance spread^2 x (1/people seen + 1/people to come)). It shrinks to
the mean as people are seen.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from waitlist.release.activation_curve import (
    FIRST_REQUEST_PRIOR,
    REDEEM_PRIOR,
    StepCounts,
    StepCurve,
    StepPrior,
    learn,
)
from waitlist.release.demand_forecast import BusyHour, HourOfUse, forecast

# At the first of them few have come but use has not faded; at the last nineteen in twenty of those
# who ever come have come. Where use does not fade the last is the tightest. With three of them
# people who do not fade were let in a tenth above the mark; seven left a tenth unused.
_BUSY_HOURS: Final = 4
_HOUR_S: Final = 3600.0
# New people are measured over their first three days, the latest of them, back until these are
# 1,000 days of one person: with use as unequal as it is, that knows the mean to about a tenth.
NEWCOMER_DAYS: Final = 3
NEWCOMER_PERSON_DAYS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class SizingPolicy:
    """What operators may set."""

    # Days of the week are not told apart: after a weekend with nine tenths of the use Monday is at
    # 0.8 / 0.9 = 0.89, which leaves room for minutes 12 % above their hour.
    target_use: float = 0.8
    # Before anybody was measured: slots that one person holds, mean over the day. One answer of
    # 10 s every 100 s around the clock; measured people ask less.
    person_slots_prior: float = 0.1
    # As many days of one person as the prior weighs.
    prior_person_days: float = 10.0
    # Standard deviation of one person's use over its mean. Log-normal use with sigma 1.5, where a
    # tenth of the people make two thirds of the load, has 2.9.
    person_spread: float = 3.0
    caution_quantile: float = 0.95
    # Busiest hour over the hours seen, until a day has been seen: launches begin in the quiet.
    peak_ratio_prior: float = 3.0
    batch_max: int = 10_000
    redeem_prior: StepPrior = REDEEM_PRIOR
    first_request_prior: StepPrior = FIRST_REQUEST_PRIOR


@dataclass(frozen=True, slots=True)
class NewcomerUse:
    """The latest people's first days: how many people, days of one person, slots x days.

    Each person's first NEWCOMER_DAYS count, as far as they have passed; from the latest first
    request back until NEWCOMER_PERSON_DAYS are in.
    """

    people: int
    person_days: float
    slot_days: float


@dataclass(frozen=True, slots=True)
class ReleaseInputs:
    """Everything that a decision is made from.

    `hours` are the hours of the last three days in order, the running one the last. `overload`
    names what is too much at this moment, empty where nothing is. `invited` counts the step from
    invite to account, `redeemed` the one from account to first request.
    """

    at_s: float
    capacity_slots: float
    overload: str
    hours: tuple[HourOfUse, ...]
    people_in: int
    people_waiting: int
    newcomers: NewcomerUse
    invited: StepCounts
    redeemed: StepCounts


@dataclass(frozen=True, slots=True)
class BusyHourSizing:
    """One busiest hour ahead. `affordable`: how many invites now would just fill it."""

    ahead_h: int
    demand_in_slots: float
    people_on_the_way: float
    demand_on_the_way_slots: float
    headroom_slots: float
    invite_share: float
    slots_per_invite: float
    affordable: int


@dataclass(frozen=True, slots=True)
class ReleaseSizing:
    """The arithmetic of one batch, each number that went into it."""

    batch: int
    reason: str
    safe_slots: float
    peak_ratio: float
    day_fading: float
    person_slots_mean: float
    caution_factor: float
    person_slots: float
    redeem_share: float
    first_request_share: float
    busy_hours: tuple[BusyHourSizing, ...]


def size_batch(inputs: ReleaseInputs, policy: SizingPolicy) -> ReleaseSizing:
    """The next batch; 0 with the reason where nobody can be let in now."""
    ahead = forecast(inputs.hours, policy.peak_ratio_prior, _BUSY_HOURS)
    redeem = learn(inputs.invited, policy.redeem_prior)
    first_request = learn(inputs.redeemed, policy.first_request_prior)
    to_come = redeem.expected(inputs.invited) * first_request.reach
    to_come += first_request.expected(inputs.redeemed)
    mean = _person_slots_mean(inputs.newcomers, policy) * ahead.peak_ratio
    caution = _caution_factor(inputs.newcomers, to_come, policy)
    safe_slots = inputs.capacity_slots * policy.target_use
    busy_hours = tuple(
        _size_busy_hour(inputs, hour, safe_slots, mean * caution, redeem, first_request)
        for hour in ahead.busy_hours
    )
    batch, reason = _decide(inputs, min(hour.affordable for hour in busy_hours), policy)
    return ReleaseSizing(
        batch=batch,
        reason=reason,
        safe_slots=safe_slots,
        peak_ratio=ahead.peak_ratio,
        day_fading=ahead.day_fading,
        person_slots_mean=mean,
        caution_factor=caution,
        person_slots=mean * caution,
        redeem_share=redeem.reach,
        first_request_share=first_request.reach,
        busy_hours=busy_hours,
    )


def _size_busy_hour(
    inputs: ReleaseInputs,
    hour: BusyHour,
    safe_slots: float,
    person_slots: float,
    redeem: StepCurve,
    first_request: StepCurve,
) -> BusyHourSizing:
    # Until a request was made nobody knows when in the hour it comes: the whole hour counts.
    within_s = (hour.ahead_h + 1) * _HOUR_S
    # Most make their first request as they redeem, so those of an invite are counted by the time
    # of the redemption: somewhat early, never late.
    on_the_way = redeem.expected_within(inputs.invited, within_s) * first_request.reach
    on_the_way += first_request.expected_within(inputs.redeemed, within_s)
    headroom = safe_slots - hour.demand_slots - on_the_way * person_slots
    share = redeem.reach_within(0, within_s) * first_request.reach
    return BusyHourSizing(
        ahead_h=hour.ahead_h,
        demand_in_slots=hour.demand_slots,
        people_on_the_way=on_the_way,
        demand_on_the_way_slots=on_the_way * person_slots,
        headroom_slots=headroom,
        invite_share=share,
        slots_per_invite=share * person_slots,
        affordable=max(0, math.floor(headroom / (share * person_slots))),
    )


def _decide(inputs: ReleaseInputs, affordable: int, policy: SizingPolicy) -> tuple[int, str]:
    if inputs.overload:
        return 0, f"overload: {inputs.overload}"
    if inputs.capacity_slots <= 0:
        return 0, "no capacity"
    if affordable == 0:
        return 0, "no headroom"
    if inputs.people_waiting == 0:
        return 0, "nobody waits"
    batch = min(affordable, inputs.people_waiting, policy.batch_max)
    if batch == affordable:
        return batch, "headroom"
    return batch, "everyone who waits" if batch == inputs.people_waiting else "largest batch"


def _person_slots_mean(newcomers: NewcomerUse, policy: SizingPolicy) -> float:
    prior = policy.person_slots_prior * policy.prior_person_days
    return (prior + newcomers.slot_days) / (policy.prior_person_days + newcomers.person_days)


def _caution_factor(newcomers: NewcomerUse, to_come: float, policy: SizingPolicy) -> float:
    """The quantile of the mean of the people to come, over the mean of those seen; 1 or more.

    One person's first hour tells less than its first day, so a person counts as the days it was
    seen, at most one.
    """
    seen = max(1.0, min(float(newcomers.people), newcomers.person_days))
    variance = policy.person_spread**2 * (1 / seen + 1 / max(1.0, to_come))
    z = NormalDist().inv_cdf(policy.caution_quantile)
    # Beyond sigma = z the quantile of a log-normal falls again, as its median does.
    sigma = min(z, math.sqrt(math.log1p(variance)))
    return max(1.0, math.exp(z * sigma - sigma**2 / 2))
