"""What one worker tells the flow Redis while nobody waits for it, and the grants that come back.

Slots given back, corrections of charges and tickets that leave go out together once a turn of the
loop. Each of these calls serves the line, so its answer may grant tickets of this worker.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from gateway.errors import FlowUnavailable
from gateway.flow.redis_client import FlowRedis
from gateway.line.held_slots import HeldSlots
from gateway.line.line_terms import Entered
from gateway.line.ticket import Granted
from gateway.line.ticket_book import TicketBook

# What release_slots.lua answers to a worker whose lease has ended; else grants.
_LEASE_ENDED = [Entered.LEASE_ENDED]


class LineCalls:
    """`on_failure` is called when Redis did not answer."""

    def __init__(
        self,
        flow: FlowRedis,
        keys: Sequence[str],
        worker_id: str,
        held: HeldSlots,
        tickets: TicketBook,
        on_failure: Callable[[], None],
    ) -> None:
        self._flow = flow
        self._keys = keys
        self._worker_id = worker_id
        self._held = held
        self._tickets = tickets
        self._on_failure = on_failure
        self._sending: asyncio.Task[None] | None = None

    def call_soon(self) -> None:
        """Tells Redis what was given back; all of one turn of the loop travels together."""
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_calls(), name="line-calls")

    def take_grants(self, grants: Sequence[str]) -> None:
        """Flat triples of ticket, replica and account, as the scripts give them."""
        for ticket_id, replica_id, account_id in _triples(grants):
            # Also one that came before: Redis tells of it until a call that acknowledges it runs.
            self._held.acknowledge(ticket_id)
            if self._tickets.is_new_grant(ticket_id):
                self.take_grant(ticket_id, replica_id, account_id)

    def take_grant(
        self, ticket_id: str, replica_id: str, account_id: str, charge: float | None = None
    ) -> None:
        """A slot for a ticket, to be given back with its charge where nobody waits any more."""
        self._held.take(replica_id, account_id)
        ticket = self._tickets.waiting.get(ticket_id)
        if ticket is not None:
            self._tickets.remove(ticket)
            ticket.tell(Granted(replica_id, time.perf_counter(), ticket.charge))
            return
        # Its caller left meanwhile, or got a slot by another way.
        self._held.release(replica_id, account_id)
        if charge is None:
            charge = self._tickets.charge_of_left(ticket_id)
        if charge:
            self._held.correct(account_id, -charge)
        self.call_soon()

    async def _send_calls(self) -> None:
        try:
            while self._held.has_news or self._tickets.has_leaves:
                if self._tickets.has_leaves:
                    await self._send_leaves()
                if self._held.has_news:
                    args = [self._worker_id, *self._held.next_release()]
                    grants = await self._flow.run("release_slots", self._keys, args)
                    if grants != _LEASE_ENDED:
                        self.take_grants(grants)
                    self._held.release_answered()
        except FlowUnavailable:
            self._held.release_failed()  # leaves wait for the next heartbeat that gets through
            self._on_failure()

    async def _send_leaves(self) -> None:
        for keep_ms, ids in self._tickets.next_leaves():
            args: list[str | int] = [self._worker_id, keep_ms, *ids]
            grants = await self._flow.run("leave_line", self._keys, args)
            self._tickets.left(ids)
            self.take_grants(grants)


def _triples(flat: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for i in range(0, len(flat), 3):
        yield flat[i], flat[i + 1], flat[i + 2]
