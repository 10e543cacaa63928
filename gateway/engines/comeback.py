"""When to come back to what has no replica. Pure.

While a start is under way whose length is known, since one was seen from beginning to end: when
that time will be over. Else as long as nothing has been there already: a restart of seconds is
over in seconds, and what has been gone for minutes is seldom back at once. So callers ask the less
often the longer it lasts; never sooner than after 5 s, and never later than the SDKs wait (120 s).
"""

import math

from gateway.errors import RETRY_AFTER_S_MAX

# Records are read once a second, and the line hears of a new replica within another: who asks
# sooner asks in vain.
_RETRY_AFTER_S_MIN = 5


def retry_after_s(gap_s: float, left_s: float | None = None) -> int:
    """Whole seconds until it is worth to ask again.

    `gap_s`: for how long there has been nothing. `left_s`: what is left of a start; None or below
    0 where nobody knows.
    """
    wait_s = left_s if left_s is not None and left_s > 0 else gap_s
    return max(_RETRY_AFTER_S_MIN, math.ceil(min(RETRY_AFTER_S_MAX, wait_s)))


class CapacityGap:
    """For how long one pool has had nothing that runs, and how long its last start took.

    Fed with one look at the pool after another, by a clock in seconds.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._starting_since: float | None = None
        # Whether the start that is under way was seen from its beginning.
        self._is_whole = False
        self._start_s: float | None = None

    def look(self, now: float, *, runs: bool, is_starting: bool, is_wanted: bool = True) -> None:
        """`is_wanted` is False where nothing is to run, and nobody waits for it."""
        if runs and self._is_whole and self._starting_since is not None:
            self._start_s = now - self._starting_since
        if runs or not is_wanted:
            self._since = None
        elif self._since is None:
            self._since = now
        if not is_starting:
            self._starting_since, self._is_whole = None, True
        elif self._starting_since is None:
            self._starting_since = now

    def retry_after_s(self, now: float) -> int:
        """When to come back to a pool that has nothing which runs."""
        gap_s = 0.0 if self._since is None else now - self._since
        if self._start_s is None or self._starting_since is None:
            return retry_after_s(gap_s)
        return retry_after_s(gap_s, self._starting_since + self._start_s - now)
