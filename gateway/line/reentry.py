"""Tickets that Redis has lost come back into the line, oldest first, while heartbeats go on.

A new flow Redis, or one that has taken the lease away, knows none of them. Heartbeats find that
out and start it; they must not wait for it, or with thousands of tickets the lease would end.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.errors import FlowUnavailable
from gateway.line.ticket import Ticket
from gateway.line.ticket_book import TicketBook

log = structlog.get_logger(__name__)

# Tickets that enter at once: 10,000 take 40 round trips. Each is a call of its own, 60 µs of a busy
# Redis, which serves others in between; 250 are 15 ms, a fraction of the deadline (250 ms), and one
# batch of the flow client.
_TICKETS_AT_ONCE = 250


class Reentry:
    """`enter` has Redis take one ticket into the line again."""

    def __init__(
        self, pool: str, tickets: TicketBook, enter: Callable[[Ticket], Awaitable[None]]
    ) -> None:
        self._pool = pool
        self._tickets = tickets
        self._enter = enter
        self._task: asyncio.Task[None] | None = None

    @property
    def is_under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Goes on until none is lost, or until a call fails: then the next heartbeat finds out."""
        if not self.is_under_way:
            self._task = asyncio.create_task(self._enter_lost(), name="enter-again")

    async def end(self) -> None:
        """Waits until it is over, whether or not it came to its end."""
        if self._task is not None and not self._task.done():
            await asyncio.wait((self._task,))

    async def _enter_lost(self) -> None:
        try:
            while lost := self._tickets.lost(_TICKETS_AT_ONCE):
                await self._enter_all(lost)
        except FlowUnavailable as error:
            log.warning("tickets_not_entered_again", pool=self._pool, error=str(error))

    async def _enter_all(self, lost: list[Ticket]) -> None:
        """Their calls are sent in this order, and run in it."""
        for ticket in lost:
            self._tickets.enter_again(ticket)
        ends = await asyncio.gather(*map(self._enter, lost), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end
