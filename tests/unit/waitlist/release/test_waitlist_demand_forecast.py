"""Demand at the busiest hours ahead, from hours whose course is known."""

import math

import pytest

from waitlist.release.demand_forecast import HOURS_A_DAY, HourOfUse, forecast, unbroken


def cycle(hour: int) -> float:
    """Busiest at hour 20 (1.5), quietest at hour 8 (0.5)."""
    return 1 + 0.5 * math.cos(2 * math.pi * (hour - 20) / HOURS_A_DAY)


def hours_until(last: int, fading_a_day: float = 1.0, people: int = 1000) -> list[HourOfUse]:
    return [
        HourOfUse(hour, 10 * cycle(hour) * fading_a_day ** (hour / HOURS_A_DAY), people)
        for hour in range(last + 1)
    ]


@pytest.mark.parametrize("last", [60, 68, 75, 82, 90])
def test_steady_use_is_forecast_at_any_hour_of_the_day(last: int) -> None:
    seen = forecast(hours_until(last), 3.0, 3)
    assert [hour.demand_slots for hour in seen.busy_hours] == pytest.approx([15.0] * 3)
    assert [(last + hour.ahead_h) % HOURS_A_DAY for hour in seen.busy_hours] == [20] * 3
    assert 0 <= seen.busy_hours[0].ahead_h < HOURS_A_DAY
    assert seen.peak_ratio == pytest.approx(1.5)
    assert seen.day_fading == pytest.approx(1.0)


def test_fading_goes_on_as_it_was() -> None:
    last = 3 * HOURS_A_DAY + 12
    seen = forecast(hours_until(last, fading_a_day=0.8), 3.0, 2)
    assert seen.day_fading == pytest.approx(0.8, abs=0.01)
    busiest = (last + seen.busy_hours[0].ahead_h) / HOURS_A_DAY
    assert seen.busy_hours[0].demand_slots == pytest.approx(15 * 0.8**busiest, rel=0.1)


def test_one_quiet_day_is_no_trend() -> None:
    hours = hours_until(4 * HOURS_A_DAY - 1)
    quiet = [
        HourOfUse(h.hour, h.demand_slots * (0.8 if h.hour >= 72 else 1.0), h.people_in)
        for h in hours
    ]
    assert forecast(quiet, 3.0, 1).day_fading == pytest.approx(1.0)


def test_people_who_came_overnight_show_within_hours() -> None:
    """Twice the people, twice the demand in the last three hours: twice the peak ahead."""
    hours = hours_until(60)
    doubled = [
        HourOfUse(h.hour, h.demand_slots * 2, h.people_in * 2) if h.hour > 57 else h for h in hours
    ]
    assert forecast(doubled, 3.0, 1).busy_hours[0].demand_slots == pytest.approx(30.0)


def test_first_day_expects_the_worst() -> None:
    seen = forecast(hours_until(8), 3.0, 3)
    assert seen.busy_hours[0].demand_slots == pytest.approx(3.0 * 10 * cycle(0))
    assert seen.busy_hours[0].ahead_h == 1
    assert seen.peak_ratio == 3.0


def test_nothing_measured_is_no_demand() -> None:
    seen = forecast((), 3.0, 3)
    assert [hour.demand_slots for hour in seen.busy_hours] == [0.0] * 3


def test_idle_days_divide_by_nothing() -> None:
    idle = [HourOfUse(hour, 0.0, 10) for hour in range(80)]
    seen = forecast(idle, 3.0, 2)
    assert [hour.demand_slots for hour in seen.busy_hours] == [0.0] * 2
    assert seen.peak_ratio == 3.0


def test_short_gap_is_bridged_and_a_long_one_begins_anew() -> None:
    hours = hours_until(80)
    short = [hour for hour in hours if hour.hour not in (40, 41)]
    assert [hour.hour for hour in unbroken(short)] == list(range(81))
    assert unbroken(short)[40].demand_slots == hours[39].demand_slots
    long = [hour for hour in hours if hour.hour not in (40, 41, 42)]
    assert [hour.hour for hour in unbroken(long)] == list(range(43, 81))
