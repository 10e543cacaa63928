"""A worker's own line while the flow Redis is gone: its share of the slots and of the bounds."""

import time
from collections.abc import Collection

from gateway.engines.replica_record import Replica
from gateway.line.held_slots import HeldSlots
from gateway.line.line_terms import LineBounds
from gateway.line.local_share import next_ticket, replica_with_room, share_of
from gateway.line.ticket import Granted, Ticket
from gateway.line.ticket_book import TicketBook


class LocalService:
    def __init__(self, held: HeldSlots, tickets: TicketBook) -> None:
        self._held = held
        self._tickets = tickets

    def serve(self, replicas: Collection[Replica], live_workers: int) -> None:
        """Hands this worker's share of the slots to its own tickets, until Redis is back.

        The order of the line is Redis's, so these grants are not charged in it.
        """
        while ticket := next_ticket(
            self._tickets.waiting.values(), self._held.by_account, live_workers
        ):
            replica = replica_with_room(replicas, self._held.by_replica, live_workers, ticket.avoid)
            if replica is None:
                return
            self._held.take(replica.replica_id, ticket.ask.account_id)
            self._tickets.grant_locally(ticket)
            ticket.tell(Granted(replica.replica_id, time.perf_counter(), charge=0.0))

    def is_beyond_the_account(self, ticket: Ticket, live_workers: int) -> bool:
        """Whether more of the ticket's account wait here than this worker's share."""
        waiting = self._tickets.waiting_by_account[ticket.ask.account_id]
        return waiting > share_of(ticket.ask.waiting_requests, live_workers)

    def place_of(self, account_id: str) -> int:
        """How many wait here before the account's first; all of them where none of its does."""
        place = -1
        for place, ticket in enumerate(self._tickets.waiting.values()):
            if ticket.ask.account_id == account_id:
                return place
        return place + 1

    def is_beyond_the_line(self, bounds: LineBounds, live_workers: int) -> bool:
        """Whether more wait here than this worker's share of the line."""
        return len(self._tickets.waiting) > share_of(bounds.tickets_max, live_workers)
