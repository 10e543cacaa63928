"""Which tickets of one worker wait in one pool, and what of them Redis has been told. Pure.

A ticket is entering (its call is under way) → registered (Redis knows it) → granted, or leaving
(gone here, and Redis is still to be told). One whose call failed is lost until a heartbeat gets
through; and doubted, where the call may have run all the same: that heartbeat asks for it.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator

from gateway.line.ticket import Ticket

# A grant may arrive twice, by push and by heartbeat, about a second apart; and as late as that
# after its ticket has left.
_SEEN_MAX = 10_000
_LEAVES_A_CALL = 500
# Four times the calls that can be under way as Redis falls silent. Later ones were never sent.
_DOUBTED_MAX = 2000


class TicketBook:
    def __init__(self) -> None:
        self.waiting: dict[str, Ticket] = {}
        self.waiting_by_account: Counter[str] = Counter()
        self.bytes = 0
        self._entering: set[str] = set()
        self._registered: set[str] = set()
        self._lost: set[str] = set()
        self._doubted: dict[str, Ticket] = {}
        self._leaving: dict[str, int] = {}  # ticket -> keep_ms
        self._left_charges: dict[str, float] = {}  # newest last
        self._seen: dict[str, None] = {}  # grants that have arrived, newest last

    def add(self, ticket: Ticket) -> None:
        self.waiting[ticket.id] = ticket
        self.waiting_by_account[ticket.ask.account_id] += 1
        self.bytes += ticket.ask.body_bytes

    def remove(self, ticket: Ticket) -> None:
        """It waits no longer; does nothing where it did not."""
        self._lost.discard(ticket.id)
        if self.waiting.pop(ticket.id, None) is not None:
            self.bytes -= ticket.ask.body_bytes
            account_id = ticket.ask.account_id
            self.waiting_by_account[account_id] -= 1
            if not self.waiting_by_account[account_id]:
                del self.waiting_by_account[account_id]

    def leave(self, ticket: Ticket, keep_ms: int) -> bool:
        """The same, and Redis is to be told: at once or as soon as it is known to know it.

        Whether it is known by now.
        """
        self.remove(ticket)
        ticket.keep_ms = keep_ms
        if ticket.id not in self._registered:
            return False
        self._leaving[ticket.id] = keep_ms
        self._note_charge(ticket)
        return True

    def _note_charge(self, ticket: Ticket) -> None:
        self._left_charges[ticket.id] = ticket.charge
        if len(self._left_charges) > _SEEN_MAX:
            del self._left_charges[next(iter(self._left_charges))]

    def charge_of_left(self, ticket_id: str) -> float:
        """What a grant has charged for nothing that came as its ticket left."""
        if doubted := self._doubted.get(ticket_id):
            return doubted.charge
        return self._left_charges.pop(ticket_id, 0.0)

    def grant_locally(self, ticket: Ticket) -> None:
        """Served without Redis, which takes the ticket out once it is back."""
        self.leave(ticket, keep_ms=0)

    def begin_entering(self, ticket: Ticket) -> None:
        self._entering.add(ticket.id)

    def end_entering(self, ticket: Ticket) -> None:
        self._entering.discard(ticket.id)

    def register(self, ticket: Ticket) -> None:
        """Redis knows it, and is to be told of one that left meanwhile."""
        self._registered.add(ticket.id)
        if ticket.id not in self.waiting:
            self.leave(ticket, ticket.keep_ms)

    def lose(self, ticket: Ticket) -> None:
        """Redis does not know it, or nobody knows whether it does."""
        if ticket.id in self.waiting:
            self._lost.add(ticket.id)

    def doubt(self, ticket: Ticket) -> None:
        """Its call was sent, and may have run without an answer."""
        if len(self._doubted) < _DOUBTED_MAX:
            self._doubted[ticket.id] = ticket

    def believe(self, ticket_ids: Iterable[str]) -> None:
        """What their calls have made of them is known by now."""
        for ticket_id in ticket_ids:
            self._doubted.pop(ticket_id, None)

    @property
    def doubted(self) -> list[str]:
        return list(self._doubted)

    def is_new_grant(self, ticket_id: str) -> bool:
        """Notes that a grant has arrived; False for one that had arrived before."""
        if ticket_id in self._seen:
            return False
        self._seen[ticket_id] = None
        if len(self._seen) > _SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._registered.discard(ticket_id)
        return True

    @property
    def has_leaves(self) -> bool:
        return bool(self._leaving)

    def next_leaves(self) -> Iterator[tuple[int, list[str]]]:
        """keep_ms and the tickets that leave with it; `left` is called for each that was told."""
        some = dict(itertools.islice(self._leaving.items(), _LEAVES_A_CALL))
        for keep_ms in set(some.values()):
            yield keep_ms, [ticket_id for ticket_id, keep in some.items() if keep == keep_ms]

    def left(self, ticket_ids: list[str]) -> None:
        for ticket_id in ticket_ids:
            self._leaving.pop(ticket_id, None)
            self._registered.discard(ticket_id)

    def agrees_with(self, known: int) -> bool:
        """Whether Redis can be right, knowing so many of this worker's tickets."""
        return not self._lost and known == len(self._registered)

    def reconcile(self, known: set[str]) -> list[Ticket]:
        """Takes over what Redis knows; the tickets that must be registered again.

        Those that Redis knows and nobody waits for are to leave.
        """
        for ticket_id in known - self.waiting.keys() - self._leaving.keys():
            left = self._doubted.get(ticket_id)
            self._leaving[ticket_id] = left.keep_ms if left else 0
        self._lost.clear()
        self._registered = set(known)
        return [
            ticket
            for ticket in self.waiting.values()
            if ticket.id not in known and ticket.id not in self._entering
        ]
