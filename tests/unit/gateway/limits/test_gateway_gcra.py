"""The bucket that leaks, by a clock that the test moves."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.gcra import UNITS, Bucket

START_US = 1_790_000_000_000_000


def take(bucket: Bucket, limit: int, amount: int, now_us: int) -> bool:
    bucket.leak(limit, now_us)
    if bucket.wait_ms(limit, amount):
        return False
    bucket.add(amount)
    return True


def test_an_idle_account_may_use_its_whole_minute_at_once() -> None:
    bucket = Bucket()
    assert [take(bucket, 60, 1, START_US) for _ in range(61)] == [True] * 60 + [False]
    assert bucket.left(60) == 0


def test_the_refused_are_told_when_it_fits() -> None:
    bucket = Bucket()
    assert take(bucket, 600, 600, START_US)
    wait_ms = bucket.wait_ms(600, 10)
    assert wait_ms == 1000
    assert not take(bucket, 600, 10, START_US + wait_ms * 1000 - 1000)
    assert take(bucket, 600, 10, START_US + wait_ms * 1000)
    assert not take(bucket, 600, 1, START_US + wait_ms * 1000)


def test_idle_time_is_not_saved_up_beyond_one_minute() -> None:
    bucket = Bucket()
    take(bucket, 60, 1, START_US)
    later_us = START_US + 3600 * 1_000_000
    assert sum(take(bucket, 60, 1, later_us) for _ in range(200)) == 60


def test_a_clock_that_is_set_back_gives_and_takes_nothing() -> None:
    bucket = Bucket()
    assert take(bucket, 60, 60, START_US)
    assert not take(bucket, 60, 1, START_US - 3600 * 1_000_000)
    assert take(bucket, 60, 1, START_US - 3599 * 1_000_000), "and it goes on from there"


def test_nothing_drifts_over_a_million_steps() -> None:
    bucket, limit = Bucket(), 7  # an interval of 8571428.57 µs
    taken = sum(take(bucket, limit, 1, START_US + step * 600) for step in range(1_000_000))
    assert taken == limit + 600 * 999_999 * limit // UNITS


def test_old_minutes_do_not_come_back() -> None:
    bucket = Bucket()
    bucket.leak(60, START_US)
    bucket.add(30)  # has leaked out in 30 s
    leaked_at_us = START_US + bucket.empty_in_us(60)
    bucket.leak(60, START_US + 20_000_000)
    bucket.give_back(30, 60, leaked_at_us)
    assert bucket.level == 0
    bucket.leak(60, START_US + 40_000_000)
    bucket.add(60)
    bucket.give_back(30, 60, leaked_at_us)
    assert bucket.left(60) == 0


@given(
    limit=st.integers(1, 5_000),
    requests=st.lists(
        st.tuples(st.integers(0, 20_000_000), st.integers(1, 2_000)), min_size=1, max_size=60
    ),
)
def test_no_window_ever_holds_more_than_the_limit_and_what_it_refills(
    limit: int, requests: list[tuple[int, int]]
) -> None:
    bucket, now_us = Bucket(), START_US
    taken: list[tuple[int, int]] = []
    for gap_us, amount in requests:
        now_us += gap_us
        if take(bucket, limit, amount, now_us):
            taken.append((now_us, amount))
    for first in range(len(taken)):
        used = 0
        for at_us, amount in taken[first:]:
            used += amount
            refilled = limit * (at_us - taken[first][0])
            assert used * UNITS <= limit * UNITS + refilled


@given(
    limit=st.integers(1, 1_000),
    steps=st.lists(
        st.tuples(st.integers(0, 10_000_000), st.integers(1, 1_000), st.floats(0, 1)),
        min_size=1,
        max_size=60,
    ),
)
def test_with_refunds_at_any_time_the_sum_of_use_stays_within_the_budget(
    limit: int, steps: list[tuple[int, int, float]]
) -> None:
    bucket, now_us, used = Bucket(), START_US, 0
    held: list[tuple[int, int, int]] = []
    for gap_us, amount, share in steps:
        now_us += gap_us
        if take(bucket, limit, amount, now_us):
            held.append((amount, round(amount * share), now_us + bucket.empty_in_us(limit)))
        if share < 0.5 and held:
            reserved, really, leaked_at_us = held.pop(len(held) // 2)
            bucket.give_back(reserved - really, limit, leaked_at_us)
            used += really
        assert used * UNITS <= limit * UNITS + limit * (now_us - START_US)
        assert bucket.level >= 0
