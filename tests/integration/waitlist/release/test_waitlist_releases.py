"""Letting people in: batches, pauses, expiry, schedules."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.waitlist.conftest import confirmed, join
from waitlist.directory import Directory
from waitlist.errors import CodeBound, CodeExpired, CodeRevoked, NotFound, RequestMalformed
from waitlist.proofs import tokens
from waitlist.upkeep.chores import work_on_line

pytestmark = pytest.mark.integration

Open = Callable[..., Awaitable[Directory]]


async def test_head_of_the_line_is_let_in_and_redeems(line: Directory, ledger_state: Any) -> None:
    joined = [await join(line, f"person{i}@example.com") for i in range(5)]
    batch = await line.releases.release(2, plan="plus", reason="first day")
    assert (batch.size, batch.released, batch.state) == (2, 2, "done")
    entries = [await line.entries.read(each.entry_id) for each in joined]
    assert [e.state for e in entries] == ["invited"] * 2 + ["waiting"] * 3
    assert [e.ahead for e in entries] == [None, None, 0, 1, 2]
    code = line.signer.code(joined[0].entry_id, batch.batch_id)
    redemption = await line.redeem(code, "person0@example.com")
    assert redemption.plan == "plus"
    assert (await line.entries.read(joined[0].entry_id)).state == "redeemed"
    account = await line.accounts.read(redemption.account_id)
    assert account.entry_id == joined[0].entry_id
    [noted] = ledger_state.audit("batch_opened")
    assert (noted["reason"], noted["actor"]) == ("first day", "test")
    assert ledger_state.audit("people_invited")[0]["count"] == "2"


async def test_code_is_bound_to_its_address_unless_made_transferable(line: Directory) -> None:
    first, second = [await join(line, f"{name}@example.com") for name in ("ada", "bob")]
    bound = await line.releases.release(1)
    code = line.signer.code(first.entry_id, bound.batch_id)
    with pytest.raises(CodeBound):
        await line.redeem(code, "eve@example.com")
    await line.redeem(code, "Ada@example.com")
    free = await line.releases.release(1, transferable=True)
    await line.redeem(line.signer.code(second.entry_id, free.batch_id), "eve@example.com")


async def test_those_who_did_not_confirm_are_passed_over_and_keep_their_places(
    mailed_line: Directory,
) -> None:
    idle = await join(mailed_line, "idle@example.com")
    keen = [await confirmed(mailed_line, f"keen{i}@example.com") for i in range(3)]
    batch = await mailed_line.releases.release(2)
    assert batch.released == 2
    states = [
        (await mailed_line.entries.read(mailed_line.signer.read(t).entry_id)).state for t in keen
    ]
    assert states == ["invited", "invited", "waiting"]
    assert (await mailed_line.entries.read(idle.entry_id)).ahead == 0


async def test_a_page_full_of_those_who_did_not_confirm_hides_nobody_behind_them(
    mailed_line: Directory,
) -> None:
    # More than one call looks at, so that a page holds nobody to let in.
    for i in range(1_100):
        await join(mailed_line, f"idle{i}@example.com")
    keen = [await confirmed(mailed_line, f"keen{i}@example.com") for i in range(3)]
    batch = await mailed_line.releases.release(2)
    assert (batch.released, batch.state) == (2, "done")
    batch = await mailed_line.releases.release(2)
    assert (batch.released, batch.state) == (1, "done")
    for ticket in keen:
        entry = await mailed_line.entries.read(mailed_line.signer.read(ticket).entry_id)
        assert entry.state == "invited"
    assert (await mailed_line.overview.line()).in_line == 1_100


async def test_batch_larger_than_the_line_ends_with_the_line(line: Directory) -> None:
    for i in range(250):
        await join(line, f"person{i}@example.com")
    batch = await line.releases.release(1000)
    assert (batch.released, batch.state) == (250, "done")
    assert (await line.overview.line()).in_line == 0


async def test_many_working_on_one_batch_let_in_its_size_and_nobody_twice(
    open_line: Open, ledger_state: Any
) -> None:
    directories = [await open_line() for _ in range(4)]
    for i in range(400):
        await join(directories[0], f"person{i}@example.com")
    batch_id = await directories[0].releases.open(300)
    batches = await asyncio.gather(*(d.releases.work_off(batch_id) for d in directories * 2))
    assert {b.released for b in batches} == {300}
    states = [e["state"] for e in ledger_state.records("entry").values()]
    assert (states.count("invited"), states.count("waiting")) == (300, 100)
    invites = ledger_state.records("invite")
    assert len(invites) == len({i["entry"] for i in invites.values()}) == 300
    assert len(ledger_state.client.zrange("fg:{ledger}:outbox", 0, -1)) == 300
    # The first 300 of the line, and no others.
    assert [e.ahead for e in map_line(await left_in_line(directories[0]))] == list(range(100))


async def left_in_line(directory: Directory) -> list[Any]:
    return [e async for e in directory.exports.entries() if e.ahead is not None]


def map_line(entries: list[Any]) -> list[Any]:
    return sorted(entries, key=lambda entry: entry.ahead)


async def test_batch_that_was_left_half_way_is_gone_on_with(line: Directory) -> None:
    for i in range(10):
        await join(line, f"person{i}@example.com")
    await line.overview.pause("releasing", paused=True)
    batch = await line.releases.release(4)
    assert (batch.released, batch.state) == (0, "open")
    await line.overview.pause("releasing", paused=False)
    await work_on_line(line)
    assert (await line.releases.read(batch.batch_id)).released == 4
    assert await line.releases.open_batches() == []
    again = await line.releases.release(4, batch_id=batch.batch_id)
    assert again.released == 4
    assert (await line.overview.line()).in_line == 6


async def test_unused_invite_ends_and_its_place_with_it(line: Directory, clock: Any) -> None:
    joined = await join(line, "ada@example.com")
    batch = await line.releases.release(1, invite_life_s=60)
    assert (await line.overview.line()).invited == 1
    clock.advance(60)
    await work_on_line(line)
    assert (await line.entries.read(joined.entry_id)).state == "expired"
    assert (await line.overview.line()).invited == 0
    with pytest.raises(CodeExpired):
        await line.redeem(line.signer.code(joined.entry_id, batch.batch_id), "ada@example.com")


async def test_leaving_withdraws_the_invite(line: Directory) -> None:
    joined = await join(line, "ada@example.com")
    batch = await line.releases.release(1)
    await line.departures.leave(line.signer.read(joined.ticket))
    with pytest.raises(CodeRevoked):
        await line.redeem(line.signer.code(joined.entry_id, batch.batch_id), "ada@example.com")


async def test_account_by_another_code_ends_the_wait(line: Directory) -> None:
    joined = await join(line, "ada@example.com")
    [invite] = await line.create_invites(1)
    await line.redeem(invite.code, "ada@example.com")
    assert (await line.entries.read(joined.entry_id)).state == "redeemed"
    assert (await line.overview.line()).in_line == 0


@pytest.mark.parametrize(
    "terms",
    [{"size": 0}, {"size": 1_000_001}, {"size": 1, "plan": "No"}, {"size": 1, "invite_life_s": 0}],
)
async def test_terms_out_of_bounds_are_refused(line: Directory, terms: dict[str, Any]) -> None:
    with pytest.raises(RequestMalformed):
        await line.releases.release(**terms)
    assert await line.releases.newest() == []


async def test_unknown_batch_is_told(line: Directory) -> None:
    await join(line, "ada@example.com")
    with pytest.raises(NotFound):
        await line.releases.work_off("batch_none")


# Schedules


async def test_schedule_lets_in_at_its_times_once_each(open_line: Open, clock: Any) -> None:
    directories = [await open_line() for _ in range(3)]
    line = directories[0]
    for i in range(20):
        await join(line, f"person{i}@example.com")
    start = line.now() + timedelta(hours=1)
    schedule_id = await line.schedules.add(start, 3, every_s=3600, until=start + timedelta(hours=2))
    for expected in (0, 3, 6, 9, 9):
        await asyncio.gather(*(work_on_line(d) for d in directories))
        assert (await line.overview.line()).invited == expected
        clock.advance(3600)
    assert await line.schedules.list_all() == []
    with pytest.raises(NotFound):
        await line.schedules.drop(schedule_id)


async def test_times_that_were_missed_are_made_up_for_by_one_batch(
    line: Directory, clock: Any
) -> None:
    for i in range(20):
        await join(line, f"person{i}@example.com")
    await line.schedules.add(line.now(), 2, every_s=3600)
    clock.advance(10 * 3600)
    for _ in range(3):
        await work_on_line(line)
    assert (await line.overview.line()).invited == 2
    [schedule] = await line.schedules.list_all()
    assert schedule.next_at == line.now() + timedelta(hours=1)
    await line.schedules.drop(schedule.schedule_id)
    assert await line.schedules.list_all() == []


async def test_release_is_what_estimates_are_made_from(line: Directory, clock: Any) -> None:
    for i in range(300):
        await join(line, f"person{i}@example.com")
    board = line.watch_board()
    joined = await join(line, "late@example.com")
    entry = await line.entries.read(joined.entry_id)
    assert (await board.standings.of(entry)).estimate is None
    for _ in range(30):
        await line.releases.release(5)
        clock.advance(3600)
    entry = await line.entries.read(joined.entry_id)
    standing = await line.watch_board().standings.of(entry)
    assert standing.ahead == 150
    assert standing.estimate is not None
    # 151 people at 5 an hour: 30.2 hours, and no spread.
    assert standing.estimate.p50_s == standing.estimate.p90_s == 31 * 3600


async def test_codes_of_a_batch_are_all_different_and_well_formed(line: Directory) -> None:
    codes = {line.signer.code(f"entry{i:07d}", "batch_a") for i in range(1000)}
    assert len(codes) == 1000
    assert all(tokens.normalise_code(code) == code for code in codes)
    assert line.signer.code("entry0000001", "batch_b") not in codes
