import pytest

from gateway.engines.comeback import CapacityGap, retry_after_s
from gateway.engines.pools import PoolView
from gateway.errors import Unavailable


@pytest.mark.parametrize(
    ("gap_s", "left_s", "told_s"),
    [
        (0, None, 5),
        (4.2, None, 5),
        (17.1, None, 18),
        (3600, None, 120),
        (10, 50, 50),
        (60, -3, 60),  # it takes longer than the last one: nobody knows
        (10, 1, 5),
        (10, 3600, 120),
    ],
)
def test_callers_are_told_what_is_left_of_a_start_or_else_as_long_as_nothing_has_been_there(
    gap_s: float, left_s: float | None, told_s: int
) -> None:
    assert retry_after_s(gap_s, left_s) == told_s


def test_the_longer_a_pool_has_nothing_the_later_callers_come_back() -> None:
    gap = CapacityGap()
    gap.look(1000, runs=True, is_starting=False)
    told = []
    for now in range(1001, 1301):
        gap.look(now, runs=False, is_starting=False)
        told.append(gap.retry_after_s(now))
    assert told[0] == 5
    assert told[60] == 60
    assert told[-1] == 120
    assert told == sorted(told)
    gap.look(1301, runs=True, is_starting=False)
    gap.look(1302, runs=False, is_starting=False)
    assert gap.retry_after_s(1302) == 5, "what is over is forgotten"


def test_what_a_start_took_says_when_the_next_one_is_over() -> None:
    gap = CapacityGap()
    gap.look(0, runs=False, is_starting=False)
    gap.look(10, runs=False, is_starting=True)
    gap.look(80, runs=True, is_starting=False)
    gap.look(500, runs=False, is_starting=False)
    assert gap.retry_after_s(500) == 5, "nobody has begun to start one"
    gap.look(520, runs=False, is_starting=True)
    assert gap.retry_after_s(530) == 60
    assert gap.retry_after_s(590) == 90, "it should be over: as long as the gap"


def test_a_start_that_was_not_seen_from_its_beginning_says_nothing_of_the_next() -> None:
    gap = CapacityGap()
    gap.look(0, runs=False, is_starting=True)  # this worker is new
    gap.look(10, runs=True, is_starting=False)
    gap.look(100, runs=False, is_starting=True)
    assert gap.retry_after_s(130) == 30


def test_a_start_that_was_given_up_says_nothing_of_the_next() -> None:
    gap = CapacityGap()
    gap.look(0, runs=False, is_starting=False)
    gap.look(10, runs=False, is_starting=True)
    gap.look(20, runs=False, is_starting=False, is_wanted=False)
    gap.look(50, runs=False, is_starting=True)
    assert gap.retry_after_s(70) == 20


def test_a_model_that_sleeps_lacks_nothing_while_nobody_waits_for_it() -> None:
    gap = CapacityGap()
    for now in range(3600):
        gap.look(now, runs=False, is_starting=False, is_wanted=False)
    gap.look(3600, runs=False, is_starting=False)
    assert gap.retry_after_s(3630) == 30


def test_before_any_model_is_announced_callers_come_back_the_later_the_longer_it_lasts() -> None:
    told = []
    for empty_s in (0.0, 40.0, 900.0):
        with pytest.raises(Unavailable) as refused:
            PoolView(empty_s=empty_s).pool_for("m", "chat/completions")
        assert refused.value.code == "no_capacity"
        assert f"Try again in {refused.value.headers['retry-after']} s" in refused.value.message
        told.append(int(refused.value.headers["retry-after"]))
    assert told == [5, 40, 120]
