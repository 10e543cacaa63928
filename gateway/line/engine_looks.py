"""One look a second at every engine: how many of its slots may be handed out, and which do nothing.

What a replica says of its engine is held against the slots that the flow Redis counts on it.
"""

from collections.abc import Iterable, Mapping

import structlog

from gateway.engines.pools import Pool
from gateway.engines.replica_record import Replica
from gateway.line.engine_excess import EXCESS_LOOKS, IDLE_LOOKS, LastingExcess
from gateway.telemetry.line_metrics import SLOTS_WITHOUT_WORK

log = structlog.get_logger(__name__)


class EngineLooks:
    """`slots_used` is by replica id, over all workers, as of the last heartbeat."""

    def __init__(self) -> None:
        self._excess = LastingExcess(EXCESS_LOOKS)
        self._idle = LastingExcess(IDLE_LOOKS)
        self._told_idle: set[str] = set()

    def with_room(
        self, replicas: Iterable[Replica], slots_used: Mapping[str, int]
    ) -> dict[str, Replica]:
        """The replicas by their id, with the slots that their engines really have room for."""
        return {r.replica_id: self._with_room(r, slots_used) for r in replicas}

    def look_for_idle_slots(self, pool: Pool, slots_used: Mapping[str, int]) -> None:
        """Tells of slots that lastingly have no work in their engine, once for each replica."""
        total = 0
        for replica in pool.running:
            if not replica.tells_its_load:
                continue
            used = slots_used.get(replica.replica_id, 0)
            idle = self._idle.look(replica.replica_id, used, _in_engine(replica))
            total += idle
            if idle and replica.replica_id not in self._told_idle:
                self._told_idle.add(replica.replica_id)
                log.warning("slots_without_work", replica=replica.replica_id, slots=idle)
        SLOTS_WITHOUT_WORK.labels(pool.name).set(total)

    def forget_all_but(self, replica_ids: set[str]) -> None:
        self._excess.forget_all_but(replica_ids)
        self._idle.forget_all_but(replica_ids)
        self._told_idle &= replica_ids

    def _with_room(self, replica: Replica, slots_used: Mapping[str, int]) -> Replica:
        used = slots_used.get(replica.replica_id, 0)
        excess = self._excess.look(replica.replica_id, _in_engine(replica), used)
        if not excess:
            return replica
        return replica.model_copy(update={"slots": max(0, replica.slots - excess)})


def _in_engine(replica: Replica) -> int:
    return replica.engine.running + replica.engine.waiting
