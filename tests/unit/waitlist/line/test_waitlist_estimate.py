"""Estimates of the wait: unknown where they are, and right where releases are simulated."""

import random

from waitlist.line.estimate import WINDOW_H, Estimate, estimate_wait

HOUR = 500_000


def test_unknown_without_enough_history() -> None:
    assert estimate_wait(10, {}, HOUR) is None
    assert estimate_wait(10, {HOUR - 30: 100}, HOUR) is None
    assert estimate_wait(10, {HOUR - 3: 100, HOUR - 1: 100}, HOUR) is None
    old = {HOUR - WINDOW_H - 1: 100, HOUR - WINDOW_H - 2: 100}
    assert estimate_wait(10, old, HOUR) is None


def test_current_hour_does_not_count() -> None:
    steady = {HOUR - h: 10 for h in range(1, 49)}
    assert estimate_wait(99, steady, HOUR) == estimate_wait(99, {**steady, HOUR: 10_000}, HOUR)


def test_steady_releases_have_no_spread() -> None:
    steady = {HOUR - h: 10 for h in range(1, 49)}
    assert estimate_wait(99, steady, HOUR) == Estimate(p50_s=36_000, p90_s=36_000)
    assert estimate_wait(0, steady, HOUR) == Estimate(p50_s=3600, p90_s=3600)


def test_bursts_widen_the_estimate() -> None:
    bursts = {HOUR - h: 240 for h in range(1, 241, 24)}
    estimate = estimate_wait(999, bursts, HOUR)
    assert estimate is not None
    assert estimate.p90_s > 1.3 * estimate.p50_s


def test_more_than_a_year_is_unknown() -> None:
    slow = {HOUR - h: 1 for h in range(1, 49)}
    assert estimate_wait(8_000, slow, HOUR) is not None
    assert estimate_wait(9_000, slow, HOUR) is None


def test_nine_of_ten_waits_end_within_p90() -> None:
    """Releases drawn anew each hour; history and future from one distribution."""
    draw = random.Random(7)

    def released() -> int:
        return draw.choice([0, 0, 20, 40])

    kept_p50 = kept_p90 = 0
    trials = 400
    for _ in range(trials):
        history = {HOUR - h: released() for h in range(1, WINDOW_H + 1)}
        estimate = estimate_wait(1000, history, HOUR)
        assert estimate is not None
        left, hours = 1001, 0
        while left > 0:
            left -= released()
            hours += 1
        kept_p50 += hours * 3600 <= estimate.p50_s
        kept_p90 += hours * 3600 <= estimate.p90_s
    assert 0.40 <= kept_p50 / trials <= 0.65
    assert 0.84 <= kept_p90 / trials <= 0.96
