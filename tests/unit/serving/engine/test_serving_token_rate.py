"""Tokens a second, over the last seconds."""

import pytest

from serving.engine.token_rate import TokenRate


def test_one_look_tells_no_rate() -> None:
    rate = TokenRate()
    assert rate.look(1000, now=0.0) == 0
    assert rate.look(1100, now=0.0) == 0, "a record that is written twice at once"


def test_a_steady_engine_has_its_rate_from_the_second_look_on() -> None:
    rate = TokenRate()
    rate.look(0, now=0.0)
    assert [rate.look(second * 80, now=float(second)) for second in range(1, 30)] == [80.0] * 29


def test_steps_longer_than_a_second_even_out() -> None:
    """A step every two seconds, of which every other look sees nothing."""
    rate = TokenRate()
    seen = [rate.look(second // 2 * 100, now=float(second)) for second in range(30)][10:]
    assert all(40 <= found <= 60 for found in seen), seen


def test_an_engine_that_has_nothing_to_do_is_at_none_within_seconds() -> None:
    rate = TokenRate()
    rate.look(0, now=0.0)
    assert rate.look(500, now=1.0) == 500
    assert rate.look(500, now=4.0) == 125
    assert rate.look(500, now=6.5) == 0


def test_looks_that_were_missed_count_from_the_next_on() -> None:
    """The process stood still: what came meanwhile says nothing of the last seconds."""
    rate = TokenRate()
    rate.look(0, now=0.0)
    assert rate.look(6000, now=60.0) == 0
    assert rate.look(6050, now=61.0) == pytest.approx(50)
