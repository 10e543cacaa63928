"""One worker's lease on a pool, and all that it and the flow Redis tell each other by it.

Slots and tickets are counted under a lease that a heartbeat a second renews. Every call here also
serves the line: whatever slots are free then go to whoever is next, over all workers and gateways.
Grants for this worker's tickets come back in the answer, or are pushed when another worker's call
made them; a grant that gets lost is told again by the next heartbeat until it is acknowledged.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson
import structlog

from gateway.engines.replica_record import Replica
from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from gateway.line.drain_rate import DrainRate
from gateway.line.held_slots import HeldSlots
from gateway.line.line_calls import LineCalls
from gateway.line.line_terms import Entered, LineBounds, kept_ms
from gateway.line.local_service import LocalService
from gateway.line.reentry import Reentry
from gateway.line.ticket import EntryMode, Ticket
from gateway.line.ticket_book import TicketBook
from gateway.queue_errors import AccountQueueFull, QueueFull

log = structlog.get_logger(__name__)

# Five missed heartbeats: a worker that was killed gives its slots back within five seconds.
LEASE_MS = 5_000
# The places of a dead worker's callers: their connections broke, and they come back soon.
_KEPT_AFTER_DEATH_MS = 30_000
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
        self._renewing: asyncio.Task[None] | None = None
        self.pool = pool
        self.worker_id = worker_id
        self.held = HeldSlots()
        self.tickets = TicketBook()
        self.locally = LocalService(self.held, self.tickets)
        self._calls = LineCalls(
            flow, self._keys, worker_id, self.held, self.tickets, self.serve_locally
        )
        self._reentry = Reentry(pool, self.tickets, partial(self.register, mode=EntryMode.AGAIN))
        self.drain = DrainRate()
        self.waiting_everywhere = 0
        self.live_workers = 1
        # Whether Redis has answered the last heartbeat.
        self.is_heard = True
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
            *(ticket.avoid or _NOBODY, kept_ms(retry_after_s), mode.value),
            *(ask.prefix, ask.tokens),
        )
        try:
            if mode is not EntryMode.AGAIN:
                await self._reentry.end()  # those who were here before stand before it
            answer = await self._enter(ticket, args)
            if answer[0] == Entered.LEASE_ENDED and mode is EntryMode.AGAIN:
                raise FlowUnavailable("the lease has ended before its tickets were back")
            if answer[0] == Entered.LEASE_ENDED:  # or Redis is new: tell what we hold, then again
                await self._renew_together()
                await self._reentry.end()
                answer = await self._enter(ticket, args)
        except BaseException:  # also one that is cancelled: an answer may come all the same
            self.tickets.lose(ticket)
            raise
        what = self._take_entered(ticket, answer)
        if what == Entered.ACCOUNT_FULL:
            raise AccountQueueFull(ask.waiting_requests, self.retry_after_s(answer[2]))
        if what == Entered.LINE_FULL:
            raise QueueFull(retry_after_s, place_is_kept=bool(answer[2]))

    async def _enter(self, ticket: Ticket, args: Sequence[str | int]) -> Any:
        call = self._flow.call("enter_line", self._keys, args)
        try:
            return await call.answer
        except FlowUnavailable:
            self.tickets.doubt(ticket)
            raise
        except asyncio.CancelledError:
            # Its caller hung up. Whatever it is granted is to be given back.
            self.tickets.doubt(ticket)
            call.leave_to(partial(self._take_entered_late, ticket))
            raise

    def _take_entered_late(self, ticket: Ticket, answer: Any) -> None:
        self.tickets.believe((ticket.id,))
        self._take_entered(ticket, answer)

    def _take_entered(self, ticket: Ticket, answer: Any) -> int:
        """What enter_line.lua has made of the ticket, which may have left meanwhile."""
        what: int
        what, replica_id, *grants = answer
        if what == Entered.GRANTED:
            account_id = ticket.ask.account_id
            self._calls.take_grant(ticket.id, replica_id, account_id, ticket.charge)
        elif what == Entered.WAITING:
            self.tickets.take_into_line(ticket)
            if self.tickets.has_leaves:
                self.call_soon()
        elif what == Entered.LEASE_ENDED:
            self.tickets.lose(ticket)
        if what not in (Entered.ACCOUNT_FULL, Entered.LINE_FULL):  # they say something else there
            self.take_grants(grants)
        return what

    @property
    def wait_s(self) -> float:
        """When somebody who came now would be served."""
        return self.drain.wait_s(self.waiting_everywhere)

    def retry_after_s(self, place: int | None = None) -> int:
        """When whoever has `place` others in front will be served, within what SDKs honour.

        Of somebody who came now where no place is named.
        """
        return self.drain.retry_after_s(self.waiting_everywhere if place is None else place)

    # Heartbeats -------------------------------------------------------------------------------

    async def renew(self) -> None:
        """One heartbeat. Tickets that Redis has lost enter again behind it, beside later ones.

        Raises:
            FlowUnavailable: Redis did not answer; the lease runs on.
        """
        asked: list[str] = []  # the tickets that are doubted as it is sent

        def renewal() -> Sequence[str]:
            asked[:] = self.tickets.doubted
            return self._renewal(asked)

        try:
            answer = await self._flow.run_first("renew_worker", self._renewal_keys, renewal)
        except FlowUnavailable:
            self.is_heard = False
            self.serve_locally()
            raise
        self.is_heard = True
        self.live_workers, was_known, known, granted, everywhere, used, grants = answer
        self.waiting_everywhere = everywhere
        self.slots_used = {used[i]: int(used[i + 1]) for i in range(0, len(used), 2)}
        self.drain.look(self._clock(), granted, everywhere)
        self.take_grants(grants)
        if self.tickets.has_leaves or self.held.has_news:
            self.call_soon()
        # Meanwhile Redis knows some of them only, which is no news.
        is_settled = not self._reentry.is_under_way
        if not was_known or (is_settled and (asked or not self.tickets.agrees_with(known))):
            await self._reconcile(asked)

    async def _renew_together(self) -> None:
        """One heartbeat for all who find at the same time that the lease has ended."""
        await asyncio.shield(self.renew_soon())

    def renew_soon(self) -> "asyncio.Task[None]":
        """A heartbeat before its time, so that Redis knows at once which replicas there are."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self.renew(), name="renew-lease")
            self._renewing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._renewing

    def _renewal(self, doubted: Sequence[str]) -> Sequence[str]:
        # No call is unanswered now: both sides mean the same moment.
        said = {
            "worker": self.worker_id,
            "lease_ms": LEASE_MS,
            "keep_ms": _KEPT_AFTER_DEATH_MS,
            "slots": self.held.slots_to_count(),
            "requests": self.held.requests_to_count(),
            "capacity": {each.replica_id: each.slots for each in self.replicas.values()},
            "doubted": doubted,
            "acknowledged": self.held.acknowledgements(),
        }
        return [orjson.dumps(said).decode()]

    async def _reconcile(self, asked: Sequence[str]) -> None:
        """Makes the tickets that Redis knows of this worker equal to those that wait here."""
        known = set(await self._flow.run("read_tickets", self._keys, (self.worker_id,)))
        self.tickets.reconcile(known)
        self.tickets.believe(asked)
        if self.tickets.has_leaves:
            self.call_soon()
        self._reentry.start()

    async def stop(self) -> None:
        """Gives up the lease and every slot. Failing that, the lease ends by itself."""
        try:
            while not await self._flow.run(
                "leave_worker", self._keys, (self.worker_id, _KEPT_AFTER_DEATH_MS)
            ):
                pass
        except FlowUnavailable as error:
            log.warning("lease_left_to_expire", pool=self.pool, error=str(error))

    # ------------------------------------------------------------------------------------------

    def take_grants(self, grants: Sequence[str]) -> None:
        """Flat triples of ticket, replica and account, as the scripts give them."""
        self._calls.take_grants(grants)

    def call_soon(self) -> None:
        """Tells Redis what was given back; all of one turn of the loop travels together."""
        self._calls.call_soon()

    def serve_locally(self) -> None:
        """Hands out this worker's share of the slots while Redis is gone."""
        self.locally.serve(self.replicas.values(), self.live_workers)
