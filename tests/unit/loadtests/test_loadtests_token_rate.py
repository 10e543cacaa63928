"""Tokens a second that the simulator publishes."""

import pytest

from loadtests.engine_simulator.token_rate import WINDOW_S, TokenRate


def test_the_first_count_tells_no_rate() -> None:
    assert TokenRate().over_window(700, 3.0) == 0


def test_a_steady_engine_has_its_rate() -> None:
    rate = TokenRate()
    rate.over_window(0, 0.0)
    assert [rate.over_window(50 * n, float(n)) for n in range(1, 20)] == [50.0] * 19


def test_what_lies_longer_back_than_the_window_no_longer_counts() -> None:
    rate = TokenRate()
    rate.over_window(0, 0.0)
    rate.over_window(1000, 1.0)
    assert rate.over_window(1000, 1.0 + WINDOW_S) == 0
    assert rate.over_window(1030, 2.0 + WINDOW_S) == pytest.approx(30)
