"""How tickets that Redis has lost come back, whatever becomes of their calls."""

import asyncio

import pytest

from gateway.errors import FlowUnavailable
from gateway.line.reentry import Reentry
from gateway.line.ticket import Passage, SlotAsk, Ticket
from gateway.line.ticket_book import TicketBook

ASK = SlotAsk("acct", charge=7.0, concurrent_requests=1, waiting_requests=9)


class Redis:
    """Takes tickets in once it goes on; `fails` at the ticket with this number."""

    def __init__(self, book: TicketBook) -> None:
        self._book = book
        self.heard: list[str] = []
        self.fails = ""
        self.goes_on = asyncio.Event()

    async def enter(self, ticket: Ticket) -> None:
        self.heard.append(ticket.id)
        await self.goes_on.wait()
        if ticket.id == self.fails:
            self._book.lose(ticket)
            raise FlowUnavailable("lost")
        self._book.take_into_line(ticket)


@pytest.fixture
def book() -> TicketBook:
    return TicketBook()


def lose(book: TicketBook, count: int) -> list[str]:
    names = [f"{number:04d}" for number in range(count)]
    for name in names:
        ticket = Ticket(name, ASK, Passage(), now=0.0, wait_s_max=300.0)
        book.add(ticket)
        book.lose(ticket)
    return names


async def test_all_come_back_in_order_some_hundreds_at_once(book: TicketBook) -> None:
    redis, names = Redis(book), lose(book, 600)
    reentry = Reentry("m", book, redis.enter)
    reentry.start()
    while len(redis.heard) < 250:
        await asyncio.sleep(0)
    reentry.start()  # another heartbeat
    for _ in range(10):
        await asyncio.sleep(0)
    assert redis.heard == names[:250]
    redis.goes_on.set()
    await reentry.end()
    assert redis.heard == names
    assert book.agrees_with(600)


async def test_a_call_that_fails_ends_it_and_the_next_start_goes_on(book: TicketBook) -> None:
    redis, names = Redis(book), lose(book, 600)
    redis.fails = names[300]
    redis.goes_on.set()
    reentry = Reentry("m", book, redis.enter)
    reentry.start()
    await reentry.end()
    assert not reentry.is_under_way
    assert redis.heard == names[:500]
    redis.fails = ""
    reentry.start()
    await reentry.end()
    assert redis.heard == [*names[:500], names[300], *names[500:]]
    assert book.agrees_with(600)


async def test_who_waits_for_its_end_and_hangs_up_does_not_end_it(book: TicketBook) -> None:
    redis, names = Redis(book), lose(book, 3)
    reentry = Reentry("m", book, redis.enter)
    reentry.start()
    waits = asyncio.create_task(reentry.end())
    while redis.heard != names:
        await asyncio.sleep(0)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert reentry.is_under_way
    redis.goes_on.set()
    await reentry.end()
    assert book.agrees_with(3)
