"""The life table of invites and first requests."""

import math

import pytest

from waitlist.release.activation_curve import (
    AGE_EDGES_S,
    AGES,
    FIRST_REQUEST_PRIOR,
    NO_COUNTS,
    REDEEM_PRIOR,
    Cohort,
    StepPrior,
    age_of,
    is_settled,
    learn,
    tally,
)

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def moved(**by_age: int) -> tuple[int, ...]:
    """moved(age2=5): five people took the step in age 2."""
    return tuple(by_age.get(f"age{age}", 0) for age in range(AGES))


@pytest.mark.parametrize("prior", [REDEEM_PRIOR, FIRST_REQUEST_PRIOR])
def test_without_people_the_curve_is_the_prior(prior: StepPrior) -> None:
    assert sum(prior.shares) == pytest.approx(1.0)
    assert learn(NO_COUNTS, prior).reach == pytest.approx(prior.reach)


def test_many_people_outweigh_the_prior() -> None:
    cohort = Cohort(20 * DAY_S, 100_000, moved(age0=10_000, age4=20_000))
    curve = learn(tally([cohort]), REDEEM_PRIOR)
    assert curve.reach == pytest.approx(0.3, abs=0.005)
    assert curve.hazards[4] == pytest.approx(20_000 / 90_000, abs=0.005)


def test_people_who_still_wait_are_no_failures() -> None:
    """A day after the invite half have come: nothing is known of the week that follows."""
    young = tally([Cohort(DAY_S, 100_000, moved(age0=50_000))])
    old = tally([Cohort(20 * DAY_S, 100_000, moved(age0=50_000))])
    assert learn(young, REDEEM_PRIOR).reach > learn(old, REDEEM_PRIOR).reach + 0.1
    assert young.people_waiting == 50_000
    assert old.people_waiting == 0


def test_chance_falls_with_the_time_that_was_let_pass() -> None:
    curve = learn(tally([Cohort(20 * DAY_S, 10_000, moved(age0=4_000, age3=2_000))]), REDEEM_PRIOR)
    reaches = [curve.reach_from(age) for age in range(AGES)]
    assert reaches == sorted(reaches, reverse=True)


def test_chance_within_a_time_grows_to_the_chance_at_all() -> None:
    curve = learn(NO_COUNTS, REDEEM_PRIOR)
    within = [curve.reach_within(0, hours * HOUR_S) for hours in (0, 1, 6, 24, 400)]
    assert within[0] == 0.0
    assert within == sorted(within)
    assert within[-1] == pytest.approx(curve.reach)


def test_expired_invites_wait_no_more() -> None:
    expired = Cohort(8 * DAY_S, 100, moved(age0=40), closed_s=7 * DAY_S)
    assert is_settled(expired)
    assert tally([expired]).people_waiting == 0
    open_still = Cohort(6 * DAY_S, 100, moved(age0=40), closed_s=7 * DAY_S)
    assert tally([open_still]).people_waiting == 60


def test_folding_settled_cohorts_in_changes_nothing() -> None:
    cohorts = [
        Cohort(20 * DAY_S, 50, moved(age0=10, age5=3)),
        Cohort(5 * HOUR_S, 70, moved(age0=20, age1=5)),
    ]
    folded = tally(cohorts[1:], tally(cohorts[:1]))
    assert folded == tally(cohorts)


def test_at_risk_never_counts_more_people_than_there_are() -> None:
    counts = tally([Cohort(7 * HOUR_S, 100, moved(age0=30, age2=10))])
    assert counts.at_risk[0] == 100
    assert counts.at_risk[1] == 70
    assert counts.at_risk[3] == 30  # 60 are in the midst of it
    assert counts.waiting[3] == 60


@pytest.mark.parametrize(
    ("wait_s", "age"),
    [(0.0, 0), (HOUR_S, 1), (HOUR_S - 1, 0), (AGE_EDGES_S[-1], AGES - 1), (math.inf, AGES - 1)],
)
def test_age_of_a_wait(wait_s: float, age: int) -> None:
    assert age_of(wait_s) == age
