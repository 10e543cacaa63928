"""When the OpenAI SDKs try again, and after how long. Pure.

As the Python SDK does it (2 retries; 408, 409, 429 and 5xx; `x-should-retry` decides when given;
`retry-after-ms` before Retry-After, which is honoured up to 120 s; else 0.5 s doubled, at most
8 s, less up to a quarter by chance).
"""

from collections.abc import Mapping
from random import Random

RETRIES_MAX = 2
RETRY_AFTER_S_MAX = 120.0
_FIRST_S, _LAST_S = 0.5, 8.0


def told_to_wait_s(headers: Mapping[str, str]) -> float | None:
    """What the answer asks for; None when it asks for nothing that the SDKs understand."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
    return None


def retry_in_s(
    status: int, headers: Mapping[str, str], attempt: int, source: Random
) -> float | None:
    """Seconds until the next try; None when the SDK gives up. `headers` in lower case."""
    should = headers.get("x-should-retry")
    is_temporary = status in (408, 409, 429) or status >= 500
    if attempt >= RETRIES_MAX or should == "false" or not (is_temporary or should == "true"):
        return None
    told_s = told_to_wait_s(headers)
    if told_s is not None and 0 < told_s <= RETRY_AFTER_S_MAX:
        return told_s
    return min(_FIRST_S * 2.0**attempt, _LAST_S) * (1 - 0.25 * source.random())
