"""Order statistics of small samples: medians over runs, percentiles over requests."""

import math
from collections.abc import Sequence


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values that are already in ascending order.

    Nearest rank returns a value that was really measured, never one between two of them.

    Raises:
        ValueError: no values, or `percent` outside 0 to 100.
    """
    if not sorted_values:
        raise ValueError("no values to take a percentile of")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must lie in 0..100, got {percent}")
    rank = max(1, math.ceil(len(sorted_values) * percent / 100))
    return sorted_values[rank - 1]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values to take a median of")
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
