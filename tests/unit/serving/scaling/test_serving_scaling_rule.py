"""Replicas follow the line."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.flow.demand import Demand
from serving.scaling.scaling_rule import ScalingRule, ScalingTerms, ScalingView

TERMS = ScalingTerms(
    replicas_min=0, replicas_max=8, wait_s_target=20, down_after_s=300, to_zero_after_s=900
)
NOBODY = Demand(waiting=0, oldest_wait_s=0, tokens_owed=0, slots_used=0)
# One replica of 32 slots that does 500 tokens/s; another takes a minute to start.
ONE = ScalingView(
    demand=NOBODY, pin=None, running=1, target=1, slots=32, tokens_per_s=500, start_s=60
)


def decide(view: ScalingView, terms: ScalingTerms = TERMS) -> int:
    return ScalingRule(terms).decide(view, now=0)


def line(waiting: int, tokens_owed: int = 0, *, oldest_s: float = 1, used: int = 32) -> Demand:
    return Demand(waiting, oldest_s, tokens_owed, used)


def test_a_line_that_is_gone_before_another_replica_starts_adds_none() -> None:
    assert decide(replace(ONE, demand=line(50, 29_000))) == 1


def test_a_line_that_outlives_a_start_adds_as_many_as_then_work_it_off_in_time() -> None:
    # Starts take longer than 20 s, so one more has 10 s to work in: until then 35,000 are done.
    assert decide(replace(ONE, demand=line(100, 35_000))) == 1
    assert decide(replace(ONE, demand=line(100, 35_001))) == 2
    assert decide(replace(ONE, demand=line(100, 45_001))) == 4
    assert decide(replace(ONE, demand=line(9_999, 10_000_000))) == 8


def test_what_is_ordered_works_for_what_is_left_of_the_wait_after_its_start() -> None:
    terms = replace(TERMS, wait_s_target=60, replicas_max=100)
    # One does 30,000 in 60 s, each other one 22,500 in the 45 s after its start.
    quick = replace(ONE, start_s=15, demand=line(1_000, 100_000))
    assert decide(quick, terms) == 5


def test_what_was_ordered_is_not_ordered_again() -> None:
    terms = replace(TERMS, wait_s_target=60, replicas_max=100)
    rule = ScalingRule(terms)
    view = replace(ONE, start_s=15, demand=line(1_000, 100_000))
    for now in range(15):
        view = replace(view, target=rule.decide(view, now))
    assert view.target == 5
    view = replace(view, running=3)
    assert rule.decide(view, 15) == 5
    assert rule.decide(replace(view, running=5), 16) == 5


def test_no_more_are_ordered_than_give_everybody_in_line_a_slot() -> None:
    assert decide(replace(ONE, demand=line(10, 10**7))) == 2
    assert decide(replace(ONE, demand=line(32, 10**7))) == 2
    assert decide(replace(ONE, demand=line(33, 10**7))) == 3


def test_whom_their_own_account_holds_back_start_nothing_and_keep_nothing() -> None:
    rule = ScalingRule(TERMS)
    two = replace(ONE, running=2, target=2)
    busy = replace(two, demand=Demand(0, 0.0, 0, slots_used=4, held_back=16))
    assert [rule.decide(busy, now) for now in (0, 299, 300)] == [2, 2, 1]


@st.composite
def standing_views(draw: st.DrawFn) -> ScalingView:
    """A line that stays as it is, in front of replicas of which some may still start."""
    waiting = draw(st.integers(0, 2_000))
    target = draw(st.integers(0, 12))
    return ScalingView(
        demand=Demand(
            waiting,
            oldest_wait_s=draw(st.floats(0, 100)) if waiting else 0.0,
            tokens_owed=waiting * draw(st.integers(1, 2_000)),
            slots_used=draw(st.integers(0, 400)),
        ),
        pin=None,
        running=draw(st.integers(0, target)),
        target=target,
        slots=draw(st.none() | st.integers(1, 64)),
        tokens_per_s=draw(st.none() | st.floats(1, 5_000)),
        start_s=draw(st.floats(0, 200)),
    )


NO_BOUND = replace(TERMS, replicas_max=10_000)


@given(standing_views(), st.lists(st.integers(0, 5), min_size=60, max_size=60))
def test_a_line_that_stays_as_it_is_has_the_target_settle_and_never_turn(
    view: ScalingView, starts: list[int]
) -> None:
    """Up to the end or down to the end, and never beyond a slot for everybody."""
    rule, targets = ScalingRule(NO_BOUND), [view.target]
    assert view.demand is not None
    enough = math.ceil((view.demand.slots_used + view.demand.waiting) / (view.slots or 1))
    for round_number, started in enumerate([*starts, *([10_000] * 30)]):
        target = rule.decide(view, now=round_number * 1_000.0)
        running = min(target, view.running + started)
        view = replace(view, target=target, running=running)
        targets.append(target)
        if target > targets[-2]:
            assert target <= max(1, enough)
    assert targets in (sorted(targets), sorted(targets, reverse=True))


@given(standing_views(), st.lists(st.integers(0, 5), min_size=60, max_size=60))
def test_the_same_work_is_answered_by_one_number_however_often_it_is_asked(
    view: ScalingView, starts: list[int]
) -> None:
    assert view.demand is not None
    short_waits = replace(view.demand, oldest_wait_s=0.0)
    view = replace(view, demand=short_waits, tokens_per_s=view.tokens_per_s or 500)
    rule = ScalingRule(NO_BOUND)
    right = rule.decide(view, now=0.0)
    for started in starts:
        running = min(right, view.running + started)
        view = replace(view, target=right, running=running)
        assert rule.decide(view, now=0.0) == right


def test_who_waits_too_long_in_a_short_line_gets_one_more_at_a_time() -> None:
    waits = replace(ONE, demand=line(20, 12_000, oldest_s=25))
    assert decide(waits) == 2
    assert decide(replace(waits, target=2)) == 2, "one is starting"


def test_from_zero_the_first_who_waits_starts_one() -> None:
    asleep = replace(ONE, running=0, target=0, slots=None, tokens_per_s=None)
    assert decide(asleep) == 0
    assert decide(replace(asleep, demand=line(1, used=0))) == 1
    starting = replace(asleep, target=1, demand=line(500, 10**6, used=0, oldest_s=50))
    assert decide(starting) == 1, "it must show first what it can do"


def test_before_anything_was_full_a_line_of_as_many_as_run_adds_one() -> None:
    unmeasured = replace(ONE, tokens_per_s=None)
    assert decide(replace(unmeasured, demand=line(31, 20_000))) == 1
    assert decide(replace(unmeasured, demand=line(32, 20_000))) == 2
    assert decide(replace(unmeasured, demand=line(32, 20_000), target=2)) == 2, "one is starting"


def test_a_start_is_not_called_off_when_nobody_waits_any_more() -> None:
    assert decide(replace(ONE, running=0, target=1)) == 1


def test_nobody_knows_is_not_nobody_asks() -> None:
    rule = ScalingRule(TERMS)
    unknown = replace(ONE, demand=None, running=3, target=3)
    assert [rule.decide(unknown, now) for now in (0, 1000, 5000)] == [3, 3, 3]


def test_one_less_when_what_runs_has_fitted_into_fewer_for_long_enough() -> None:
    rule = ScalingRule(TERMS)
    three = replace(ONE, running=3, target=3, demand=line(0, used=44))
    assert rule.decide(three, 0) == 3
    assert rule.decide(three, 299) == 3
    assert rule.decide(replace(three, demand=line(0, used=46)), 299.5) == 3, "above 0.7 x 64"
    assert rule.decide(three, 300) == 3, "its time begins anew"
    assert rule.decide(three, 600) == 2
    assert rule.decide(replace(three, running=2, target=2, demand=line(0, used=23)), 601) == 2


def test_the_last_one_goes_later_and_only_when_nobody_asks() -> None:
    rule = ScalingRule(TERMS)
    assert [rule.decide(ONE, now) for now in (0, 899, 900)] == [1, 1, 0]
    busy = replace(ONE, demand=line(0, used=1))
    assert [rule.decide(busy, now) for now in (1000, 2000, 3000)] == [1, 1, 1]


@pytest.mark.parametrize("demand", [NOBODY, None, line(9_999, 10_000_000, oldest_s=100)])
@pytest.mark.parametrize(("pin", "wanted"), [(0, 0), (3, 3), (99, 8)])
def test_a_pin_goes_before_all(demand: Demand | None, pin: int, wanted: int) -> None:
    assert decide(replace(ONE, demand=demand, pin=pin)) == wanted


def test_the_operators_bounds_hold() -> None:
    terms = replace(TERMS, replicas_min=2, replicas_max=3)
    assert decide(ONE, terms) == 2
    assert decide(replace(ONE, target=5, running=5), terms) == 3
    rule = ScalingRule(terms)
    two = replace(ONE, running=2, target=2)
    assert [rule.decide(two, now) for now in (0, 1000, 2000)] == [2, 2, 2]
