"""Accounts: their keys, the invites they hand on, the tree, and its revocation."""

import asyncio
from typing import Any

import pytest
import redis

from tests.integration.waitlist.conftest import join
from waitlist.directory import Directory
from waitlist.errors import (
    CodeRevoked,
    KeyMalformed,
    KeyRevoked,
    KeyUnknown,
    NoInvitesLeft,
    NotFound,
    RequestMalformed,
    TooManyKeys,
)
from waitlist.holders.keys import KEYS_PER_ACCOUNT_MAX
from waitlist.proofs.tokens import new_api_key
from waitlist.storage.records import Redemption

pytestmark = pytest.mark.integration


async def new_account(directory: Directory, name: str) -> Redemption:
    [invite] = await directory.create_invites(1)
    return await directory.redeem(invite.code, f"{name}@example.com")


async def guest_of(directory: Directory, account_id: str, name: str) -> Redemption:
    invite, _ = await directory.invites.share(account_id)
    return await directory.redeem(invite.code, f"{name}@example.com")


async def test_further_keys_belong_to_the_account(directory: Directory) -> None:
    account = await new_account(directory, "ada")
    made = await directory.keys.make(account.account_id, name="ci")
    record = await directory.keys.live(made.api_key)
    assert (record.account_id, record.plan) == (account.account_id, "free")
    listed = await directory.keys.of_account(account.account_id)
    assert {key.key_id for key in listed} == {made.key_id, account.key_id}
    assert {key.name for key in listed} == {"ci", ""}


async def test_rotation_lets_both_keys_work_until_the_overlap_ends(
    directory: Directory, clock: Any
) -> None:
    account = await new_account(directory, "ada")
    new = await directory.keys.rotate(account.account_id, account.key_id, overlap_s=60)
    clock.advance(59)
    for api_key in (account.api_key, new.api_key):
        await directory.keys.live(api_key)
    clock.advance(1)
    with pytest.raises(KeyRevoked):
        await directory.keys.live(account.api_key)
    await directory.keys.live(new.api_key)
    with pytest.raises(NotFound):  # it was rotated before
        await directory.keys.rotate(account.account_id, account.key_id, overlap_s=60)


async def test_rotating_one_key_many_times_at_once_makes_one_key(directory: Directory) -> None:
    account = await new_account(directory, "ada")
    results = await asyncio.gather(
        *(
            directory.keys.rotate(account.account_id, account.key_id, overlap_s=60)
            for _ in range(30)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, NotFound) for result in results) == 29
    assert len(await directory.keys.of_account(account.account_id)) == 2


async def test_keys_of_others_cannot_be_touched(directory: Directory) -> None:
    ada, eve = [await new_account(directory, name) for name in ("ada", "eve")]
    assert await directory.keys.revoke(ada.key_id, account_id=eve.account_id) is None
    with pytest.raises(NotFound):
        await directory.keys.rotate(eve.account_id, ada.key_id, overlap_s=0)
    await directory.keys.live(ada.api_key)


async def test_account_has_a_bounded_number_of_live_keys(directory: Directory) -> None:
    account = await new_account(directory, "ada")
    made = [await directory.keys.make(account.account_id) for _ in range(KEYS_PER_ACCOUNT_MAX - 1)]
    with pytest.raises(TooManyKeys):
        await directory.keys.make(account.account_id)
    await directory.keys.revoke(made[0].key_id)
    await directory.keys.make(account.account_id)


async def test_keys_that_are_none(directory: Directory) -> None:
    with pytest.raises(KeyMalformed):
        await directory.keys.live("fg-mistyped")
    with pytest.raises(KeyUnknown):
        await directory.keys.live(new_api_key())
    with pytest.raises(NotFound):
        await directory.keys.make("acct_none")
    with pytest.raises(RequestMalformed):
        await directory.keys.make("acct_none", name="two\nlines")


async def test_leaked_key_is_revoked_by_whoever_shows_it(
    directory: Directory, flow_client: redis.Redis
) -> None:
    account = await new_account(directory, "ada")
    revocation = await directory.keys.revoke_leaked(account.api_key)
    assert revocation is not None
    assert revocation.tombstone_written
    assert flow_client.smembers(f"fg:revoked:{{{account.account_id}}}") == {account.key_id}
    with pytest.raises(KeyRevoked):
        await directory.keys.live(account.api_key)
    assert await directory.keys.revoke_leaked(new_api_key()) is None
    with pytest.raises(KeyMalformed):
        await directory.keys.revoke_leaked("fg-nothing")


async def test_account_hands_on_as_many_invites_as_it_was_given(
    directory: Directory, ledger_state: Any
) -> None:
    account = await new_account(directory, "ada")
    with pytest.raises(NoInvitesLeft):
        await directory.invites.share(account.account_id)
    await directory.accounts.grant_invites(account.account_id, 5)
    results = await asyncio.gather(
        *(directory.invites.share(account.account_id) for _ in range(50)), return_exceptions=True
    )
    assert sum(isinstance(result, NoInvitesLeft) for result in results) == 45
    seen = await directory.accounts.read(account.account_id)
    assert (seen.invites_left, len(seen.invites)) == (0, 5)
    assert {invite.state(directory.now()) for invite in seen.invites} == {"open"}
    assert len(ledger_state.audit("invite_shared")) == 5


async def test_branch_is_revoked_with_its_keys_and_codes_and_nothing_else(
    directory: Directory, flow_client: redis.Redis
) -> None:
    root = await new_account(directory, "root")
    other = await new_account(directory, "other")
    await directory.accounts.grant_invites(root.account_id, 10)
    first = await guest_of(directory, root.account_id, "first")
    second = await guest_of(directory, root.account_id, "second")
    await directory.accounts.grant_invites(first.account_id, 10)
    third = await guest_of(directory, first.account_id, "third")
    extra = await directory.keys.make(third.account_id)
    unused, _ = await directory.invites.share(first.account_id)
    still_good, _ = await directory.invites.share(root.account_id)
    nearest_first = [a async for a in directory.accounts.branch(root.account_id)]
    assert nearest_first[0] == root.account_id
    assert set(nearest_first[1:3]) == {first.account_id, second.account_id}
    assert nearest_first[3:] == [third.account_id]
    done = await directory.accounts.revoke_branch(first.account_id)
    assert done.account_ids == (first.account_id, third.account_id)
    assert (done.keys, done.tombstone_error) == (3, None)
    for api_key in (first.api_key, third.api_key, extra.api_key):
        with pytest.raises(KeyRevoked):
            await directory.keys.live(api_key)
    with pytest.raises(CodeRevoked):
        await directory.redeem(unused.code, "late@example.com")
    for api_key in (root.api_key, second.api_key, other.api_key):
        await directory.keys.live(api_key)
    await directory.redeem(still_good.code, "welcome@example.com")
    assert len(flow_client.smembers(f"fg:revoked:{{{third.account_id}}}")) == 2
    again = await directory.accounts.revoke_branch(first.account_id)
    assert again == done


async def test_nobody_joins_a_branch_while_it_is_revoked(
    directory: Directory, ledger_state: Any
) -> None:
    root = await new_account(directory, "root")
    await directory.accounts.grant_invites(root.account_id, 30)
    codes = [(await directory.invites.share(root.account_id))[0].code for _ in range(30)]
    redemptions = [directory.redeem(code, f"g{i}@example.com") for i, code in enumerate(codes)]
    await asyncio.gather(
        *redemptions[:15],
        directory.accounts.revoke_branch(root.account_id),
        *redemptions[15:],
        return_exceptions=True,
    )
    accounts = ledger_state.records("account")
    assert all("revoked_at_ms" in account for account in accounts.values())
    assert all("revoked_at_ms" in key for key in ledger_state.records("key").values())


async def test_plan_of_an_account_changes_for_its_keys(directory: Directory) -> None:
    account = await new_account(directory, "ada")
    await directory.accounts.set_plan(account.account_id, "plus")
    assert (await directory.keys.live(account.api_key)).plan == "plus"
    for plan in ("", "Plus", "x" * 33):
        with pytest.raises(RequestMalformed):
            await directory.accounts.set_plan(account.account_id, plan)
    for call in (
        directory.accounts.set_plan("acct_none", "plus"),
        directory.accounts.grant_invites("acct_none", 1),
        directory.accounts.revoke("acct_none"),
    ):
        with pytest.raises(NotFound):
            await call


async def test_erased_account_leaves_nothing_personal_and_its_address_is_free_again(
    line: Directory, ledger_state: Any
) -> None:
    joined = await join(line, "ada@example.com", note="the first programmer")
    batch = await line.releases.release(1)
    account = await line.redeem(
        line.signer.code(joined.entry_id, batch.batch_id), "ada@example.com"
    )
    for _ in range(2):
        done = await line.erase_account(account.account_id)
        assert (done.keys, done.tombstone_error) == (1, None)
    stored = ledger_state.everything_as_text()
    assert "ada@" not in stored
    assert "programmer" not in stored
    with pytest.raises(KeyRevoked):
        await line.keys.live(account.api_key)
    [erased] = ledger_state.audit("account_erased")
    assert len(erased["email_digest"]) == 64
    assert (await line.accounts.read(account.account_id)).email == ""
    assert [key.email async for key in line.list_keys()] == [""]
    [invite] = await line.create_invites(1)
    again = await line.redeem(invite.code, "ada@example.com")
    assert again.account_id != account.account_id
