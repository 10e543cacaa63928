"""Durations as people write them: 90s, 30m, 12h, 7d."""

import re

from deploy.errors import Refused

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"(\d+)([smhd])", re.ASCII)


def parse_duration_s(text: str) -> float:
    """Seconds. Raises Refused for anything else than a number with a unit."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise Refused(f"{text!r} is no duration.", "Write it as 90s, 30m, 12h or 7d.")
    return float(int(match[1]) * _UNITS_S[match[2]])
