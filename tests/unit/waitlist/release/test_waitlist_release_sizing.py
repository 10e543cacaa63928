"""The batch and its arithmetic."""

import dataclasses

import pytest

from waitlist.release.activation_curve import AGES, NO_COUNTS, Cohort, tally
from waitlist.release.demand_forecast import HourOfUse
from waitlist.release.release_sizing import (
    NewcomerUse,
    ReleaseInputs,
    ReleaseSizing,
    SizingPolicy,
    size_batch,
)

POLICY = SizingPolicy()
# A thousand people, three days, ten slots around the clock; what a person asks is well known.
STEADY = ReleaseInputs(
    at_s=1_795_000_000.0,
    capacity_slots=64.0,
    overload="",
    hours=tuple(HourOfUse(hour, 10.0, 1000) for hour in range(72)),
    people_in=1000,
    people_waiting=100_000,
    newcomers=NewcomerUse(people=1000, person_days=1000.0, slot_days=10.0),
    invited=NO_COUNTS,
    redeemed=NO_COUNTS,
)


def size(**changes: object) -> ReleaseSizing:
    return size_batch(dataclasses.replace(STEADY, **changes), POLICY)  # type: ignore[arg-type]


def test_numbers_of_a_decision_add_up() -> None:
    sizing = size()
    assert sizing.reason == "headroom"
    assert sizing.safe_slots == pytest.approx(64 * POLICY.target_use)
    assert sizing.person_slots == pytest.approx(sizing.person_slots_mean * sizing.caution_factor)
    for hour in sizing.busy_hours:
        spent = hour.demand_in_slots + hour.demand_on_the_way_slots
        assert hour.headroom_slots == pytest.approx(sizing.safe_slots - spent)
        assert hour.slots_per_invite == pytest.approx(hour.invite_share * sizing.person_slots)
        assert hour.affordable * hour.slots_per_invite <= hour.headroom_slots
        assert (hour.affordable + 1) * hour.slots_per_invite > hour.headroom_slots
    assert sizing.batch == min(hour.affordable for hour in sizing.busy_hours) > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"overload": "callers wait for slots"}, "overload: callers wait for slots"),
        ({"capacity_slots": 0.0}, "no capacity"),
        ({"capacity_slots": 12.0}, "no headroom"),
        ({"people_waiting": 0}, "nobody waits"),
    ],
)
def test_nobody_is_let_in(changes: dict[str, object], reason: str) -> None:
    sizing = size(**changes)
    assert (sizing.batch, sizing.reason) == (0, reason)


def test_no_more_than_wait_and_no_more_than_the_largest_batch() -> None:
    assert size(people_waiting=3).batch == 3
    policy = dataclasses.replace(POLICY, batch_max=7)
    assert size_batch(STEADY, policy).batch == 7


def test_who_is_on_the_way_takes_room() -> None:
    on_the_way = tally([Cohort(0.0, 500, (0,) * AGES)])
    invited, redeemed = size(invited=on_the_way), size(redeemed=on_the_way)
    assert invited.busy_hours[-1].people_on_the_way > 0.7 * 500
    last = {name: s.busy_hours[-1] for name, s in (("i", invited), ("r", redeemed))}
    assert last["r"].people_on_the_way > last["i"].people_on_the_way


@pytest.mark.parametrize(("seen", "more"), [(10, 100), (100, 1000), (1000, 100_000)])
def test_batches_grow_as_people_are_measured(seen: int, more: int) -> None:
    """The same mean use, known from more people: less caution."""
    expected = tally([Cohort(0.0, 100, (0,) * AGES)])
    few = size(newcomers=NewcomerUse(seen, seen, seen * 0.01), invited=expected)
    many = size(newcomers=NewcomerUse(more, more, more * 0.01), invited=expected)
    assert few.caution_factor > many.caution_factor >= 1.0
    assert few.batch < many.batch


def test_first_batch_of_a_launch_rests_on_the_prior_alone() -> None:
    sizing = size(hours=(), people_in=0, newcomers=NewcomerUse(0, 0.0, 0.0))
    assert sizing.person_slots_mean == pytest.approx(
        POLICY.person_slots_prior * POLICY.peak_ratio_prior
    )
    assert 10 < sizing.batch < 1000


def test_heavier_use_than_assumed_closes_the_gate() -> None:
    hours = tuple(HourOfUse(hour, 60.0, 100) for hour in range(72))
    assert size(hours=hours).reason == "no headroom"
