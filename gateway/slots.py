"""Slot leases: how many requests this worker may have on each replica, exact over all workers.

Every worker keeps its own count on the flow Redis under a lease that one heartbeat a second
renews; the heartbeat also makes Redis's counts equal to what the living workers really hold, so
that no lost answer, kill -9 or Redis restart leaves a slot taken. While the flow Redis is gone a
worker uses its share, slots divided by living workers.
"""

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Sequence

import structlog

from gateway import redis_keys
from gateway.errors import FlowUnavailable
from gateway.metrics import FLOW_FALLBACKS
from gateway.redis_client import FlowRedis
from gateway.replica_record import Replica

log = structlog.get_logger(__name__)

HEARTBEAT_S = 1.0
# Five missed heartbeats: a worker that was killed gives its slots back within five seconds.
LEASE_MS = 5_000


class SlotLeases:
    """The slots that this worker holds in one pool."""

    def __init__(self, flow: FlowRedis, pool: str) -> None:
        self.worker_id = uuid.uuid4().hex
        self.live_workers = 1
        self._flow = flow
        self._pool = pool
        self._keys = (
            redis_keys.slots_used(pool),
            redis_keys.worker_leases(pool),
            redis_keys.worker_slots_prefix(pool) + self.worker_id,
        )
        # What this worker really holds, whether Redis knows or not.
        self._held: Counter[str] = Counter()
        # Given back, but not yet by Redis's count: waiting for the next call, and in that call.
        self._to_release: Counter[str] = Counter()
        self._releasing: Counter[str] = Counter()
        self._release_task: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        return self._held.total()

    async def acquire(self, replicas: Sequence[Replica]) -> Replica | None:
        """A slot on the replica with the largest free share, or None when none has room."""
        if not replicas:
            return None
        try:
            answer = await self._acquire_in_flow(replicas)
        except FlowUnavailable:
            FLOW_FALLBACKS.labels("slots").inc()
            return self._acquire_in_share(replicas)
        if not answer:
            return None
        self._held[answer] += 1
        return next(r for r in replicas if r.replica_id == answer)

    async def _acquire_in_flow(self, replicas: Sequence[Replica]) -> str:
        args: list[str | int] = [self.worker_id]
        for replica in replicas:
            args += (replica.replica_id, replica.slots)
        answer = await self._flow.run("acquire_slot", self._keys, args)
        if answer == -1:  # our lease ended, or Redis is new: register what we hold, then again
            await self.renew()
            answer = await self._flow.run("acquire_slot", self._keys, args)
        return "" if answer == -1 else str(answer)

    def _acquire_in_share(self, replicas: Sequence[Replica]) -> Replica | None:
        def free_share(replica: Replica) -> float:
            share = max(1, replica.slots // max(1, self.live_workers))
            return (share - self._held[replica.replica_id]) / share

        best = max(replicas, key=free_share)
        if free_share(best) <= 0:
            return None
        self._held[best.replica_id] += 1
        return best

    def release(self, replica_id: str) -> None:
        """Gives one slot back. Never waits: slots of one turn of the loop travel together.

        A slot that was taken from the local share is given back the same way; the heartbeat
        after the outage has registered it, or corrects the count within a second.
        """
        self._held[replica_id] -= 1
        self._to_release[replica_id] += 1
        if self._release_task is None or self._release_task.done():
            self._release_task = asyncio.create_task(self._send_releases(), name="release-slots")

    async def _send_releases(self) -> None:
        while self._to_release:
            self._releasing, self._to_release = self._to_release, Counter()
            args: list[str | int] = [self.worker_id]
            for replica_id, count in self._releasing.items():
                args += (replica_id, count)
            # Failing that, the next heartbeat that gets through corrects the counts.
            with contextlib.suppress(FlowUnavailable):
                await self._flow.run("release_slots", self._keys, args)
            self._releasing = Counter()

    async def renew(self) -> None:
        """One heartbeat.

        Raises:
            FlowUnavailable: Redis did not answer; the lease runs on.
        """
        self.live_workers = int(
            await self._flow.run_first("renew_worker", self._keys, self._renewal)
        )

    def _renewal(self) -> Sequence[str | int]:
        # No call is unanswered now. Redis must count what is held, and what is given back by
        # calls that follow this one.
        counts = +(self._held + self._to_release + self._releasing)
        self._held = +self._held
        args: list[str | int] = [
            self.worker_id,
            LEASE_MS,
            redis_keys.worker_slots_prefix(self._pool),
        ]
        for replica_id, count in counts.items():
            args += (replica_id, count)
        return args

    async def leave(self) -> None:
        """Gives up the lease and every slot. Failing that, the lease ends by itself."""
        try:
            await self._flow.run("leave_worker", self._keys, (self.worker_id,))
        except FlowUnavailable as error:
            log.warning("lease_left_to_expire", pool=self._pool, error=str(error))
