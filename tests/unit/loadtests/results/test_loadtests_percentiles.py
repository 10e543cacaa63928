import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.percentiles import median, percentile


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile(values, 100) == 100
    assert percentile(values, 0) == 1


def test_percentile_of_few_values_is_one_of_them() -> None:
    assert percentile([1.0, 7.0], 50) == 1.0
    assert percentile([1.0, 7.0], 99) == 7.0
    assert percentile([3.0], 99) == 3.0


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.floats(0, 100))
def test_percentile_was_measured_and_grows(values: list[float], percent: float) -> None:
    ordered = sorted(values)
    assert percentile(ordered, percent) in ordered
    assert percentile(ordered, percent / 2) <= percentile(ordered, percent)


def test_median_of_odd_and_even_counts() -> None:
    assert median([9.0, 1.0, 5.0]) == 5.0
    assert median([4.0, 1.0, 2.0, 100.0]) == 3.0


@pytest.mark.parametrize("percent", [-1, 100.1])
def test_percentile_refuses_a_percent_outside_its_range(percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        percentile([1.0], percent)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="no values"):
        median([])
