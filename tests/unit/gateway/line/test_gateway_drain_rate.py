import random

import pytest

from gateway.line.drain_rate import DrainRate


def steady(rate: float, seconds: int, waiting: int = 100) -> DrainRate:
    drain = DrainRate()
    for second in range(seconds):
        drain.look(float(second), int(rate * second), waiting)
    return drain


def test_a_steady_line_is_foretold_by_its_rate() -> None:
    drain = steady(4.0, 30)
    assert drain.per_second == pytest.approx(4.0)
    estimate = drain.estimate(39)
    assert estimate is not None
    assert estimate.p50_s == pytest.approx(10.0)
    assert estimate.p90_s > estimate.p50_s


def test_nothing_is_foretold_from_too_little() -> None:
    assert steady(4.0, 3).estimate(0) is None, "two seconds"
    assert steady(0.1, 30).estimate(0) is None, "three grants"
    assert DrainRate().estimate(0) is None


def test_only_the_last_minute_counts() -> None:
    drain = steady(10.0, 60)
    for second in range(60, 150):
        drain.look(float(second), 590 + (second - 59), 100)
    assert drain.per_second == pytest.approx(1.0)


def test_when_nobody_waits_all_is_forgotten() -> None:
    drain = steady(4.0, 30)
    drain.look(30.0, 120, 0)
    assert drain.per_second is None


def test_a_redis_that_begins_anew_is_no_negative_rate() -> None:
    drain = steady(4.0, 30)
    drain.look(30.0, 3, 100)
    assert drain.per_second is None


@pytest.mark.parametrize("burst", [1, 8])
def test_nine_of_ten_waits_end_within_p90_also_when_grants_come_in_bursts(burst: int) -> None:
    chance = random.Random(11)
    kept = 0
    trials = 400
    for _ in range(trials):
        drain = DrainRate()
        granted, arrivals = 0, []
        now = 0.0
        while now < 160:
            now += chance.expovariate(2.0 / burst)
            arrivals += [now] * burst
        for second in range(60):
            granted = sum(a <= second for a in arrivals)
            drain.look(float(second), granted, 50)
        estimate = drain.estimate(40)
        assert estimate is not None
        kept += arrivals[granted + 40] - 59 <= estimate.p90_s
    assert kept / trials == pytest.approx(0.9, abs=0.08)
