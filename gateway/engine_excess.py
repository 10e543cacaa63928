"""Work inside an engine that no gateway knows of. Pure.

Aborts that an engine has not finished, requests that came around the gate, choices of one request
that run as several: as long as they are there, their room is not handed out again.
"""

from collections import deque

# A record is up to a second old, and so is the count beside it: only what three looks in a row
# have shown is more than a difference in time.
_LOOKS = 3


class EngineExcess:
    def __init__(self) -> None:
        self._differences: dict[str, deque[int]] = {}

    def look(self, replica_id: str, in_engine: int, slots_used: int) -> int:
        """Notes one look at a replica; the excess that the last looks have in common."""
        seen = self._differences.setdefault(replica_id, deque(maxlen=_LOOKS))
        seen.append(in_engine - slots_used)
        return max(0, min(seen)) if len(seen) == _LOOKS else 0

    def forget_all_but(self, replica_ids: set[str]) -> None:
        for gone in self._differences.keys() - replica_ids:
            del self._differences[gone]
