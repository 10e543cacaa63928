"""A slot that a request holds, and what all slots and lines together are asked for."""

from typing import NamedTuple

from gateway.engines.replica_record import Replica


class Slot(NamedTuple):
    """A slot on one replica, held until it is released."""

    pool: str
    account_id: str
    replica: Replica
    granted_at: float  # when this worker learned of it, time.perf_counter


class LineLoad(NamedTuple):
    """All lines together. `wait_s`: how long who comes now waits (p50); 0 where nobody does."""

    capacity_slots: int
    demand_slots: int
    wait_s: float
