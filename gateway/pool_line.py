"""One worker's side of the line in front of a pool. The line itself lives on the flow Redis.

Every call into the line (enter, release, leave, heartbeat) also serves it: whatever slots are free
then go to whoever is next, over all workers and gateways. Grants for this worker's tickets come
back in the answer, or are pushed when another worker's call made them; a grant that gets lost is
told again by the next heartbeat until it is acknowledged. While the flow Redis is gone the worker
serves its own tickets from its share of the slots.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from gateway import redis_keys
from gateway.drain_rate import DrainRate
from gateway.errors import RETRY_AFTER_S_MAX, AccountQueueFull, ApiError, FlowUnavailable, QueueFull
from gateway.held_slots import HeldSlots
from gateway.line_terms import AccountView, LineBounds, kept_ms
from gateway.local_service import LocalService
from gateway.metrics import FLOW_FALLBACKS
from gateway.redis_client import FlowRedis
from gateway.replica_record import Replica
from gateway.ticket import Granted, Place, SlotAsk, Ticket
from gateway.ticket_book import TicketBook

log = structlog.get_logger(__name__)

# Five missed heartbeats: a worker that was killed gives its slots back within five seconds.
LEASE_MS = 5_000
# The places of a dead worker's callers: their connections broke, and they come back soon.
_KEPT_AFTER_DEATH_MS = 30_000
# What a caller is told when nobody knows yet how fast the line drains.
_WAIT_UNKNOWN_S = 10.0
_ENDED = -1


class PoolLine:
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
        self._worker_id = worker_id
        self._bounds = bounds
        self._clock = clock
        self._numbers = itertools.count()
        self._calls: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.pool = pool
        self.drain = DrainRate()
        self.held = HeldSlots()
        self.tickets = TicketBook()
        self._locally = LocalService(self.held, self.tickets)
        self.waiting_everywhere = 0
        self.live_workers = 1
        self.replicas: dict[str, Replica] = {}
        self.slots_used: dict[str, int] = {}

    # Requests ---------------------------------------------------------------------------------

    async def enter(self, ask: SlotAsk, *, avoid: str = "-") -> Ticket:
        """A ticket, granted at once where a slot is free and nobody waits.

        `avoid` names a replica that gave no answer to this request: it goes first then, free of
        charge.

        Raises:
            AccountQueueFull: as many of the account's requests wait as may.
            QueueFull: the line is as long as may be; the caller's place is kept.
        """
        ticket = Ticket(
            f"{time.time_ns() // 1_000_000:013d}-{self._worker_id}-{next(self._numbers):08x}",
            ask, avoid, now=self._clock(), wait_s_max=self._bounds.wait_s_max,
        )  # fmt: skip
        self.tickets.add(ticket)
        try:
            await self._enter(ticket, "new" if avoid == "-" else "retry")
        except FlowUnavailable:
            FLOW_FALLBACKS.labels("slots").inc()
            self.tickets.lose(ticket)
            self._serve_locally()
            self._check_local_bounds(ticket)
        except ApiError:
            self.tickets.remove(ticket)
            raise
        except BaseException:  # hung up while nobody knows what the line has made of it
            self.abandon(ticket)
            raise
        if ticket.granted is None and self.tickets.bytes > self._bounds.bytes_max:
            self.leave(ticket, retry_after_s=self.retry_after_s())
            raise QueueFull(self.retry_after_s())
        return ticket

    async def _enter(self, ticket: Ticket, mode: str) -> None:
        ask = ticket.ask
        retry_after_s = self.retry_after_s()
        args = (
            *(self._worker_id, ticket.id, ask.account_id, f"{ticket.charge:.6f}"),
            *(ask.concurrent_requests, ask.waiting_requests, self._bounds.tickets_max),
            *(ticket.avoid, kept_ms(retry_after_s), mode, ask.prefix),
        )
        self.tickets.begin_entering(ticket)
        try:
            answer = await self._flow.run("enter_line", self._keys, args)
            if answer[0] == _ENDED and mode == "again":
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
            ticket.tell(Granted(replica_id, time.perf_counter()))
        elif what == -2:
            raise AccountQueueFull(ask.waiting_requests, retry_after_s)
        elif what == -3:
            raise QueueFull(retry_after_s)
        self.take_grants(grants)

    def leave(self, ticket: Ticket, *, retry_after_s: int = 0) -> None:
        """Takes a waiting ticket out; its place is kept when the caller is told to come back."""
        self.tickets.leave(ticket, kept_ms(retry_after_s) if retry_after_s else 0)
        self._call_soon()

    def abandon(self, ticket: Ticket) -> None:
        """Gives up a ticket whose caller hung up, in line or with a slot that has just come."""
        if ticket.granted is not None:
            self.release(ticket.granted.replica_id, ticket.ask.account_id)
            self.correct(ticket.ask.account_id, -ticket.charge)
        else:
            self.leave(ticket)

    def release(self, replica_id: str, account_id: str) -> None:
        """Gives one slot back. Never waits: slots of one turn of the loop travel together."""
        self.held.release(replica_id, account_id)
        self._call_soon()

    def correct(self, account_id: str, charge: float) -> None:
        """What the account was charged too little, or too much where it is below 0."""
        if charge:
            self.held.correct(account_id, charge)
            self._call_soon()

    def take_grants(self, grants: Sequence[str]) -> None:
        """Flat triples of ticket, replica and account, as the scripts give them."""
        for ticket_id, replica_id, account_id in _triples(grants):
            if not self.tickets.is_new_grant(ticket_id):
                continue  # pushed, and told by a heartbeat as well
            self.held.acknowledge(ticket_id)
            self.held.take(replica_id, account_id)
            ticket = self.tickets.waiting.get(ticket_id)
            if ticket is None:  # its caller hung up meanwhile, or got it by another way
                self.release(replica_id, account_id)
                continue
            self.tickets.remove(ticket)
            ticket.tell(Granted(replica_id, time.perf_counter()))

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
            self._serve_locally()
            raise
        self.live_workers, was_known, known, granted, everywhere, used, grants = answer
        self.waiting_everywhere = everywhere
        self.slots_used = {used[i]: int(used[i + 1]) for i in range(0, len(used), 2)}
        self.drain.look(self._clock(), granted, everywhere)
        self.take_grants(grants)
        if self.tickets.has_leaves:
            self._call_soon()
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
            *(self._worker_id, LEASE_MS, _KEPT_AFTER_DEATH_MS),
            *(round(self.tickets.oldest_wait_s(self._clock()) * 1000), self.tickets.tokens),
            *self.held.renewal(),
            *capacity,
            *self.held.take_acknowledged(),
        ]

    async def _register_tickets(self) -> None:
        """Makes the tickets that Redis knows of this worker equal to those that wait here."""
        known = set(await self._flow.run("read_tickets", self._keys, (self._worker_id,)))
        again = self.tickets.reconcile(known)
        if self.tickets.has_leaves:
            self._call_soon()
        for ticket in again:
            if ticket.id not in self.tickets.waiting:
                continue
            try:
                await self._enter(ticket, "again")
            except FlowUnavailable:
                self.tickets.lose(ticket)
                raise

    async def positions(self, tickets: Sequence[Ticket]) -> list[int]:
        """How many stand before each ticket, from one look; -1 for one that does not wait.

        Raises:
            FlowUnavailable: Redis did not answer.
        """
        ids = [ticket.id for ticket in tickets]
        answer: list[int] = await self._flow.run("read_places", self._keys, ids)
        return answer[2:]  # behind grants so far and tickets waiting

    async def account_view(self, account_id: str) -> AccountView:
        """What the account runs here and where its tickets stand, over all workers.

        Raises:
            FlowUnavailable: Redis did not answer.
        """
        _, everywhere, running, *flat = await self._flow.run(
            "read_account", self._keys, (account_id,)
        )
        places = [
            (str(flat[i]), Place(flat[i + 1] + 1, self.drain.estimate(flat[i + 1])))
            for i in range(0, len(flat), 2)
        ]
        return AccountView(self.pool, running, everywhere, places)

    async def stop(self) -> None:
        """Gives up the lease and every slot. Failing that, the lease ends by itself."""
        try:
            while not await self._flow.run(
                "leave_worker", self._keys, (self._worker_id, _KEPT_AFTER_DEATH_MS)
            ):
                pass
        except FlowUnavailable as error:
            log.warning("lease_left_to_expire", pool=self.pool, error=str(error))

    # Calls that nobody waits for --------------------------------------------------------------

    def _call_soon(self) -> None:
        if self._calls is None or self._calls.done():
            self._calls = asyncio.create_task(self._send_calls(), name="line-calls")

    async def _send_calls(self) -> None:
        try:
            while self.held.has_news or self.tickets.has_leaves:
                if self.tickets.has_leaves:
                    await self._send_leaves()
                if self.held.has_news:
                    args = [self._worker_id, *self.held.next_release()]
                    grants = await self._flow.run("release_slots", self._keys, args)
                    if grants != [_ENDED]:
                        self.take_grants(grants)
                    self.held.release_answered()
        except FlowUnavailable:
            # Counts are right again with the next heartbeat that gets through; leaves wait for it.
            self.held.release_answered()
            self._serve_locally()

    async def _send_leaves(self) -> None:
        for keep_ms, ids in self.tickets.next_leaves():
            args: list[str | int] = [self._worker_id, keep_ms, *ids]
            grants = await self._flow.run("leave_line", self._keys, args)
            self.tickets.left(ids)
            self.take_grants(grants)

    def _serve_locally(self) -> None:
        self._locally.serve(self.replicas.values(), self.live_workers)

    def _check_local_bounds(self, ticket: Ticket) -> None:
        """The line's bounds while Redis is gone: this worker's share of them.

        Raises:
            AccountQueueFull, QueueFull: as when it is there.
        """
        if ticket.granted is not None:
            return
        if self._locally.is_beyond_the_account(ticket, self.live_workers):
            self.leave(ticket)
            raise AccountQueueFull(ticket.ask.waiting_requests, self.retry_after_s())
        if self._locally.is_beyond_the_line(self._bounds, self.live_workers):
            self.leave(ticket, retry_after_s=self.retry_after_s())
            raise QueueFull(self.retry_after_s())


def _triples(flat: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for i in range(0, len(flat), 3):
        yield flat[i], flat[i + 1], flat[i + 2]
