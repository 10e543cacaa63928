"""What can be done with invites, accounts and keys, on a real ledger and flow."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from waitlist.directory import INVITE_LIFE_S_MAX, INVITES_MAX, Directory
from waitlist.errors import (
    CodeExpired,
    CodeMalformed,
    CodeRevoked,
    CodeUnknown,
    CodeUsed,
    EmailHasAccount,
    EmailMalformed,
    RequestMalformed,
    WaitlistError,
)
from waitlist.proofs import tokens

pytestmark = pytest.mark.integration


async def redeem_many(directory: Directory, count: int) -> list[str]:
    """Ids of the keys of so many new accounts, in the order of creation."""
    invites = await directory.create_invites(count)
    return [
        (await directory.redeem(invite.code, f"person{i}@example.com")).key_id
        for i, invite in enumerate(invites)
    ]


async def test_code_becomes_a_key_that_is_found(directory: Directory) -> None:
    [invite] = await directory.create_invites(1, plan="pro")
    redemption = await directory.redeem(invite.code, "ada@example.com")
    assert redemption.plan == invite.plan == "pro"
    record = await directory.find_key(redemption.api_key)
    assert record is not None
    assert record.key_id == redemption.key_id
    assert record.account_id == redemption.account_id
    assert record.plan == "pro"
    assert not record.revoked


async def test_code_may_be_typed_badly_and_counts_as_the_same(directory: Directory) -> None:
    [invite] = await directory.create_invites(1)
    typed = " " + invite.code.removeprefix("fgi-").lower().replace("0", "o") + "\n"
    await directory.redeem(typed, "ada@example.com")
    with pytest.raises(CodeUsed):
        await directory.redeem(invite.code, "eve@example.com")


async def test_keys_that_are_not_found(directory: Directory) -> None:
    assert await directory.find_key(tokens.new_api_key()) is None
    assert await directory.find_key("fg-mistyped") is None
    assert await directory.find_key("") is None


async def test_only_digests_of_secrets_are_stored(directory: Directory, ledger_state: Any) -> None:
    invites = await directory.create_invites(2)
    redemption = await directory.redeem(invites[0].code, "ada@example.com")
    stored = ledger_state.everything_as_text()
    assert tokens.digest(invites[0].code) in stored
    assert tokens.digest(redemption.api_key) in stored
    for secret in (invites[0].code, invites[1].code, redemption.api_key):
        assert secret.split("-")[1] not in stored


async def test_ledger_has_no_duplicates_of_anything(
    directory: Directory, ledger_state: Any
) -> None:
    await redeem_many(directory, 30)
    ledger_state.assert_whole()


# Refusals, each with its own error, none of which changes anything


async def test_used_code_is_refused_and_its_account_stays(
    directory: Directory, ledger_state: Any
) -> None:
    [invite] = await directory.create_invites(1)
    first = await directory.redeem(invite.code, "ada@example.com")
    for email in ("eve@example.com", "ada@example.com"):
        with pytest.raises(CodeUsed):
            await directory.redeem(invite.code, email)
    assert await directory.find_key(first.api_key) is not None
    assert len(ledger_state.records("account")) == 1
    ledger_state.assert_whole()


async def test_unknown_code_is_refused(directory: Directory, ledger_state: Any) -> None:
    with pytest.raises(CodeUnknown):
        await directory.redeem(tokens.new_code(), "ada@example.com")
    assert ledger_state.records("account") == {}


async def test_second_code_for_an_address_is_refused_and_stays_good(
    directory: Directory, ledger_state: Any
) -> None:
    first, second = await directory.create_invites(2)
    await directory.redeem(first.code, "ada@example.com")
    for email in ("ada@example.com", "ADA@Example.COM"):
        with pytest.raises(EmailHasAccount):
            await directory.redeem(second.code, email)
    await directory.redeem(second.code, "eve@example.com")
    ledger_state.assert_whole()


async def test_code_expires_at_its_time_and_not_before(directory: Directory, clock: Any) -> None:
    first, second, endless = [
        *await directory.create_invites(2, expires_in_s=60),
        *await directory.create_invites(1),
    ]
    assert first.expires_at == first.created_at + timedelta(seconds=60)
    assert endless.expires_at is None
    clock.advance(59.999)
    await directory.redeem(first.code, "ada@example.com")
    clock.advance(0.001)
    with pytest.raises(CodeExpired):
        await directory.redeem(second.code, "eve@example.com")
    with pytest.raises(CodeUsed):  # what happened first is told
        await directory.redeem(first.code, "eve@example.com")
    clock.advance(INVITE_LIFE_S_MAX)
    await directory.redeem(endless.code, "eve@example.com")


async def test_withdrawn_code_is_refused(directory: Directory, ledger_state: Any) -> None:
    used, withdrawn = await directory.create_invites(2)
    await directory.redeem(used.code, "ada@example.com")
    await directory.revoke_invite(withdrawn.code)
    await directory.revoke_invite(withdrawn.code)
    assert len(ledger_state.audit("invite_revoked")) == 1
    with pytest.raises(CodeRevoked):
        await directory.redeem(withdrawn.code, "eve@example.com")
    with pytest.raises(CodeUsed):
        await directory.revoke_invite(used.code)
    with pytest.raises(CodeUnknown):
        await directory.revoke_invite(tokens.new_code())
    with pytest.raises(CodeMalformed):
        await directory.revoke_invite("fgi-mistyped")


async def test_refused_sign_ups_never_burn_the_code(
    directory: Directory, ledger_state: Any
) -> None:
    taken, invite = await directory.create_invites(2)
    await directory.redeem(taken.code, "ada@example.com")

    def records() -> list[str]:
        lines: list[str] = ledger_state.everything_as_text().splitlines()
        return [line for line in lines if ":code-refusals:" not in line]  # which are counted

    before = records()
    refusals: list[tuple[str, type[WaitlistError]]] = [
        ("no address", EmailMalformed),
        ("", EmailMalformed),
        ("a" * 300 + "@example.com", EmailMalformed),
        ("ada@example.com", EmailHasAccount),
    ]
    for email, error in refusals:
        with pytest.raises(error):
            await directory.redeem(invite.code, email)
    assert records() == before
    await directory.redeem(invite.code, "eve@example.com")


# Making invites


async def test_ten_thousand_invites_come_in_small_calls(
    directory: Directory, ledger_state: Any
) -> None:
    ledger_state.client.config_resetstat()
    invites = await directory.create_invites(10_000, plan="press", note="Launch day")
    assert len({invite.code for invite in invites}) == 10_000
    assert len(ledger_state.records("invite")) == 10_000
    assert ledger_state.client.info("commandstats")["cmdstat_evalsha"]["calls"] >= 100
    batches = ledger_state.audit("invites_created")
    assert sum(int(batch["count"]) for batch in batches) == 10_000
    assert {batch["note"] for batch in batches} == {"Launch day"}
    await directory.redeem(invites[-1].code, "ada@example.com")


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"count": 0}, "count"),
        ({"count": -1}, "count"),
        ({"count": INVITES_MAX + 1}, "count"),
        ({"plan": ""}, "plan"),
        ({"plan": "Free"}, "plan"),
        ({"plan": "1free"}, "plan"),
        ({"plan": "free\n"}, "plan"),
        ({"plan": "f" * 33}, "plan"),
        ({"plan": "fré"}, "plan"),
        ({"note": "x" * 201}, "note"),
        ({"note": "two\nlines"}, "note"),
        ({"note": "\ud800"}, "note"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"expires_in_s": -1.0}, "expires_in_s"),
        ({"expires_in_s": float("nan")}, "expires_in_s"),
        ({"expires_in_s": float("inf")}, "expires_in_s"),
    ],
)
async def test_terms_that_no_invite_can_have(
    directory: Directory, ledger_state: Any, terms: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestMalformed) as raised:
        await directory.create_invites(**{"count": 1, **terms})
    assert raised.value.param == param
    assert ledger_state.records("invite") == {}


# Listing


async def test_keys_are_listed_in_order_over_several_pages(
    directory: Directory, clock: Any
) -> None:
    key_ids = await redeem_many(directory, 450)
    await directory.revoke_key(key_ids[3])
    listed = [listing async for listing in directory.list_keys()]
    assert [listing.key_id for listing in listed] == key_ids
    assert listed[0].email == "person0@example.com"
    assert listed[0].plan == "free"
    assert listed[0].hint.startswith("fg-…")
    assert listed[0].created_at == datetime.fromtimestamp(clock.now_s, UTC)
    assert [i for i, listing in enumerate(listed) if listing.revoked_at is not None] == [3]


async def test_empty_ledger_lists_nothing(directory: Directory) -> None:
    assert [listing async for listing in directory.list_keys()] == []


async def test_list_holds_keys_that_are_made_meanwhile(directory: Directory, clock: Any) -> None:
    """Also when the clock goes back: no key is told twice and none is left out."""
    first = await redeem_many(directory, 250)
    [invite] = await directory.create_invites(1)
    seen: list[str] = []
    async for listing in directory.list_keys():
        if not seen:
            clock.advance(-3600)
            late = await directory.redeem(invite.code, "late@example.com")
        seen.append(listing.key_id)
    assert seen == [*first, late.key_id]


# Revoking


async def test_revoked_key_is_marked_in_both_stores_and_announced(
    directory: Directory, ledger_state: Any, flow_client: redis.Redis
) -> None:
    [key_id] = await redeem_many(directory, 1)
    with ledger_state.client.pubsub() as announced:
        announced.subscribe("fg:revocations")
        while (announced.get_message(timeout=5) or {}).get("type") != "subscribe":
            pass
        revocation = await directory.revoke_key(key_id)
        while (message := announced.get_message(timeout=5)) is None:
            pass
    assert (message["type"], message["data"]) == ("message", key_id)
    assert revocation is not None
    assert revocation.tombstone_written
    tombstones = f"fg:revoked:{{{revocation.account_id}}}"
    assert flow_client.smembers(tombstones) == {key_id}
    assert 86_000 < flow_client.ttl(tombstones) <= 86_400
    [listing] = [listing async for listing in directory.list_keys()]
    assert listing.revoked_at == revocation.revoked_at


async def test_revoked_key_is_found_as_revoked(directory: Directory) -> None:
    [invite] = await directory.create_invites(1)
    redemption = await directory.redeem(invite.code, "ada@example.com")
    await directory.revoke_key(redemption.key_id)
    record = await directory.find_key(redemption.api_key)
    assert record is not None and record.revoked


async def test_second_revocation_changes_nothing_but_writes_the_tombstone_again(
    directory: Directory, ledger_state: Any, flow_client: redis.Redis, clock: Any
) -> None:
    [key_id] = await redeem_many(directory, 1)
    first = await directory.revoke_key(key_id)
    assert first is not None
    flow_client.flushall()
    clock.advance(60)
    assert await directory.revoke_key(key_id) == first
    tombstones = f"fg:revoked:{{{first.account_id}}}"
    assert flow_client.smembers(tombstones) == {key_id}
    assert list(flow_client.scan_iter("fg:revoked:*")) == [tombstones]
    assert len(ledger_state.audit("key_revoked")) == 1


@pytest.mark.parametrize(
    "key_id", ["", "key_", "key_000000000000000000000000", "\u0000*", "x" * 999]
)
async def test_revoking_an_unknown_key_changes_nothing(
    directory: Directory, ledger_state: Any, key_id: str
) -> None:
    assert await directory.revoke_key(key_id) is None
    assert ledger_state.audit() == []


# Audit


async def test_audit_tells_who_did_what_and_when_without_personal_data(
    directory: Directory, ledger_state: Any, clock: Any
) -> None:
    [invite] = await directory.create_invites(1)
    redemption = await directory.redeem(invite.code, "ada@example.com")
    clock.advance(5)
    await directory.revoke_key(redemption.key_id)
    entries = ledger_state.audit()
    assert [entry["action"] for entry in entries] == [
        "invites_created",
        "invite_redeemed",
        "key_revoked",
    ]
    assert {entry["actor"] for entry in entries} == {"test"}
    assert int(entries[2]["at_ms"]) - int(entries[1]["at_ms"]) == 5_000
    assert entries[1]["invite_id"] == invite.invite_id
    assert entries[1]["account_id"] == entries[2]["account_id"] == redemption.account_id
    assert "ada@" not in str(entries).lower()


async def test_waiting_calls_beyond_the_connections_are_served(directory: Directory) -> None:
    found = await asyncio.gather(*(directory.find_key(tokens.new_api_key()) for _ in range(300)))
    assert found == [None] * 300
