"""A request that waits in line, as its worker knows it."""

import asyncio
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


class Place(NamedTuple):
    """Where a ticket stands, 1 being next, and how long that takes; None where it is not known."""

    position: int | None
    eta: Estimate | None


class Granted(NamedTuple):
    """The ticket's turn has come: a slot on this replica is held for it."""

    replica_id: str
    at: float  # when this worker learned of it, time.perf_counter


News = Place | Granted | ApiError


class Ticket:
    """Its waiter reads the news; whoever serves the line tells them. Newer news replace older."""

    __slots__ = ("_news", "_waiter", "ask", "avoid", "deadline", "entered_at", "foretold", "id",
                 "keep_ms", "notice_at")  # fmt: skip

    def __init__(
        self, ticket_id: str, ask: SlotAsk, avoid: str, *, now: float, wait_s_max: float
    ) -> None:
        self.id = ticket_id
        self.ask = ask
        self.avoid = avoid
        self.entered_at = now
        self.deadline = now + wait_s_max
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

    @property
    def charge(self) -> float:
        """What its grant costs: nothing where the request was granted a slot before."""
        return self.ask.charge if self.avoid == "-" else 0.0

    @property
    def granted(self) -> Granted | None:
        """The grant, when it came before anybody waited for it."""
        return self._news if isinstance(self._news, Granted) else None
