"""Lets requests into the engine: a slot on a replica of the model, a place in line, or a refusal.

One loop a second serves every line of this worker, several side by side: heartbeat, places for
those who want to hear of theirs (one round trip for all of them), and the end of waits that lasted
too long.
"""

import asyncio
import uuid
from collections.abc import Callable

import structlog

from gateway.engines.capacity import Capacity
from gateway.engines.pools import Pool
from gateway.engines.replica_record import Replica
from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_channel import FlowChannel
from gateway.flow.redis_client import FlowRedis
from gateway.line.engine_looks import EngineLooks
from gateway.line.fairness import FairnessGauge
from gateway.line.line_terms import AccountView, LineBounds
from gateway.line.place_notices import PlaceNotices
from gateway.line.pool_line import PoolLine
from gateway.line.pool_models import PoolModels
from gateway.line.slot import LineLoad, Slot
from gateway.line.ticket import Granted, Passage, SlotAsk, Ticket
from gateway.queue_errors import Draining
from gateway.telemetry.line_metrics import (
    QUEUE_BYTES,
    QUEUE_LENGTH,
    SLOTS_CAPACITY,
    SLOTS_HELD,
)

log = structlog.get_logger(__name__)

HEARTBEAT_S = 1.0
# Lines served side by side: a lap must stay within a lease (5 s) as long as calls meet their
# deadline (250 ms), and with three calls a line 25 lines then take 3 s. Their heartbeats travel
# together: eight that each take out 2,000 tickets of a dead worker (20 ms) meet it, too.
_POOLS_AT_ONCE = 8


class Admission:
    def __init__(
        self,
        flow: FlowRedis,
        capacity: Capacity,
        bounds: LineBounds,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.worker_id = uuid.uuid4().hex[:12]
        self._flow = flow
        self._capacity = capacity
        self._bounds = bounds
        self._clock = clock
        self._lines: dict[str, PoolLine] = {}
        self._engines = EngineLooks()
        self._fairness = FairnessGauge(flow, clock)
        self._models = PoolModels()
        self._places = PlaceNotices(clock)
        self._draining = False
        self._turns = asyncio.Semaphore(_POOLS_AT_ONCE)

    @property
    def live_workers(self) -> int:
        """Gateway workers that are alive, over all gateways; at least this one."""
        return max((line.lease.live_workers for line in self._lines.values()), default=1)

    @property
    def lines(self) -> tuple[PoolLine, ...]:
        return tuple(self._lines.values())

    @property
    def load(self) -> LineLoad:
        """As of the last heartbeat, over all workers and gateways."""
        leases = [line.lease for line in self.lines]
        waits = (lease.wait_s for lease in leases if lease.waiting_everywhere)
        return LineLoad(
            sum(r.slots for pool in self._capacity.view.pools() for r in pool.running),
            sum(sum(lease.slots_used.values()) + lease.waiting_everywhere for lease in leases),
            max(waits, default=0.0),
        )

    async def enter(self, pool: Pool, ask: SlotAsk, passage: Passage) -> Ticket:
        """A ticket, granted at once where a slot is free and nobody waits.

        Raises:
            AccountQueueFull, QueueFull: see PoolLine.enter.
            Draining: the worker stops, and nothing is free at once.
        """
        line = self._line_of(pool)
        ticket = await line.enter(ask, passage)
        if self._draining and ticket.granted is None:
            raise Draining(place_is_kept=line.leave(ticket, retry_after_s=1))
        return ticket

    def slot_of(self, pool: Pool, ticket: Ticket, granted: Granted) -> Slot | None:
        """What a granted ticket holds; None when its replica went meanwhile."""
        line, replica_id = self._line_of(pool), granted.replica_id
        known = line.lease.replicas.get(replica_id)
        replica = known or _find(self._capacity, pool.name, replica_id)
        if replica is None:
            line.release(replica_id, ticket.ask.account_id)
            line.lease.renew_soon()
            return None
        return Slot(pool.name, ticket.ask.account_id, replica, granted.at)

    def leave_out(self, slot: Slot) -> bool:
        """No connection to the slot's replica came about: this worker sends nobody there for now.

        Whether it is left out, see Capacity.leave_out. Other workers that have not found out may
        offer its slots; what this one is granted of them goes back.
        """
        replica_id = slot.replica.replica_id
        if not self._capacity.leave_out(replica_id):
            return False
        lease = self._lines[slot.pool].lease
        lease.replicas.pop(replica_id, None)
        lease.renew_soon()
        return True

    def abandon(self, pool: Pool, ticket: Ticket) -> None:
        """Gives up a ticket whose caller hung up, in line or with a slot that just came."""
        line = self._line_of(pool)
        if ticket.granted is not None or ticket.id in line.tickets.waiting:
            line.abandon(ticket)

    def release(self, slot: Slot) -> None:
        self._lines[slot.pool].release(slot.replica.replica_id, slot.account_id)

    def correct(self, pool: str, account_id: str, charge: float) -> None:
        """What the account was charged too little at its grant, or too much where below 0."""
        self._lines[pool].correct(account_id, charge)

    # Loops --------------------------------------------------------------------------------------

    async def serve_lines(self) -> None:
        """Heartbeats, places and ends of waits, until cancelled."""
        while True:
            self._models.tell(self._capacity.view)
            await asyncio.gather(*map(self._serve_in_turn, self._pools()))
            self._engines.forget_all_but(
                {replica_id for line in self.lines for replica_id in line.lease.replicas}
            )
            await asyncio.sleep(HEARTBEAT_S)

    async def _serve_in_turn(self, pool: Pool) -> None:
        async with self._turns:
            await self._serve(self._line_of(pool), pool)

    async def _serve(self, line: PoolLine, pool: Pool) -> None:
        line.look_at(pool)
        line.lease.replicas = self._engines.with_room(pool.running, line.lease.slots_used)
        try:
            await line.lease.renew()
            await self._places.tell(line)
        except FlowUnavailable as error:
            log.warning("lease_not_renewed", pool=pool.name, error=str(error))
            self._places.tell_unknown(line)
        line.end_long_waits(pool.state)
        self._engines.look_for_idle_slots(pool, line.lease.slots_used)
        await self._fairness.look(pool.name)
        _measure(pool, line)

    async def receive_grants(self, channel: FlowChannel) -> None:
        """Takes grants that other workers' calls have made, until cancelled.

        What is pushed while nobody listens comes with the next heartbeat.
        """
        while True:
            try:
                async for message in channel.messages():
                    prefix, _, grants = message.partition("\n")
                    for line in self.lines:
                        if redis_keys.pool(line.pool) == prefix:
                            line.lease.take_grants(grants.split(" "))
            except FlowUnavailable:
                await asyncio.sleep(HEARTBEAT_S)

    def drain(self) -> None:
        """The worker stops: whoever waits is sent elsewhere with its place kept."""
        self._draining = True
        for line in self.lines:
            for ticket in list(line.tickets.waiting.values()):
                ticket.tell(Draining(place_is_kept=line.leave(ticket, retry_after_s=1)))

    async def stop(self) -> None:
        """Gives up every lease, when the worker stops."""
        await asyncio.gather(*(line.lease.stop() for line in self.lines))

    async def account_views(self, account_id: str) -> list[tuple[str, AccountView]]:
        """The account's own requests in every pool, over all workers, by what the pool serves.

        Raises:
            FlowUnavailable: Redis did not answer.
        """
        view = self._capacity.view
        for pool in view.pools():
            self._line_of(pool)
        return [
            (view.told_name(line.pool), await line.account_view(account_id)) for line in self.lines
        ]

    def _pools(self) -> list[Pool]:
        """Those in view, and those that went out of it while somebody waits."""
        in_view = self._capacity.view.pools()
        names = {pool.name for pool in in_view}
        return [*in_view, *(Pool(name) for name in self._lines.keys() - names)]

    def _line_of(self, pool: Pool) -> PoolLine:
        line = self._lines.get(pool.name)
        if line is None:
            line = PoolLine(self._flow, pool.name, self.worker_id, self._bounds, self._clock)
            line.lease.replicas = {r.replica_id: r for r in pool.running}
            self._lines[pool.name] = line
        return line


def _find(capacity: Capacity, pool_name: str, replica_id: str) -> Replica | None:
    for pool in capacity.view.pools():
        if pool.name == pool_name:
            return next((r for r in pool.replicas if r.replica_id == replica_id), None)
    return None


def _measure(pool: Pool, line: PoolLine) -> None:
    SLOTS_HELD.labels(pool.name).set(line.held.total)
    SLOTS_CAPACITY.labels(pool.name).set(sum(r.slots for r in pool.running))
    QUEUE_LENGTH.labels(pool.name).set(line.lease.waiting_everywhere)
    QUEUE_BYTES.labels(pool.name).set(line.tickets.bytes)
