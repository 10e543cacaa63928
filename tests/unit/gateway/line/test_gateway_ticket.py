import asyncio
import contextlib
import gc

import pytest

from gateway.line.ticket import EntryMode, Granted, Passage, Place, SlotAsk, Ticket
from gateway.queue_errors import Draining, QueueFull


def ticket(passage: Passage | None = None) -> Ticket:
    return Ticket(
        "1-a-0", SlotAsk("acct", 1.0, 1, 1), passage or Passage(), now=10.0, wait_s_max=5.0
    )


async def test_news_that_came_before_the_waiter_are_not_lost() -> None:
    waiting = ticket()
    waiting.tell(Granted("a", 1.0, 2.0))
    assert waiting.granted == Granted("a", 1.0, 2.0)
    assert await waiting.next_news() == Granted("a", 1.0, 2.0)


async def test_newer_news_replace_older_and_nothing_replaces_a_decision() -> None:
    waiting = ticket()
    waiting.tell(Place(9, None))
    waiting.tell(Place(8, None))
    assert await waiting.next_news() == Place(8, None)
    waiting.tell(Granted("a", 1.0, 2.0))
    waiting.tell(Place(1, None))
    waiting.tell(QueueFull(1, place_is_kept=True))
    assert await waiting.next_news() == Granted("a", 1.0, 2.0)


async def test_a_refusal_is_raised_where_the_waiter_waits() -> None:
    waiting = ticket()
    news = asyncio.ensure_future(waiting.next_news())
    await asyncio.sleep(0)
    waiting.tell(QueueFull(3, place_is_kept=True))
    with pytest.raises(QueueFull):
        await news


async def test_a_waiter_that_hangs_up_leaves_the_grant_to_be_found() -> None:
    waiting = ticket()
    news = asyncio.ensure_future(waiting.next_news())
    await asyncio.sleep(0)
    waiting.tell(Granted("a", 1.0, 2.0))
    news.cancel()
    await asyncio.gather(news, return_exceptions=True)
    assert waiting.granted == Granted("a", 1.0, 2.0)


def test_a_ticket_knows_when_its_wait_is_over() -> None:
    assert (ticket().entered_at, ticket().deadline) == (10.0, 15.0)


def test_a_request_that_comes_back_has_what_is_left_of_its_wait_and_pays_nothing() -> None:
    back = ticket(Passage(waited_s=3.0, charged=1.0, was_granted=True, avoid="a"))
    assert (back.deadline, back.waited_s(now=11.0)) == (12.0, 4.0)
    assert (ticket().charge, ticket().mode) == (1.0, EntryMode.NEW)
    assert (back.charge, back.mode, back.avoid) == (0.0, EntryMode.RETRY, "a")


async def test_a_refusal_leaves_no_cycle_for_the_collector() -> None:
    """Which comes seldom: thousands of refused callers would wait for it with all they hold."""
    waiting = ticket()
    waiting.tell(Draining())
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Draining):
            await waiting.next_news()
        assert gc.collect() == 0
    finally:
        gc.enable()
