"""Which tickets of one worker wait in one pool, and what of them Redis has been told. Pure.

A ticket is entering → in line → gone; lost where Redis has not, or may not have, taken it into the
line, until a heartbeat finds out (TicketState, and _MAY_FOLLOW below). What Redis is to hear of
tickets that are gone is kept by their ids: that they leave, and whether their calls have run.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from gateway.line.recent_grants import RecentGrants
from gateway.line.ticket import Ticket, TicketState

_LEAVES_A_CALL = 500
# Four times the calls that can be under way as Redis falls silent. Later ones were never sent.
_DOUBTED_MAX = 2000

# Looking a member up in its class takes longer than all else that is done with it here.
_ENTERING, _IN_LINE, _LOST, _GONE = TicketState

_MAY_FOLLOW: Mapping[TicketState, frozenset[TicketState]] = {
    _ENTERING: frozenset((_IN_LINE, _LOST, _GONE)),
    _IN_LINE: frozenset((_LOST, _GONE)),
    _LOST: frozenset((_IN_LINE, _ENTERING, _GONE)),
    _GONE: frozenset(),
}


class TicketBook:
    def __init__(self) -> None:
        # Every ticket that is not gone, oldest first, and what they come to.
        self.waiting: dict[str, Ticket] = {}
        self.waiting_by_account: Counter[str] = Counter()
        self.bytes = 0
        # Redis knows them, and is to be told that they leave: ticket -> how long to keep its place.
        self._leaving: dict[str, int] = {}
        # Their calls were sent and may have run without an answer: the next heartbeat asks.
        self._doubted: dict[str, Ticket] = {}
        self._grants = RecentGrants()

    def add(self, ticket: Ticket) -> None:
        """A new one, which is entering."""
        self.waiting[ticket.id] = ticket
        self.waiting_by_account[ticket.ask.account_id] += 1
        self.bytes += ticket.ask.body_bytes

    def remove(self, ticket: Ticket) -> None:
        """It was granted or refused: nothing is to be told. Does nothing where it is gone."""
        if ticket.state is not _GONE:
            self._move(ticket, _GONE)

    def leave(self, ticket: Ticket, keep_ms: int) -> bool:
        """It waits no longer, and Redis is to be told: at once, or when it turns out to know it.

        Whether it is known by now.
        """
        was = ticket.state
        ticket.keep_ms = keep_ms
        self.remove(ticket)
        if was is _IN_LINE:
            self._tell_that_it_leaves(ticket)
        elif was is _ENTERING:  # its grant may come before the answer to its call
            self._grants.expect(ticket.id, ticket.charge)
        return was is _IN_LINE

    def grant_locally(self, ticket: Ticket) -> None:
        """Served without Redis, which takes the ticket out once it is back."""
        self.leave(ticket, keep_ms=0)

    def enter_again(self, ticket: Ticket) -> None:
        """Another call for one that was lost."""
        self._move(ticket, _ENTERING)

    def take_into_line(self, ticket: Ticket) -> None:
        """Redis has, and is to be told of one that is gone meanwhile."""
        if ticket.state is _GONE:
            self._tell_that_it_leaves(ticket)
        elif ticket.state is not _IN_LINE:
            self._move(ticket, _IN_LINE)

    def lose(self, ticket: Ticket) -> None:
        """Its call has failed; does nothing where it is gone."""
        if ticket.state is _ENTERING:
            self._move(ticket, _LOST)

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
        self._leaving.pop(ticket_id, None)  # Redis took it out of the line as it granted it
        return self._grants.is_new(ticket_id)

    def charge_of_left(self, ticket_id: str) -> float:
        """What a grant has charged for nothing that came as its ticket left."""
        if doubted := self._doubted.get(ticket_id):
            return doubted.charge
        return self._grants.charge_of_left(ticket_id)

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

    def agrees_with(self, known: int) -> bool:
        """Whether Redis can be right, knowing so many of this worker's tickets."""
        states = Counter([ticket.state for ticket in self.waiting.values()])
        return not states[_LOST] and known == states[_IN_LINE] + len(self._leaving)

    def reconcile(self, known: set[str]) -> None:
        """Takes over what Redis knows. What it knows and nobody waits for is to leave."""
        for ticket_id in known - self.waiting.keys() - self._leaving.keys():
            if doubted := self._doubted.get(ticket_id):
                self._tell_that_it_leaves(doubted)
            else:
                self._leaving[ticket_id] = 0
        for ticket in self.waiting.values():
            is_known = ticket.id in known
            if ticket.state is _IN_LINE and not is_known:
                self._move(ticket, _LOST)
            elif ticket.state is _LOST and is_known:
                self._move(ticket, _IN_LINE)

    def lost(self, count_max: int) -> list[Ticket]:
        """The oldest that must enter again."""
        lost = (ticket for ticket in self.waiting.values() if ticket.state is _LOST)
        return list(itertools.islice(lost, count_max))

    def _move(self, ticket: Ticket, to: TicketState) -> None:
        """Every change of a ticket's state.

        Raises:
            ValueError: it is in a state from which it cannot come there.
        """
        if to not in _MAY_FOLLOW[ticket.state]:
            raise ValueError(f"ticket {ticket.id} is {ticket.state}, and cannot be {to}")
        ticket.state = to
        if to is _GONE:
            del self.waiting[ticket.id]
            self.bytes -= ticket.ask.body_bytes
            account_id = ticket.ask.account_id
            self.waiting_by_account[account_id] -= 1
            if not self.waiting_by_account[account_id]:
                del self.waiting_by_account[account_id]

    def _tell_that_it_leaves(self, ticket: Ticket) -> None:
        self._leaving[ticket.id] = ticket.keep_ms
        self._grants.expect(ticket.id, ticket.charge)
