"""Where an engine's own count of its work and the count of slots in use lastingly differ. Pure.

Work that no gateway knows of: aborts that an engine has not finished, requests that came around
the gate, choices of one request that run as several. As long as it is there, its room is not
handed out again. Slots without work: held here, while the engine has nothing to do for them. They
are told and left alone, since each has a living request, on its way or with a slow reader: what
nobody holds, heartbeats give back (docs/decisions/0017-what-is-held-is-said-by-who-holds-it.md).
"""

from collections import deque

# A record is up to a second old, and so is the count beside it: only what three looks in a row
# have shown is more than a difference in time.
EXCESS_LOOKS = 3
# Half a minute: requests on their way to another replica, and answers that are still being read,
# come and go within it.
IDLE_LOOKS = 30


class LastingExcess:
    """By how much one count was above another in all of the last `looks` at a replica."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self._differences: dict[str, deque[int]] = {}

    def look(self, replica_id: str, count: int, other: int) -> int:
        """Notes one look at a replica; the excess that the last looks have in common."""
        seen = self._differences.setdefault(replica_id, deque(maxlen=self._looks))
        seen.append(count - other)
        return max(0, min(seen)) if len(seen) == self._looks else 0

    def forget_all_but(self, replica_ids: set[str]) -> None:
        for gone in self._differences.keys() - replica_ids:
            del self._differences[gone]
