"""Which of those that told of themselves have not been heard of for too long. Pure.

Serving has the same rule (serving/cluster/absence.py): neither imports the other.
"""

from collections.abc import Collection

# Looks are a second apart. What is longer is time in which nobody looked: the flow Redis was gone,
# or this process stood still.
_LOOK_S_MAX = 2.0


class AbsenceWatch:
    """Counts only time in which somebody looked, so that an outage makes nobody absent."""

    def __init__(self, absent_s_max: float) -> None:
        self._absent_s_max = absent_s_max
        self._heard_at: dict[str, float] = {}
        self._looked_at: float | None = None

    def look(self, heard: Collection[str], now: float) -> set[str]:
        """Notes who was heard in this look; those who have been absent for too long.

        They are told in each look until they are heard again or forgotten. `now`: seconds of a
        monotonic clock. Not to be called where a look has failed.
        """
        looked_at = now if self._looked_at is None else self._looked_at
        unwatched_s = max(0.0, now - looked_at - _LOOK_S_MAX)
        if unwatched_s:
            self._heard_at = {name: at + unwatched_s for name, at in self._heard_at.items()}
        self._looked_at = now
        self._heard_at |= dict.fromkeys(heard, now)
        return {name for name, at in self._heard_at.items() if now - at > self._absent_s_max}

    def forget(self, name: str) -> None:
        """Whoever is gone for good."""
        self._heard_at.pop(name, None)
