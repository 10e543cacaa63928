"""Lets a request into the engine: a slot on a replica of its model, or a clear refusal."""

import asyncio
from dataclasses import dataclass

import structlog

from gateway.capacity import Capacity
from gateway.errors import FlowUnavailable, Unavailable
from gateway.metrics import SLOTS_CAPACITY, SLOTS_HELD
from gateway.pools import Pool
from gateway.redis_client import FlowRedis
from gateway.replica_record import Replica
from gateway.slots import HEARTBEAT_S, SlotLeases

log = structlog.get_logger(__name__)

# Half of the slots turn over within a few seconds on any model that chats; a caller who comes
# back after one second mostly finds one.
_RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot on one replica, held until it is released."""

    pool: str
    replica: Replica


class Admission:
    def __init__(self, flow: FlowRedis, capacity: Capacity) -> None:
        self._flow = flow
        self._capacity = capacity
        self._leases: dict[str, SlotLeases] = {}

    @property
    def live_workers(self) -> int:
        """Gateway workers that are alive, over all gateways; at least this one."""
        return max((leases.live_workers for leases in self._leases.values()), default=1)

    async def acquire(self, model: str, endpoint: str, avoid: frozenset[str]) -> Slot:
        """A slot on a replica that serves the model, other than those to avoid.

        Raises:
            NotFound: no such model, or it cannot do this endpoint.
            Unavailable: no replica is up, or each is full.
        """
        pool = self._capacity.view.pool_for(model, endpoint)
        candidates = [r for r in pool.running if r.replica_id not in avoid]
        if not candidates:
            raise _no_capacity(f"No replica of '{model}' is up at the moment.")
        replica = await self._leases_of(pool).acquire(candidates)
        if replica is None:
            raise _no_capacity(f"All {sum(r.slots for r in candidates)} slots are in use.")
        return Slot(pool.name, replica)

    def release(self, slot: Slot) -> None:
        self._leases[slot.pool].release(slot.replica.replica_id)

    async def keep_leases(self) -> None:
        """Renews this worker's leases until cancelled."""
        while True:
            for pool in self._capacity.view.pools():
                leases = self._leases_of(pool)
                try:
                    await leases.renew()
                except FlowUnavailable as error:
                    log.warning("lease_not_renewed", pool=pool.name, error=str(error))
                SLOTS_HELD.labels(pool.name).set(leases.held)
                SLOTS_CAPACITY.labels(pool.name).set(sum(r.slots for r in pool.running))
            await asyncio.sleep(HEARTBEAT_S)

    async def leave(self) -> None:
        """Gives up every lease, when the worker stops."""
        await asyncio.gather(*(leases.leave() for leases in self._leases.values()))

    def _leases_of(self, pool: Pool) -> SlotLeases:
        if pool.name not in self._leases:
            self._leases[pool.name] = SlotLeases(self._flow, pool.name)
        return self._leases[pool.name]


def _no_capacity(message: str) -> Unavailable:
    return Unavailable(
        f"{message} Try again in {_RETRY_AFTER_S} s.",
        headers={"retry-after": str(_RETRY_AFTER_S), "x-should-retry": "true"},
    )
