"""A request that waits in line, as its worker knows it."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gateway.errors import ApiError
from gateway.line.drain_rate import Estimate


class SlotAsk(NamedTuple):
    """What the line needs to know of a request.

    `charge` is what it costs its account in the order of the line: reserved `tokens` / weight.
    """

    account_id: str
    charge: float
    concurrent_requests: int
    waiting_requests: int
    body_bytes: int = 0
    tokens: int = 0
    # The conversation's digest (gateway.line.prefix_affinity); "" where it may run anywhere.
    prefix: str = ""


class EntryMode(StrEnum):
    """How a ticket comes into the line, as enter_line.lua names it."""

    NEW = "new"
    RETRY = "retry"  # its slot's replica gave no answer: it goes first and pays nothing
    AGAIN = "again"  # it waits here already, and Redis has lost it


class TicketState(StrEnum):
    """What its worker knows of a ticket; gateway.line.ticket_book leads it from one to the next."""

    ENTERING = "entering"  # it waits, and its call into the line is under way
    IN_LINE = "in line"  # it waits, and Redis knows it
    LOST = "lost"  # it waits, and Redis does not know it, or nobody knows whether it does
    GONE = "gone"  # it waits no longer: granted, refused or left


@dataclass(slots=True)
class Passage:
    """What a request has behind it in line, over all the slots that it was granted."""

    # Counts into the one longest wait that a request has.
    waited_s: float = 0.0
    # What its account was charged for it in the order of the line.
    charged: float = 0.0
    # It goes first, then, and pays no more.
    was_granted: bool = False
    # The replica that gave no answer to it.
    avoid: str | None = None


class Place(NamedTuple):
    """Where a ticket stands, 1 being next, and how long that takes; None where it is not known."""

    position: int | None
    eta: Estimate | None


class Granted(NamedTuple):
    """The ticket's turn has come: a slot on this replica is held for it."""

    replica_id: str
    at: float  # when this worker learned of it, time.perf_counter
    charge: float  # what its account was charged in the order of the line


News = Place | Granted | ApiError

# Looking a member up in its class takes longer than all else that a ticket's state costs.
_ENTERING = TicketState.ENTERING


class Ticket:
    """Its waiter reads the news; whoever serves the line tells them. Newer news replace older."""

    __slots__ = ("_news", "_waiter", "ask", "avoid", "charge", "deadline", "entered_at", "foretold",
                 "id", "keep_ms", "mode", "notice_at", "state", "waited_s_before")  # fmt: skip

    def __init__(
        self, ticket_id: str, ask: SlotAsk, passage: Passage, *, now: float, wait_s_max: float
    ) -> None:
        self.id = ticket_id
        self.ask = ask
        self.state = _ENTERING
        self.avoid = passage.avoid
        self.mode = EntryMode.RETRY if passage.was_granted else EntryMode.NEW
        # What its grant from the line costs.
        self.charge = 0.0 if passage.was_granted else ask.charge
        self.entered_at = now
        self.waited_s_before = passage.waited_s
        self.deadline = now + wait_s_max - passage.waited_s
        # How long its place is kept, once it has left.
        self.keep_ms = 0
        # When the waiter wants to hear of its place next; never unless it says so.
        self.notice_at = float("inf")
        # The first estimate of the whole wait and when it was made, to be held against the truth.
        self.foretold: tuple[Estimate, float] | None = None
        self._news: News | None = None
        self._waiter: asyncio.Future[None] | None = None

    def tell(self, news: News) -> None:
        if isinstance(self._news, Granted | ApiError):
            return  # decided
        self._news = news
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next_news(self) -> Place | Granted:
        """Waits for news.

        Raises:
            ApiError: the ticket was refused.
        """
        if self._news is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        news, self._news = self._news, None
        assert news is not None
        if isinstance(news, ApiError):
            try:
                raise news
            finally:
                del news  # whose traceback holds this frame: a cycle for the collector
        return news

    def waited_s(self, now: float) -> float:
        """How long its request has waited, for this slot and for those before."""
        return self.waited_s_before + now - self.entered_at

    @property
    def granted(self) -> Granted | None:
        """The grant, when it came before anybody waited for it."""
        return self._news if isinstance(self._news, Granted) else None
