"""Who in line is served next, over several workers on one real Redis."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from gateway.line.ticket import Passage, Ticket
from tests.line_workers import (
    KEYS,
    Workers,
    ask,
    granted,
    has_slot,
    has_waiting,
    is_empty,
    replica,
    serve,
)

pytestmark = pytest.mark.integration


async def test_accounts_share_by_weighted_tokens_however_many_requests_they_have(
    workers: Workers,
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets: list[tuple[str, Ticket]] = []
    # The greedy one comes first with most requests; charges are tokens / weight.
    for account, charge, requests in (
        ("greedy", 100.0, 400),
        ("modest", 100.0, 120),
        ("double", 50.0, 240),
        ("wordy", 300.0, 40),
    ):
        tickets += [(account, await line.enter(ask(account, charge))) for _ in range(requests)]
    line.release(blocker, "blocker")
    order = await serve(line, tickets, 400)
    counts = Counter(order)
    # By tokens / weight: greedy and modest 1, double 2, wordy a third: 400 · (3, 3, 6, 1) / 13.
    assert counts == pytest.approx({"greedy": 92, "modest": 92, "double": 184, "wordy": 31}, abs=2)


async def test_inside_an_account_the_first_come_is_served_first(workers: Workers) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("x", concurrent=2)))
    tickets = [await line.enter(ask("x", charge=100 - i, concurrent=2)) for i in range(20)]
    line.release(blocker, "x")
    for ticket in tickets:
        assert await granted(ticket) == "a"
        assert sum(has_slot(t) for t in tickets) == 0
        line.release("a", "x")


async def test_a_new_account_is_not_punished_and_an_idle_one_saves_nothing(
    workers: Workers,
) -> None:
    line = workers.new(replica("a", 1))
    idle = await granted(await line.enter(ask("idle")))
    line.release(idle, "idle")
    blocker = await granted(await line.enter(ask("busy")))
    tickets = [("busy", await line.enter(ask("busy"))) for _ in range(60)]
    line.release(blocker, "busy")
    await serve(line, tickets, 30)
    late = [("idle", await line.enter(ask("idle"))) for _ in range(10)]
    late += [("new", await line.enter(ask("new"))) for _ in range(10)]
    still = [t for t in tickets if t[1].id in line.tickets.waiting or t[1].granted]
    order = await serve(line, still + late, 24)
    assert Counter(order) == pytest.approx({"busy": 8, "idle": 8, "new": 8}, abs=2)
    assert {"idle", "new"} <= set(order[:4]), "their first requests come at once"


async def test_an_account_runs_no_more_than_its_plan_lets_it_and_others_pass(
    workers: Workers,
) -> None:
    line = workers.new(replica("a", 10))
    tickets = [await line.enter(ask("x", concurrent=2)) for _ in range(5)]
    assert [has_slot(t) for t in tickets] == [True, True, False, False, False]
    assert has_slot(await line.enter(ask("y", concurrent=2)))
    line.release(await granted(tickets[0]), "x")
    assert await granted(tickets[2]) == "a"
    assert not has_slot(tickets[3])


async def test_leaving_gives_the_place_up_and_the_charge_back(workers: Workers, state: Any) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = [await line.enter(ask("x")) for _ in range(50)]
    before = float(await state.zscore(KEYS + ":counters", "x"))
    for ticket in tickets[10:]:
        line.leave(ticket)
    await workers.until(lambda: has_waiting(state, 10))
    assert float(await state.zscore(KEYS + ":counters", "x")) == before - 40 * 100
    for ticket in tickets[:10]:
        line.leave(ticket)
    line.release(blocker, "blocker")
    await workers.until(lambda: is_empty(state))


async def test_hanging_up_with_a_slot_that_has_just_come_gives_the_charge_back(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    ticket = await line.enter(ask("x"))
    assert has_slot(ticket)
    assert await state.zscore(KEYS + ":counters", "x") == 100
    line.abandon(ticket)
    while await state.zscore(KEYS + ":counters", "x"):
        await asyncio.sleep(0.01)
    await workers.until(lambda: is_empty(state))


async def test_a_grant_that_crosses_a_leave_gives_slot_and_charge_back(
    workers: Workers, state: Any
) -> None:
    first, second = workers.new(replica("a", 1)), workers.new(replica("a", 1))
    held = await granted(await first.enter(ask("x")))
    ticket = await second.enter(ask("y"))
    workers.tasks[1].cancel()  # the push is on its way
    await asyncio.gather(workers.tasks[1], return_exceptions=True)
    first.release(held, "x")
    while not await state.zscore(KEYS + ":counters", "y"):
        await asyncio.sleep(0.01)
    second.leave(ticket)
    await workers.until(lambda: is_empty(state))
    assert not await state.zscore(KEYS + ":counters", "y")


async def test_a_correction_moves_the_account_and_what_it_has_in_line(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    await line.enter(ask("x"))
    await line.enter(ask("other"))
    ticket = await line.enter(ask("x"))
    start = float(await state.zscore(KEYS + ":line", ticket.id))
    line.correct("x", -30.0)
    line.correct("x", 10.0)
    while float(await state.zscore(KEYS + ":line", ticket.id)) != start - 20:
        await asyncio.sleep(0.01)


async def test_the_service_that_fairness_is_measured_by_is_corrected_too(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = [("x", await line.enter(ask("x"))) for _ in range(3)]
    line.release(blocker, "blocker")
    assert await granted(tickets[0][1]) == "a"
    while await state.hget(KEYS + ":service", "x") != "100":
        await asyncio.sleep(0.01)
    line.correct("x", -60.0)
    while await state.hget(KEYS + ":service", "x") != "40":
        await asyncio.sleep(0.01)


async def test_an_account_that_comes_back_into_line_begins_another_stay(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    first, second = [await line.enter(ask("x")) for _ in range(2)]
    line.release(blocker, "blocker")
    slot = await granted(first)
    assert await state.hget(KEYS + ":stays", "x") == first.id, "the second still waits"
    line.release(slot, "x")
    slot = await granted(second)
    assert not await state.exists(KEYS + ":stays", KEYS + ":service")
    third = await line.enter(ask("x"))
    assert await state.hget(KEYS + ":stays", "x") == third.id
    line.release(slot, "x")
    await granted(third)


async def test_somebody_who_was_not_served_for_long_goes_first(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    starved = await line.enter(ask("starved", charge=1.0))
    line.correct("starved", 1e9)
    tickets = [("x", await line.enter(ask("x"))) for _ in range(40)]
    await state.zadd(KEYS + ":served", {"starved": 1})
    line.release(blocker, "blocker")
    order = await serve(line, [*tickets, ("starved", starved)], 10)
    assert "starved" in order


async def test_several_who_starve_are_served_by_every_eighth_grant_the_longest_first(
    workers: Workers, state: Any
) -> None:
    """The bound that docs/api.md names: 8 grants for each of them."""
    starving = [f"starving{i}" for i in range(5)]
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = []
    for account in starving:
        tickets.append((account, await line.enter(ask(account))))
        line.correct(account, 1e9)
    tickets += [("x", await line.enter(ask("x"))) for _ in range(60)]
    # The later it came, the longer it is said to have starved.
    await state.zadd(KEYS + ":served", {a: 10 - i for i, a in enumerate(starving)})
    line.release(blocker, "blocker")
    order = await serve(line, tickets, 8 * len(starving))
    served_at = {account: order.index(account) + 1 for account in starving}
    assert list(served_at.values()) == sorted(served_at.values(), reverse=True)
    for before, account in enumerate(reversed(starving)):
        assert served_at[account] <= 8 * (before + 1)
    assert order.count("x") == 7 * len(starving), "and the others by the seven between"


async def test_a_replica_to_avoid_is_avoided_and_who_retries_goes_first_and_pays_nothing(
    workers: Workers, state: Any
) -> None:
    line = workers.new(replica("a", 1), replica("b", 1))
    first = await granted(await line.enter(ask("x")))
    second = await granted(await line.enter(ask("y")))
    others = [await line.enter(ask("z")) for _ in range(3)]
    counter = await state.zscore(KEYS + ":counters", "x")
    again = await line.enter(ask("x"), Passage(was_granted=True, avoid=first))
    line.release(first, "x")
    assert await granted(others[0]) == first
    assert not has_slot(again)
    line.release(second, "y")
    assert await granted(again) == second
    assert await state.zscore(KEYS + ":counters", "x") == counter


async def test_places_are_those_in_which_the_line_then_serves(workers: Workers) -> None:
    line = workers.new(replica("a", 1))
    blocker = await granted(await line.enter(ask("blocker")))
    tickets = []
    for i in range(30):
        account = f"acct{i % 4}"
        tickets.append((account, await line.enter(ask(account, charge=50 + i % 3, concurrent=5))))
    positions = await line.positions([ticket for _, ticket in tickets])
    assert sorted(positions)[:20] == list(range(20)), "5 of each account stand in line"
    expected = {p: ticket.id for p, (_, ticket) in zip(positions, tickets, strict=True) if p < 20}
    line.release(blocker, "blocker")
    served: list[str] = []
    while len(served) < 4:
        for account, ticket in tickets:
            if ticket.granted is not None:
                served.append(ticket.id)
                line.release(await granted(ticket), account)
        await asyncio.sleep(0)
    assert served == [expected[p] for p in range(4)]
    assert await line.positions([tickets[0][1]]) == [-1]
