"""Damage that is planted in a real ledger, and found; a whole ledger, and nothing found."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.storage.ledger import Ledger
from waitlist.upkeep.ledger_check import Finding, Progress, check_ledger

pytestmark = pytest.mark.integration

TAG = "fg:{ledger}:"


@pytest.fixture
async def ledger(ledger_server: RedisServer) -> AsyncIterator[Ledger]:
    ledger = Ledger(ledger_server.url, deadline_s=30.0)
    yield ledger
    await ledger.close()


@pytest.fixture
async def people(directory: Directory) -> list[Any]:
    """Three redemptions, one of whose keys is revoked, and two codes that nobody has used."""
    invites = await directory.create_invites(5)
    redemptions = [
        await directory.redeem(invite.code, f"person{i}@example.com")
        for i, invite in enumerate(invites[:3])
    ]
    await directory.revoke_key(redemptions[2].key_id)
    return redemptions


async def findings_of(ledger: Ledger) -> list[Finding]:
    return [finding async for finding in check_ledger(ledger)]


class Damage:
    """Ways to harm the first person's records."""

    def __init__(self, client: redis.Redis, redemption: Any) -> None:
        self.client = client
        self.account = f"{TAG}account:{redemption.account_id}"
        self.key = f"{TAG}key:{redemption.key_id}"
        self.key_id = redemption.key_id
        invite_id = client.hget(self.account, "invite_id")
        assert isinstance(invite_id, str)
        self.invite = f"{TAG}invite:{invite_id}"
        [self.email] = [
            name
            for name in client.scan_iter(f"{TAG}email:*")
            if client.get(name) == redemption.account_id
        ]


PLANTED: dict[str, tuple[Callable[[Damage], Any], str, str]] = {
    "account gone": (lambda d: d.client.delete(d.account), "invite", "its account"),
    "account gone, its key's side": (lambda d: d.client.delete(d.account), "key", "its account"),
    "account gone, its address": (lambda d: d.client.delete(d.account), "address", "not there"),
    "account gone, the audit": (lambda d: d.client.delete(d.account), "audit", "a redemption"),
    "invite gone": (lambda d: d.client.delete(d.invite), "account", "its invite"),
    "invite not used": (
        lambda d: d.client.hdel(d.invite, "used_at_ms"),
        "account",
        "is not used",
    ),
    "invite half used": (lambda d: d.client.hdel(d.invite, "used_at_ms"), "invite", "not used"),
    "invite of another account": (
        lambda d: d.client.hset(d.invite, "account_id", "acct_0"),
        "account",
        "made another account",
    ),
    "key gone": (lambda d: d.client.delete(d.key), "invite", "its key"),
    "key gone, its number": (lambda d: d.client.delete(d.key), "key number", "not there"),
    "key of another account": (
        lambda d: d.client.hset(d.key, "account_id", "acct_0"),
        "key",
        "acct_0 is not there",
    ),
    "digest changed": (lambda d: d.client.hset(d.key, "digest", "f" * 64), "key", "digest"),
    "field lost": (lambda d: d.client.hdel(d.key, "hint"), "key", "it lacks"),
    "address gone": (lambda d: d.client.delete(d.email), "account", "does not lead to it"),
    "address of another account": (
        lambda d: d.client.hset(d.account, "email", "eve@example.com"),
        "address",
        "another address",
    ),
    "number gone": (lambda d: d.client.zrem(f"{TAG}keys", d.key_id), "key", "no number"),
    "number twice": (
        lambda d: d.client.zadd(f"{TAG}keys", {d.key_id: 2}),
        "key number",
        "another key has",
    ),
    "number above the last": (
        lambda d: d.client.zadd(f"{TAG}keys", {d.key_id: 99}),
        "key number",
        "above the last",
    ),
    "place of an account gone": (
        lambda d: d.client.hset(d.account, "entry", "none"),
        "account",
        "its place none is not there",
    ),
    "inviter that knows of no guest": (
        lambda d: d.client.hset(d.account, "inviter", "acct_0"),
        "account",
        "not among the guests of acct_0",
    ),
    "invite of an account that knows of none": (
        lambda d: d.client.hset(d.invite, "inviter", "acct_0"),
        "invite",
        "not among the invites of acct_0",
    ),
    "key among those of another account": (
        lambda d: d.client.zadd(f"{TAG}account-keys:acct_0", {d.key_id: 1}),
        "account's keys",
        "its account is not there",
    ),
    "key that is not there, among an account's": (
        lambda d: d.client.zadd(d.account.replace("account:", "account-keys:"), {"key_0": 1}),
        "account's keys",
        "it has key_0",
    ),
    "invite that is not there, among an account's": (
        lambda d: d.client.zadd(d.account.replace("account:", "account-invites:"), {"inv_0": 1}),
        "account's invites",
        "it has inv_0",
    ),
    "guest that is not there": (
        lambda d: d.client.zadd(d.account.replace("account:", "account-guests:"), {"acct_0": 1}),
        "account's guests",
        "it has acct_0",
    ),
    "last key number too small": (
        lambda d: d.client.set(f"{TAG}keys-last-number", 2),
        "key number",
        "above the last one given, 2",
    ),
    "audit gone": (lambda d: d.client.delete(f"{TAG}audit"), "account", "no redemption"),
}


async def test_whole_ledger_has_no_findings(ledger: Ledger, people: list[Any]) -> None:
    checked: dict[str, int] = {}

    def note(progress: Progress) -> None:
        checked[progress.record] = progress.checked

    assert [finding async for finding in check_ledger(ledger, note)] == []
    assert checked["invite"] == 5
    assert checked["account"] == checked["key"] == checked["address"] == 3
    assert checked["key number"] == 3
    assert checked["audit"] == 5  # made, three redemptions, a revocation


@pytest.mark.parametrize("damage", list(PLANTED))
async def test_planted_damage_is_found(
    ledger: Ledger, ledger_state: Any, people: list[Any], damage: str
) -> None:
    plant, record, words = PLANTED[damage]
    plant(Damage(ledger_state.client, people[0]))
    found = await findings_of(ledger)
    assert [f for f in found if f.record == record and words in f.problem], found


COUNTS: dict[str, tuple[str, str, str, str]] = {
    "uses of a code for many": ("invite", "uses", "invite", "it was used 7 times, but 2 accounts"),
    "accounts of a campaign": ("campaign", "redeemed", "campaign", "7 accounts came by it, but 2"),
    "codes of a campaign": ("campaign", "codes", "campaign", "it made 7 codes, but 1 are there"),
}


@pytest.mark.parametrize("damage", list(COUNTS))
async def test_counts_that_are_wrong_are_found(
    ledger: Ledger, directory: Directory, ledger_state: Any, damage: str
) -> None:
    await directory.campaigns.add("press")
    [code] = await directory.campaigns.make_codes("press", 1, uses=3)
    for name in ("ada", "bob"):
        await directory.redeem(code.code, f"{name}@example.com")
    assert await findings_of(ledger) == []
    kind, field, record, words = COUNTS[damage]
    name = "press" if kind == "campaign" else code.invite_id
    ledger_state.client.hset(f"{TAG}{kind}:{name}", field, 7)
    [finding] = await findings_of(ledger)
    assert (finding.record, finding.subject) == (record, name)
    assert words in finding.problem


async def test_handed_on_invites_and_guests_are_whole(
    ledger: Ledger, directory: Directory, people: list[Any]
) -> None:
    host = people[0].account_id
    await directory.accounts.grant_invites(host, 2)
    invite, _ = await directory.invites.share(host)
    await directory.invites.share(host)
    await directory.redeem(invite.code, "guest@example.com")
    await directory.erase_account(host)
    assert await findings_of(ledger) == []


async def test_revocation_that_did_not_take_is_found(
    ledger: Ledger, ledger_state: Any, people: list[Any]
) -> None:
    ledger_state.client.hdel(f"{TAG}key:{people[2].key_id}", "revoked_at_ms")
    [finding] = await findings_of(ledger)
    assert finding.record == "audit" and "not revoked" in finding.problem


async def test_findings_hold_no_address(
    ledger: Ledger, ledger_state: Any, people: list[Any]
) -> None:
    for redemption in people:
        ledger_state.client.delete(f"{TAG}account:{redemption.account_id}")
    assert "@" not in str(await findings_of(ledger))


async def test_ledger_in_use_has_no_findings(
    ledger: Ledger, directory: Directory, ledger_state: Any
) -> None:
    """People redeem and keys are revoked all the while."""
    invites = await directory.create_invites(600)
    done = False

    async def use() -> None:
        nonlocal done
        for i, invite in enumerate(invites):
            redemption = await directory.redeem(invite.code, f"person{i}@example.com")
            if i % 5 == 0:
                await directory.revoke_key(redemption.key_id)
        done = True

    async def check_on() -> int:
        rounds = 0
        while not done:
            assert await findings_of(ledger) == []
            rounds += 1
        return rounds

    _, rounds = await asyncio.gather(use(), check_on())
    assert rounds > 1
    ledger_state.assert_whole()
