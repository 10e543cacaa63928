"""One worker's lease on a pool, and all that it and the flow Redis tell each other by it.

Slots and tickets are counted under a lease that a heartbeat a second renews. Every call here also
serves the line: whatever slots are free then go to whoever is next, over all workers and gateways.
Grants for this worker's tickets come back in the answer, or are pushed when another worker's call
made them; a grant that gets lost is told again by the next heartbeat until it is acknowledged.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from gateway.engines.replica_record import Replica
from gateway.errors import RETRY_AFTER_S_MAX, AccountQueueFull, FlowUnavailable, QueueFull
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.line.drain_rate import DrainRate
from gateway.line.held_slots import HeldSlots
from gateway.line.line_terms import LineBounds, kept_ms
from gateway.line.local_service import LocalService
from gateway.line.ticket import EntryMode, Granted, Ticket
from gateway.line.ticket_book import TicketBook

log = structlog.get_logger(__name__)

# Five missed heartbeats: a worker that was killed gives its slots back within five seconds.
LEASE_MS = 5_000
# The places of a dead worker's callers: their connections broke, and they come back soon.
_KEPT_AFTER_DEATH_MS = 30_000
# What a caller is told when nobody knows yet how fast the line drains.
_WAIT_UNKNOWN_S = 10.0
_ENDED = -1
# How the scripts are told that a ticket avoids no replica.
_NOBODY = "-"


class LineLease:
    """`replicas` is set by whoever knows them; the rest is as of the last heartbeat."""

    def __init__(
        self,
        flow: FlowRedis,
        pool: str,
        worker_id: str,
        bounds: LineBounds,
        clock: Callable[[], float],
    ) -> None:
        self._flow = flow
        self._keys = (redis_keys.pool(pool),)
        self._renewal_keys = (*self._keys, redis_keys.demand(pool))
        self._bounds = bounds
        self._clock = clock
        self._calls: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.pool = pool
        self.worker_id = worker_id
        self.held = HeldSlots()
        self.tickets = TicketBook()
        self.locally = LocalService(self.held, self.tickets)
        self.drain = DrainRate()
        self.waiting_everywhere = 0
        self.live_workers = 1
        self.replicas: dict[str, Replica] = {}
        self.slots_used: dict[str, int] = {}

    async def register(self, ticket: Ticket, mode: EntryMode) -> None:
        """Has Redis take the ticket into the line, or grant it at once.

        Raises:
            AccountQueueFull, QueueFull: see PoolLine.enter.
            FlowUnavailable: nobody knows whether Redis has it.
        """
        ask = ticket.ask
        retry_after_s = self.retry_after_s()
        args = (
            *(self.worker_id, ticket.id, ask.account_id, f"{ticket.charge:.6f}"),
            *(ask.concurrent_requests, ask.waiting_requests, self._bounds.tickets_max),
            *(ticket.avoid or _NOBODY, kept_ms(retry_after_s), mode.value, ask.prefix),
        )
        self.tickets.begin_entering(ticket)
        try:
            answer = await self._flow.run("enter_line", self._keys, args)
            if answer[0] == _ENDED and mode is EntryMode.AGAIN:
                raise FlowUnavailable("the lease ended as soon as it was renewed")
            if answer[0] == _ENDED:  # or Redis is new: tell what we hold, then again
                await self._renew_together()
                answer = await self._flow.run("enter_line", self._keys, args)
        finally:
            self.tickets.end_entering(ticket)
        what, replica_id, *grants = answer
        if what == 0:
            self.tickets.register(ticket)
        elif what == 1:
            self.held.take(replica_id, ask.account_id)
            self.tickets.remove(ticket)
            ticket.tell(Granted(replica_id, time.perf_counter(), ticket.charge))
        elif what == -2:
            raise AccountQueueFull(ask.waiting_requests, retry_after_s)
        elif what == -3:
            raise QueueFull(retry_after_s)
        self.take_grants(grants)

    def take_grants(self, grants: Sequence[str]) -> None:
        """Flat triples of ticket, replica and account, as the scripts give them."""
        for ticket_id, replica_id, account_id in _triples(grants):
            if not self.tickets.is_new_grant(ticket_id):
                continue  # pushed, and told by a heartbeat as well
            self.held.acknowledge(ticket_id)
            self.held.take(replica_id, account_id)
            ticket = self.tickets.waiting.get(ticket_id)
            if ticket is None:  # its caller left meanwhile, or got a slot by another way
                self.held.release(replica_id, account_id)
                if charge := self.tickets.charge_of_left(ticket_id):
                    self.held.correct(account_id, -charge)
                self.call_soon()
                continue
            self.tickets.remove(ticket)
            ticket.tell(Granted(replica_id, time.perf_counter(), ticket.charge))

    @property
    def wait_s(self) -> float:
        """When somebody who came now would be served."""
        estimate = self.drain.estimate(self.waiting_everywhere)
        return _WAIT_UNKNOWN_S if estimate is None else estimate.p50_s

    def retry_after_s(self) -> int:
        """The same within what SDKs honour."""
        return max(1, min(RETRY_AFTER_S_MAX, round(self.wait_s)))

    # Heartbeats -------------------------------------------------------------------------------

    async def renew(self) -> None:
        """One heartbeat.

        Raises:
            FlowUnavailable: Redis did not answer; the lease runs on.
        """
        try:
            answer = await self._flow.run_first("renew_worker", self._renewal_keys, self._renewal)
        except FlowUnavailable:
            self.serve_locally()
            raise
        self.live_workers, was_known, known, granted, everywhere, used, grants = answer
        self.waiting_everywhere = everywhere
        self.slots_used = {used[i]: int(used[i + 1]) for i in range(0, len(used), 2)}
        self.drain.look(self._clock(), granted, everywhere)
        self.take_grants(grants)
        if self.tickets.has_leaves:
            self.call_soon()
        if not was_known or not self.tickets.agrees_with(known):
            await self._register_tickets()

    async def _renew_together(self) -> None:
        """One heartbeat for all who find at the same time that the lease has ended."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self.renew(), name="renew-lease")
        await asyncio.shield(self._renewing)

    def _renewal(self) -> Sequence[str | int]:
        # No call is unanswered now: both sides mean the same moment.
        capacity: list[str | int] = [len(self.replicas)]
        for replica in self.replicas.values():
            capacity += (replica.replica_id, replica.slots)
        return [
            *(self.worker_id, LEASE_MS, _KEPT_AFTER_DEATH_MS),
            *(round(self.tickets.oldest_wait_s(self._clock()) * 1000), self.tickets.tokens),
            *self.held.renewal(),
            *capacity,
            *self.held.take_acknowledged(),
        ]

    async def _register_tickets(self) -> None:
        """Makes the tickets that Redis knows of this worker equal to those that wait here."""
        known = set(await self._flow.run("read_tickets", self._keys, (self.worker_id,)))
        again = self.tickets.reconcile(known)
        if self.tickets.has_leaves:
            self.call_soon()
        for ticket in again:
            if ticket.id not in self.tickets.waiting:
                continue
            try:
                await self.register(ticket, EntryMode.AGAIN)
            except FlowUnavailable:
                self.tickets.lose(ticket)
                raise

    async def stop(self) -> None:
        """Gives up the lease and every slot. Failing that, the lease ends by itself."""
        try:
            while not await self._flow.run(
                "leave_worker", self._keys, (self.worker_id, _KEPT_AFTER_DEATH_MS)
            ):
                pass
        except FlowUnavailable as error:
            log.warning("lease_left_to_expire", pool=self.pool, error=str(error))

    # Calls that nobody waits for --------------------------------------------------------------

    def call_soon(self) -> None:
        """Tells Redis what was given back; all of one turn of the loop travels together."""
        if self._calls is None or self._calls.done():
            self._calls = asyncio.create_task(self._send_calls(), name="line-calls")

    async def _send_calls(self) -> None:
        try:
            while self.held.has_news or self.tickets.has_leaves:
                if self.tickets.has_leaves:
                    await self._send_leaves()
                if self.held.has_news:
                    args = [self.worker_id, *self.held.next_release()]
                    grants = await self._flow.run("release_slots", self._keys, args)
                    if grants != [_ENDED]:
                        self.take_grants(grants)
                    self.held.release_answered()
        except FlowUnavailable:
            # Counts are right again with the next heartbeat that gets through; leaves wait for it.
            self.held.release_answered()
            self.serve_locally()

    async def _send_leaves(self) -> None:
        for keep_ms, ids in self.tickets.next_leaves():
            args: list[str | int] = [self.worker_id, keep_ms, *ids]
            grants = await self._flow.run("leave_line", self._keys, args)
            self.tickets.left(ids)
            self.take_grants(grants)

    def serve_locally(self) -> None:
        """Hands out this worker's share of the slots while Redis is gone."""
        self.locally.serve(self.replicas.values(), self.live_workers)


def _triples(flat: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for i in range(0, len(flat), 3):
        yield flat[i], flat[i + 1], flat[i + 2]
