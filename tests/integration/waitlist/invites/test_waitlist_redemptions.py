"""Redeeming: the same answer again, codes for many, campaigns, and what a failure leaves."""

import asyncio
from typing import Any

import pytest

from tests.integration.waitlist.conftest import join
from waitlist.directory import Directory
from waitlist.errors import (
    AlreadyExists,
    CampaignPaused,
    CodeBound,
    CodeUsed,
    EmailHasAccount,
    IdempotencyKeyReused,
    NotFound,
    RequestMalformed,
    TooManyRefusals,
)

pytestmark = pytest.mark.integration


async def test_same_request_with_its_key_gives_the_same_answer(directory: Directory) -> None:
    [invite] = await directory.create_invites(1)
    first = await directory.redeem(invite.code, "ada@example.com", idempotency_key="k-1")
    spelled = f" {invite.code.lower()} "
    again = await directory.redeem(spelled, "ADA@example.com", idempotency_key="k-1")
    assert (again, again.api_key) == (first, first.api_key)
    for key in ("", "k-2"):
        with pytest.raises(CodeUsed):
            await directory.redeem(invite.code, "ada@example.com", idempotency_key=key)


async def test_key_with_another_request_is_refused(directory: Directory) -> None:
    first, second = await directory.create_invites(2)
    await directory.redeem(first.code, "ada@example.com", idempotency_key="k-1")
    with pytest.raises(IdempotencyKeyReused):
        await directory.redeem(first.code, "eve@example.com", idempotency_key="k-1")
    # Another code is another request altogether: two people may both send "k-1".
    await directory.redeem(second.code, "bob@example.com", idempotency_key="k-1")


async def test_answer_is_kept_sealed_and_for_a_day(directory: Directory, ledger_state: Any) -> None:
    [invite] = await directory.create_invites(1)
    redemption = await directory.redeem(invite.code, "ada@example.com", idempotency_key="k-1")
    [name] = ledger_state.client.scan_iter("fg:{ledger}:answer:*")
    assert 86_000_000 < ledger_state.client.pttl(name) <= 86_400_000
    stored = ledger_state.everything_as_text()
    for secret in (redemption.api_key, invite.code, "k-1"):
        assert secret not in stored
    ledger_state.client.delete(name)  # as its end does
    with pytest.raises(CodeUsed):
        await directory.redeem(invite.code, "ada@example.com", idempotency_key="k-1")


async def test_refusal_is_not_kept_as_the_answer(directory: Directory) -> None:
    """userli#709: the address is taken, sign-up fails, and the code must stay good."""
    taken, code = await directory.create_invites(2)
    await directory.redeem(taken.code, "ada@example.com")
    with pytest.raises(EmailHasAccount):
        await directory.redeem(code.code, "ada@example.com", idempotency_key="k-1")
    redemption = await directory.redeem(code.code, "bob@example.com", idempotency_key="k-1")
    assert await directory.find_key(redemption.api_key) is not None


async def test_racing_with_one_key_gives_everybody_the_same_answer(
    directory: Directory, ledger_state: Any
) -> None:
    [invite] = await directory.create_invites(1)
    answers = await asyncio.gather(
        *(
            directory.redeem(invite.code, "ada@example.com", idempotency_key="k-1")
            for _ in range(100)
        )
    )
    assert len({answer.api_key for answer in answers}) == 1
    assert len(ledger_state.records("account")) == 1
    ledger_state.assert_whole()


@pytest.mark.parametrize("key", ["x" * 129, "two\nlines", "schlüssel"])
async def test_unusable_keys_are_refused(directory: Directory, key: str) -> None:
    [invite] = await directory.create_invites(1)
    with pytest.raises(RequestMalformed):
        await directory.redeem(invite.code, "ada@example.com", idempotency_key=key)


async def test_code_for_many_makes_that_many_accounts_under_a_race(
    directory: Directory, ledger_state: Any
) -> None:
    await directory.campaigns.add("press", "plus")
    [invite] = await directory.campaigns.make_codes("press", 1, uses=7)

    async def outcome(number: int) -> str:
        try:
            return (await directory.redeem(invite.code, f"p{number}@example.com")).plan
        except CodeUsed as error:
            return error.code

    outcomes = await asyncio.gather(*(outcome(i) for i in range(100)))
    assert (outcomes.count("plus"), outcomes.count("code_used")) == (7, 93)
    assert len(ledger_state.records("account")) == 7
    assert (await directory.campaigns.read("press")).redeemed == 7


async def test_paused_campaign_redeems_nothing_and_goes_on_later(directory: Directory) -> None:
    await directory.campaigns.add("press")
    with pytest.raises(AlreadyExists):
        await directory.campaigns.add("press")
    with pytest.raises(NotFound):
        await directory.campaigns.make_codes("nobody", 1)
    [invite] = await directory.campaigns.make_codes("press", 1)
    await directory.campaigns.pause("press", paused=True)
    with pytest.raises(CampaignPaused):
        await directory.redeem(invite.code, "ada@example.com")
    await directory.campaigns.pause("press", paused=False)
    await directory.redeem(invite.code, "ada@example.com")


async def test_code_finds_out_about_ten_addresses_a_day_and_stays_good(
    line: Directory, clock: Any
) -> None:
    """409 leaves a code good; without a bound it would tell who of a list has an account."""
    codes = await line.create_invites(14)
    for number, invite in enumerate(codes[:12]):
        await line.redeem(invite.code, f"known{number}@example.com")
    probe, other = codes[12:]
    for number in range(10):
        with pytest.raises(EmailHasAccount):
            await line.redeem(probe.code, f"known{number}@example.com")
    for email in ("known10@example.com", "unknown@example.com"):
        with pytest.raises(TooManyRefusals) as refused:
            await line.redeem(probe.code, email)
        assert 86_000 < (refused.value.retry_after_s or 0) <= 86_400
    await line.redeem(other.code, "unknown@example.com")


async def test_network_has_its_share_of_refusals_over_all_codes(
    open_line: Any, ledger_state: Any
) -> None:
    line = await open_line(refusals_per_network_hour=3)
    codes = [invite.code for invite in await line.create_invites(6)]
    await line.redeem(codes[0], "ada@example.com")
    for code in codes[1:4]:
        with pytest.raises(EmailHasAccount):
            await line.redeem(code, "ada@example.com", network="192.0.2.1")
    for address in ("192.0.2.1", "192.0.2.200"):
        with pytest.raises(TooManyRefusals) as refused:
            await line.redeem(codes[4], "bob@example.com", network=address)
        assert 3500 < (refused.value.retry_after_s or 0) <= 3600
    await line.redeem(codes[4], "bob@example.com", network="198.51.100.1")
    [name] = ledger_state.client.scan_iter("fg:{ledger}:network-refusals:*")
    ledger_state.client.delete(name)  # as its end does
    await line.redeem(codes[5], "cyd@example.com", network="192.0.2.1")


async def test_wrong_addresses_for_a_bound_code_count_too(line: Directory) -> None:
    joined = await join(line, "ada@example.com")
    batch = await line.releases.release(1)
    code = line.signer.code(joined.entry_id, batch.batch_id)
    for number in range(10):
        with pytest.raises(CodeBound):
            await line.redeem(code, f"guess{number}@example.com")
    with pytest.raises(TooManyRefusals):
        await line.redeem(code, "guess@example.com")


async def test_code_for_many_may_be_refused_as_often_as_it_has_uses(line: Directory) -> None:
    [first] = await line.create_invites(1)
    await line.redeem(first.code, "ada@example.com")
    [many] = await line.invites.create(1, uses=15)
    for _ in range(15):
        with pytest.raises(EmailHasAccount):
            await line.redeem(many.code, "ada@example.com")
    with pytest.raises(TooManyRefusals):
        await line.redeem(many.code, "bob@example.com")


async def test_codes_that_tell_nothing_about_an_address_are_not_counted(
    line: Directory, ledger_state: Any
) -> None:
    [invite] = await line.create_invites(1)
    await line.redeem(invite.code, "ada@example.com", network="192.0.2.1")
    for number in range(40):
        with pytest.raises(CodeUsed):
            await line.redeem(invite.code, f"p{number}@example.com", network="192.0.2.1")
    assert list(ledger_state.client.scan_iter("fg:{ledger}:*-refusals:*")) == []
