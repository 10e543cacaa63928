"""Damage to the line, planted and found."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.integration.waitlist.conftest import TAG, confirmed, join
from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.storage.ledger import Ledger
from waitlist.upkeep.chores import work_on_line
from waitlist.upkeep.ledger_check import Finding, check_ledger

pytestmark = pytest.mark.integration

PLANTED: dict[str, tuple[Callable[[Any, str, str], Any], str, str]] = {
    "waiting, not in line": (lambda c, w, i: c.zrem(f"{TAG}line", w), "entry", "not in the line"),
    "invited, in line": (lambda c, w, i: c.zadd(f"{TAG}line", {i: 1}), "entry", "but in the line"),
    "invited, not among them": (
        lambda c, w, i: c.zrem(f"{TAG}invited", i),
        "entry",
        "not among the invited",
    ),
    "invite gone": (
        lambda c, w, i: c.delete(f"{TAG}invite:{c.hget(f'{TAG}entry:{i}', 'invite')}"),
        "entry",
        "its invite",
    ),
    "waiting, among the pending": (
        lambda c, w, i: c.zadd(f"{TAG}pending", {w: 1}),
        "entry",
        "it is waiting, but among the pending",
    ),
    "pending, not among them": (
        lambda c, w, i: c.hset(f"{TAG}entry:{w}", "state", "pending"),
        "entry",
        "it is pending, but not among the pending",
    ),
    "pending without an entry": (
        lambda c, w, i: c.zadd(f"{TAG}pending", {"none": 1}),
        "place",
        "it has a place, but is not there",
    ),
    "time of joining gone": (lambda c, w, i: c.hdel(f"{TAG}entry:{w}", "at"), "entry", "it lacks"),
    "address index gone": (
        lambda c, w, i: c.delete(*c.scan_iter(f"{TAG}addresses:*")),
        "entry",
        "its address does not lead to any place",
    ),
    "address of another person": (
        lambda c, w, i: c.hset(f"{TAG}entry:{w}", "email", "eve@example.com"),
        "address index",
        "which has another address",
    ),
    "address index of an entry that is gone": (
        lambda c, w, i: c.delete(f"{TAG}entry:{w}"),
        "address index",
        "is not there or was erased",
    ),
    "mail for nobody": (
        lambda c, w, i: c.zadd(f"{TAG}outbox", {"invite:none": 1}),
        "mail",
        "a place that is not there or has none",
    ),
    "held mail for somebody who is not invited": (
        lambda c, w, i: c.zadd(f"{TAG}outbox-held", {f"invite:{w}": 1}),
        "mail",
        "a place that is not there or has none",
    ),
    "mail of no kind": (lambda c, w, i: c.zadd(f"{TAG}outbox", {"spam": 1}), "mail", "no kind"),
    "redeemed without an account": (
        lambda c, w, i: c.hset(f"{TAG}entry:{w}", "state", "redeemed"),
        "entry",
        "it is redeemed, but there is no account of it",
    ),
    "batch that let fewer in": (
        lambda c, w, i: c.hset(f"{TAG}batch:{c.hget(f'{TAG}entry:{i}', 'batch')}", "released", 3),
        "batch",
        "it let 3 people in, but 1 invites are of it",
    ),
    "batch gone": (
        lambda c, w, i: c.delete(f"{TAG}batch:{c.hget(f'{TAG}entry:{i}', 'batch')}"),
        "batch",
        "it let 0 people in, but 1 invites are of it",
    ),
    "last number too small": (
        lambda c, w, i: c.set(f"{TAG}line-last-number", 1),
        "place",
        "above the last one given, 1",
    ),
    "entry gone": (lambda c, w, i: c.delete(f"{TAG}entry:{w}"), "place", "is not there"),
    "state changed": (
        lambda c, w, i: c.hset(f"{TAG}entry:{w}", "state", "left"),
        "entry",
        "it is left, but in the line",
    ),
}


@pytest.fixture
async def ledger(ledger_server: RedisServer) -> AsyncIterator[Ledger]:
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    yield ledger
    await ledger.close()


async def findings_of(ledger: Ledger) -> list[Finding]:
    return [finding async for finding in check_ledger(ledger)]


async def test_line_in_use_is_whole(line: Directory, ledger: Ledger, clock: Any) -> None:
    joined = [await join(line, f"person{i}@example.com") for i in range(6)]
    batch = await line.releases.release(3)
    code = line.signer.code(joined[0].entry_id, batch.batch_id)
    await line.redeem(code, "person0@example.com")
    assert await findings_of(ledger) == []
    clock.advance(8 * 86_400)
    await work_on_line(line)
    assert await findings_of(ledger) == []


@pytest.mark.parametrize("damage", list(PLANTED))
async def test_planted_damage_is_found(
    line: Directory, ledger: Ledger, ledger_state: Any, damage: str
) -> None:
    joined = [await join(line, f"person{i}@example.com") for i in range(2)]
    await line.releases.release(1)
    plant, record, words = PLANTED[damage]
    plant(ledger_state.client, joined[1].entry_id, joined[0].entry_id)
    found = await findings_of(ledger)
    assert [f for f in found if f.record == record and words in f.problem], found


async def test_line_with_mails_is_whole_at_every_step(
    mailed_line: Directory, ledger: Ledger, clock: Any
) -> None:
    """Pending, confirmed, referred, left, erased, ended, redeemed with an account already."""
    ada = mailed_line.signer.read(await confirmed(mailed_line, "ada@example.com"))
    await confirmed(mailed_line, "bob@example.com", referral=ada.entry_id)
    for name in ("cyd", "dan"):
        await join(mailed_line, f"{name}@example.com")
    await join(mailed_line, "ada@example.com")  # again, as a stranger may
    assert await findings_of(ledger) == []
    eve = mailed_line.signer.read(await confirmed(mailed_line, "eve@example.com"))
    await mailed_line.departures.erase(eve)
    [invite] = await mailed_line.create_invites(1)
    account = await mailed_line.redeem(invite.code, "fay@example.com")
    await confirmed(mailed_line, "fay@example.com")
    assert await findings_of(ledger) == []
    clock.advance(3 * 86_400)
    await work_on_line(mailed_line)
    assert (await mailed_line.overview.line()).pending == 0
    assert await findings_of(ledger) == []
    await mailed_line.erase_account(account.account_id)
    assert await findings_of(ledger) == []


async def test_erased_account_takes_the_place_of_its_address_with_it(
    mailed_line: Directory, ledger_state: Any
) -> None:
    """Also one that was confirmed after the account had come by another code."""
    [invite] = await mailed_line.create_invites(1)
    account = await mailed_line.redeem(invite.code, "fay@example.com")
    await confirmed(mailed_line, "fay@example.com")
    await mailed_line.erase_account(account.account_id)
    assert "fay@example.com" not in ledger_state.everything_as_text()
