"""Durations as people write them."""

import pytest

from deploy.commands.durations import parse_duration_s
from deploy.errors import Refused


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43_200), (" 7d ", 604_800)]
)
def test_number_and_unit(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h", "1w", "1d2h", "٣d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="no duration"):
        parse_duration_s(text)
