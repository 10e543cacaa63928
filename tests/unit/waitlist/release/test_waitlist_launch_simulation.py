"""Thirty days of a launch, played with the real rule."""

import pytest

from waitlist.release.launch_report import LaunchPlan, Population
from waitlist.release.launch_simulation import play

# A replica is added, lost at noon and back at six, more are added, some are lost for good.
CAPACITY = ((0, 64), (5, 96), (9.5, 64), (9.75, 96), (13, 160), (20, 128), (24, 192))


@pytest.mark.parametrize("seed", [1, 3])
def test_release_overloads_nothing_and_uses_the_safe_headroom(seed: int) -> None:
    report = play(LaunchPlan(capacity_slots=CAPACITY, seed=seed))
    assert report.overload_by_release_minutes == 0
    assert report.safe_used_settled >= 0.95
    assert report.safe_used >= 0.9
    assert len(report.days) == 30


def test_wrong_prior_is_found_out() -> None:
    """People ask ten times as much as in the usual launch: still nothing is overloaded."""
    report = play(LaunchPlan(seed=1), Population(person_slots=0.1))
    assert report.overload_by_release_minutes == 0
    assert report.days[0].busiest_hour_slots < 64


def test_everybody_is_let_in_where_there_is_room() -> None:
    report = play(LaunchPlan(days=20, people_waiting=500))
    assert sum(day.invited for day in report.days) == 500


def test_same_seed_gives_the_same_launch() -> None:
    plan = LaunchPlan(days=4, seed=5)
    assert play(plan) == play(plan)
    assert play(plan) != play(LaunchPlan(days=4, seed=6))
