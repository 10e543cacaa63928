"""Replicas that no connection could be made to, left out until they have told of themselves again.

Pure. A replica that was killed is listed for as long as its last record lives, and its slots look
free meanwhile: whoever comes would be sent there.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.engines.replica_record import Replica

# A record's five seconds, one until the next look at the records, and one more. It comes to this
# only while the flow Redis is gone: else a record ends by itself, or another one follows it.
_LEFT_OUT_S_MAX = 7.0


@dataclass(slots=True)
class _Absence:
    since: float
    # Of the first record that was read after that, which may have been written before it.
    published_at_ms: int | None = None


class LeftOut:
    """Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._absences: dict[str, _Absence] = {}

    def add(self, replica_id: str, now: float) -> None:
        """No connection to this replica came about."""
        self._absences[replica_id] = _Absence(now)

    def look(self, replicas: Iterable[Replica], read_at: float) -> None:
        """Takes those back that have published again; `read_at` is when the reading began."""
        listed = {replica.replica_id: replica.published_at_ms for replica in replicas}
        for replica_id, absence in tuple(self._absences.items()):
            published_at_ms = listed.get(replica_id)
            if read_at < absence.since:
                continue
            if absence.published_at_ms is None:
                absence.published_at_ms = published_at_ms
            if published_at_ms != absence.published_at_ms or published_at_ms is None:
                del self._absences[replica_id]

    def ids(self, now: float) -> frozenset[str]:
        """Who is left out by now."""
        late = [name for name, at in self._absences.items() if now - at.since > _LEFT_OUT_S_MAX]
        for replica_id in late:
            del self._absences[replica_id]
        return frozenset(self._absences)
