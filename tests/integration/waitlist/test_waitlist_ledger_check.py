"""Damage that is planted in a real ledger, and found; a whole ledger, and nothing found."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from tests.redis_server import RedisServer
from waitlist.directory import Directory
from waitlist.ledger import Ledger
from waitlist.ledger_check import Finding, Progress, check_ledger

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

    def __init__(self, client: "redis.Redis[str]", redemption: Any) -> None:
        self.client = client
        self.account = f"{TAG}account:{redemption.account_id}"
        self.key = f"{TAG}key:{redemption.key_id}"
        self.key_id = redemption.key_id
        self.invite = f"{TAG}invite:{client.hget(self.account, 'invite_id')}"
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
