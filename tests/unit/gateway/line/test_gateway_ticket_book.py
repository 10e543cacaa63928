"""What one worker's book says of its tickets, whatever happens to their calls."""

import pytest

from gateway.line.recent_grants import RecentGrants
from gateway.line.ticket import Passage, SlotAsk, Ticket, TicketState
from gateway.line.ticket_book import TicketBook


def entering(book: TicketBook, name: str = "1") -> Ticket:
    ask = SlotAsk("acct", charge=7.0, concurrent_requests=1, waiting_requests=9, body_bytes=100)
    ticket = Ticket(name, ask, Passage(), now=0.0, wait_s_max=300.0)
    book.add(ticket)
    return ticket


def in_line(book: TicketBook, name: str = "1") -> Ticket:
    ticket = entering(book, name)
    book.take_into_line(ticket)
    return ticket


def lost(book: TicketBook, name: str = "1") -> Ticket:
    ticket = entering(book, name)
    book.lose(ticket)
    return ticket


def told_to_leave(book: TicketBook) -> dict[str, int]:
    return {name: keep_ms for keep_ms, names in book.next_leaves() for name in names}


def test_one_that_is_gone_never_waits_again() -> None:
    book = TicketBook()
    ticket = in_line(book)
    book.remove(ticket)
    book.take_into_line(ticket)
    book.lose(ticket)
    with pytest.raises(ValueError, match="is gone, and cannot be entering"):
        book.enter_again(ticket)
    assert (ticket.state, book.waiting, book.bytes) == (TicketState.GONE, {}, 0)
    assert not book.waiting_by_account


def test_only_one_that_was_lost_enters_again() -> None:
    book = TicketBook()
    for ticket in (entering(book, "1"), in_line(book, "2")):
        with pytest.raises(ValueError, match="cannot be entering"):
            book.enter_again(ticket)
    ticket = lost(book, "3")
    book.enter_again(ticket)
    assert ticket.state is TicketState.ENTERING


def test_redis_is_told_of_those_that_left_and_that_it_knows() -> None:
    book = TicketBook()
    book.leave(in_line(book, "known"), 11)
    book.leave(lost(book, "lost"), 12)
    under_way = entering(book, "under way")
    book.leave(under_way, 13)
    assert told_to_leave(book) == {"known": 11}
    book.left(["known"])
    book.take_into_line(under_way)
    assert told_to_leave(book) == {"under way": 13}


def test_redis_agrees_when_it_knows_those_in_line_and_those_that_are_to_leave() -> None:
    book = TicketBook()
    in_line(book, "1")
    entering(book, "2")
    book.leave(in_line(book, "3"), 0)
    assert book.agrees_with(2)
    assert not book.agrees_with(3)
    lost(book, "4")
    assert not book.agrees_with(2)


def test_all_that_were_lost_stay_so_until_each_has_entered_again() -> None:
    book = TicketBook()
    tickets = [in_line(book, name) for name in "123"]
    book.reconcile(set())
    assert book.lost(9) == tickets
    first, *others = tickets
    book.enter_again(first)
    book.lose(first)
    book.leave(first, 0)
    assert not book.agrees_with(0), "the others are not in line"
    book.reconcile(set())
    assert book.lost(9) == others
    assert book.lost(1) == others[:1], "the oldest first"


def test_what_redis_knows_is_in_line_or_has_to_leave() -> None:
    book = TicketBook()
    ticket, other, left = lost(book, "1"), entering(book, "2"), lost(book, "left")
    book.doubt(left)
    book.leave(left, 11)
    book.reconcile({"1", "left", "unknown"})
    assert book.lost(9) == []
    assert (ticket.state, other.state) == (TicketState.IN_LINE, TicketState.ENTERING)
    assert told_to_leave(book) == {"left": 11, "unknown": 0}
    assert book.agrees_with(3)


def test_a_grant_takes_a_ticket_out_of_those_that_are_to_leave() -> None:
    book = TicketBook()
    book.leave(in_line(book), 0)
    assert book.is_new_grant("1")
    assert not book.has_leaves
    assert book.agrees_with(0)
    assert not book.is_new_grant("1")


def test_a_grant_that_crosses_a_leave_has_charged_for_nothing_once() -> None:
    book = TicketBook()
    book.leave(in_line(book), 0)
    book.left(["1"])
    assert [book.charge_of_left("1"), book.charge_of_left("1")] == [7.0, 0.0]


def test_so_has_one_that_comes_before_the_answer_to_the_call_of_who_left() -> None:
    book = TicketBook()
    book.leave(entering(book), 0)
    assert book.charge_of_left("1") == 7.0


def test_so_has_one_that_comes_when_a_heartbeat_has_found_who_left() -> None:
    book = TicketBook()
    ticket = lost(book)
    book.doubt(ticket)
    book.leave(ticket, 0)
    book.reconcile({"1"})
    book.believe(["1"])
    assert book.charge_of_left("1") == 7.0


def test_the_newest_grants_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.line.recent_grants._REMEMBERED_MAX", 2)
    grants = RecentGrants()
    assert all(grants.is_new(name) for name in "123")
    assert [grants.is_new(name) for name in "321"] == [False, False, True]
    for name in "123":
        grants.expect(name, 7.0)
    assert [grants.charge_of_left(name) for name in "123"] == [0.0, 7.0, 7.0]
