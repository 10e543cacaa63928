"""Tells those who wait where they stand, as often as each wants to hear of it."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence

from gateway.line.pool_line import PoolLine
from gateway.line.ticket import Place, Ticket

# Places asked for in one call: 500 take Redis about a millisecond. The calls travel together.
_PLACES_A_CALL = 500


class PlaceNotices:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    async def tell(self, line: PoolLine) -> None:
        """Their places, from one look at the line.

        Raises:
            FlowUnavailable: Redis did not answer.
        """
        due = self._due(line)
        starts = range(0, len(due), _PLACES_A_CALL)
        groups = [due[start : start + _PLACES_A_CALL] for start in starts]
        await asyncio.gather(*(self._tell_places(line, group) for group in groups))

    def tell_unknown(self, line: PoolLine) -> None:
        """That they still wait, and that nobody knows where they stand."""
        self._tell(self._due(line), itertools.repeat(Place(None, None)))

    async def _tell_places(self, line: PoolLine, tickets: Sequence[Ticket]) -> None:
        positions = await line.positions(tickets)
        # Below 0: granted meanwhile, or not registered yet.
        told = [(t, p) for t, p in zip(tickets, positions, strict=True) if p >= 0]
        places = [Place(p + 1, line.lease.drain.estimate(p)) for _, p in told]
        self._tell([ticket for ticket, _ in told], places)

    def _due(self, line: PoolLine) -> list[Ticket]:
        now = self._clock()
        return [t for t in line.tickets.waiting.values() if t.notice_at <= now]

    def _tell(self, tickets: Sequence[Ticket], places: Iterable[Place]) -> None:
        for ticket, place in zip(tickets, places, strict=False):
            if ticket.foretold is None and place.eta is not None:
                ticket.foretold = (place.eta, self._clock())
            ticket.notice_at = float("inf")
            ticket.tell(place)
