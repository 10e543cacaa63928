"""The line on a real ledger: joining, confirming, places, leaving, erasing, referring."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.waitlist.conftest import confirmed, join
from waitlist.directory import Directory
from waitlist.errors import (
    EmailDisposable,
    EmailMalformed,
    PlaceGone,
    PlaceRedeemed,
    ProofInvalid,
    RequestMalformed,
    TicketInsufficient,
    TooManyJoins,
    WaitlistPaused,
)
from waitlist.line.join_request import JoinRequest
from waitlist.proofs.proof_of_work import SolvedProof

pytestmark = pytest.mark.integration

Open = Callable[..., Awaitable[Directory]]


async def place(directory: Directory, ticket: str) -> int | None:
    ahead = (await directory.entries.read(directory.signer.read(ticket).entry_id)).ahead
    return None if ahead is None else ahead + 1


async def test_places_follow_the_order_of_joining(line: Directory) -> None:
    joined = [await join(line, f"person{i}@example.com") for i in range(30)]
    assert [each.ahead for each in joined] == list(range(30))
    assert [await place(line, each.ticket) for each in joined] == list(range(1, 31))


async def test_many_joining_at_once_get_one_place_each(open_line: Open) -> None:
    directories = [await open_line() for _ in range(4)]
    joined = await asyncio.gather(
        *(join(directories[i % 4], f"person{i}@example.com") for i in range(400))
    )
    places = await asyncio.gather(*(place(directories[0], each.ticket) for each in joined))
    assert sorted(filter(None, places)) == list(range(1, 401))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"email": "nobody"}, EmailMalformed),
        ({"email": "x@mailinator.com"}, EmailDisposable),
        ({"email": "x@some.sub.Mailinator.com"}, EmailDisposable),
        ({"email": "a@example.com", "locale": "xx"}, RequestMalformed),
        ({"email": "a@example.com", "note": "two\nlines"}, RequestMalformed),
        ({"email": "a@example.com", "referral": "not-an-id"}, RequestMalformed),
    ],
)
async def test_wrong_requests_are_refused_without_the_ledger(
    line: Directory, ledger_server: Any, given: dict[str, Any], error: type[Exception]
) -> None:
    ledger_server.kill()
    with pytest.raises(error):
        await line.entries.join(JoinRequest(**given), network="192.0.2.1", proof=None)


async def test_second_join_is_a_new_place_and_the_mail_gives_the_old_one_back(
    mailed_line: Directory,
) -> None:
    old_ticket = await confirmed(mailed_line, "ada@example.com")
    await join(mailed_line, "bob@example.com")
    second = await join(mailed_line, "ADA@example.com")
    assert second.ahead == 2
    assert mailed_line.signer.read(second.ticket).owner is False
    owner = mailed_line.signer.read(mailed_line.signer.owner_ticket(second.entry_id))
    entry, ticket = await mailed_line.entries.confirm(owner)
    assert ticket == old_ticket
    assert entry.ahead == 0
    # The stranger's ticket says what it would say for an unknown address.
    shadow = await mailed_line.entries.read(second.entry_id)
    assert (shadow.state, shadow.ahead) == ("pending", 2)


async def test_confirming_twice_is_the_same_as_once(mailed_line: Directory) -> None:
    ticket = await confirmed(mailed_line, "ada@example.com")
    entry, again = await mailed_line.entries.confirm(mailed_line.signer.read(ticket))
    assert again == ticket
    assert entry.state == "waiting"
    [today] = await mailed_line.overview.days(1)
    assert (today.counts["joined"], today.counts["confirmed"]) == (1, 1)


async def test_one_address_gets_one_place_however_many_links_are_opened_at_once(
    open_line: Open, ledger_state: Any
) -> None:
    directories = [await open_line(smtp_url="smtp://127.0.0.1:1") for _ in range(4)]
    joined = [await join(directories[0], "ada@example.com") for _ in range(60)]
    signer = directories[0].signer
    results = await asyncio.gather(
        *(
            directories[i % 4].entries.confirm(signer.read(signer.owner_ticket(each.entry_id)))
            for i, each in enumerate(joined)
        )
    )
    assert len({ticket for _, ticket in results}) == 1
    states = [entry["state"] for entry in ledger_state.records("entry").values()]
    assert (states.count("waiting"), states.count("pending")) == (1, 59)


async def test_confirming_with_an_account_ends_the_wait(mailed_line: Directory) -> None:
    joined = await join(mailed_line, "ada@example.com")
    [invite] = await mailed_line.create_invites(1)
    await mailed_line.redeem(invite.code, "ada@example.com")
    owner = mailed_line.signer.read(mailed_line.signer.owner_ticket(joined.entry_id))
    entry, _ = await mailed_line.entries.confirm(owner)
    assert (entry.state, entry.ahead) == ("redeemed", None)
    assert (await mailed_line.overview.line()).in_line == 0


async def test_ticket_of_joining_cannot_confirm_nor_give_up_a_confirmed_place(
    mailed_line: Directory,
) -> None:
    joined = await join(mailed_line, "ada@example.com")
    watching = mailed_line.signer.read(joined.ticket)
    with pytest.raises(TicketInsufficient):
        await mailed_line.entries.confirm(watching)
    owner = mailed_line.signer.read(mailed_line.signer.owner_ticket(joined.entry_id))
    await mailed_line.entries.confirm(owner)
    for call in (mailed_line.departures.leave, mailed_line.departures.erase):
        with pytest.raises(TicketInsufficient):
            await call(watching)
    assert await mailed_line.departures.leave(owner) == "left"


async def test_place_that_is_not_confirmed_ends_and_the_others_move_up(
    mailed_line: Directory, clock: Any
) -> None:
    idle = await join(mailed_line, "idle@example.com")
    keen_ticket = await confirmed(mailed_line, "keen@example.com")
    assert await place(mailed_line, keen_ticket) == 2
    clock.advance(2 * 86_400 - 1)
    assert await mailed_line.departures.expire() == 0
    clock.advance(1)
    assert await mailed_line.departures.expire() == 1
    assert await place(mailed_line, keen_ticket) == 1
    owner = mailed_line.signer.read(mailed_line.signer.owner_ticket(idle.entry_id))
    with pytest.raises(PlaceGone):
        await mailed_line.entries.confirm(owner)


async def test_leaving_moves_the_others_up_and_cannot_be_undone(line: Directory) -> None:
    first, second = [await join(line, f"{name}@example.com") for name in ("ada", "bob")]
    ticket = line.signer.read(first.ticket)
    assert [await line.departures.leave(ticket) for _ in range(2)] == ["left", "left"]
    assert await place(line, second.ticket) == 1
    assert (await line.entries.read(first.entry_id)).ahead is None
    [today] = await line.overview.days(1)
    assert today.counts["left"] == 1


async def test_erasing_leaves_nothing_personal_in_the_ledger(
    line: Directory, ledger_state: Any
) -> None:
    joined = await join(line, "ada@example.com", note="the first programmer", locale="zh")
    assert "ada@example.com" in ledger_state.everything_as_text()
    assert await line.departures.erase(line.signer.read(joined.ticket)) == "left"
    stored = ledger_state.everything_as_text()
    assert "ada@" not in stored
    assert "programmer" not in stored
    [entry] = ledger_state.audit("entry_erased")
    assert entry["email_digest"] in stored
    assert await line.departures.erase(line.signer.read(joined.ticket)) == "left"
    assert len(ledger_state.audit("entry_erased")) == 1


async def test_redeemed_place_cannot_be_left_but_erased(line: Directory) -> None:
    joined = await join(line, "ada@example.com")
    batch = await line.releases.release(1)
    await line.redeem(line.signer.code(joined.entry_id, batch.batch_id), "ada@example.com")
    with pytest.raises(PlaceRedeemed):
        await line.departures.leave(line.signer.read(joined.ticket))
    assert await line.departures.erase(line.signer.read(joined.ticket)) == "redeemed"
    assert (await line.entries.read(joined.entry_id)).email is None


# Referrals


async def test_referral_moves_up_by_the_stated_rule_and_no_further(open_line: Open) -> None:
    line = await open_line(smtp_url="smtp://127.0.0.1:1", referral_places=10, referrals_max=2)
    for i in range(40):
        await confirmed(line, f"early{i}@example.com")
    ticket = await confirmed(line, "ada@example.com")
    ada = line.signer.read(ticket).entry_id
    places = [await place(line, ticket)]
    for i in range(4):
        await confirmed(line, f"friend{i}@example.com", referral=ada)
        places.append(await place(line, ticket))
    # Ten joins ahead each time. Ties go by the entry's id, so one place more or less.
    assert places[0] == 41
    assert [abs((p or 0) - q) <= 1 for p, q in zip(places[1:], [31, 21, 21, 21], strict=True)] == [
        True
    ] * 4
    assert places[2] == places[3] == places[4]
    assert (await line.entries.read(ada)).referred == 2


@pytest.mark.parametrize("email", ["ada@example.com", "ada+friend@example.com", "ADA@example.com"])
async def test_referring_oneself_does_nothing(mailed_line: Directory, email: str) -> None:
    ada = mailed_line.signer.read(await confirmed(mailed_line, "ada@example.com")).entry_id
    await confirmed(mailed_line, email, referral=ada)
    assert (await mailed_line.entries.read(ada)).referred == 0


async def test_circle_of_referrals_does_nothing(mailed_line: Directory) -> None:
    """Ada tells Bob; then Ada leaves and comes back over Bob's link."""
    ada_ticket = await confirmed(mailed_line, "ada@example.com")
    ada = mailed_line.signer.read(ada_ticket)
    bob_ticket = await confirmed(mailed_line, "bob@example.com", referral=ada.entry_id)
    bob = mailed_line.signer.read(bob_ticket)
    assert (await mailed_line.entries.read(ada.entry_id)).referred == 1
    await mailed_line.departures.leave(ada)
    back = await confirmed(mailed_line, "ada@example.com", referral=bob.entry_id)
    assert mailed_line.signer.read(back).entry_id != ada.entry_id
    assert (await mailed_line.entries.read(bob.entry_id)).referred == 0


async def test_referral_without_confirmation_does_nothing(
    mailed_line: Directory, line: Directory
) -> None:
    ada = mailed_line.signer.read(await confirmed(mailed_line, "ada@example.com")).entry_id
    await join(mailed_line, "friend@example.com", referral=ada)
    assert (await mailed_line.entries.read(ada)).referred == 0
    # Without mail nobody proves anything.
    eve = await join(line, "eve@example.com")
    await join(line, "friend2@example.com", referral=eve.entry_id)
    assert (await line.entries.read(eve.entry_id)).referred == 0


# Limits


async def test_network_has_a_share_an_hour_and_then_gets_another(
    open_line: Open, ledger_state: Any
) -> None:
    line = await open_line(joins_per_network_hour=3)
    for i in range(3):
        await join(line, f"person{i}@example.com")
    for network in ("192.0.2.1", "192.0.2.77"):
        with pytest.raises(TooManyJoins) as refusal:
            await line.entries.join(JoinRequest("x@example.com"), network=network, proof=None)
        assert 0 < (refusal.value.retry_after_s or 0) <= 3600
    await line.entries.join(JoinRequest("x@example.com"), network="198.51.100.1", proof=None)
    assert "192.0.2" not in ledger_state.everything_as_text()
    names = list(ledger_state.client.scan_iter("*network-joins*"))
    for name in names:
        assert 0 < ledger_state.client.pttl(name) <= 3_600_000
        ledger_state.client.delete(name)  # as the hour's end does
    await join(line, "later@example.com")


async def test_proof_is_spent_once_over_all_gateways(open_line: Open) -> None:
    directories = [await open_line() for _ in range(2)]
    proof = SolvedProof(digest="d" * 64, expires_at_ms=4_000_000_000_000)
    results = await asyncio.gather(
        *(
            directories[i % 2].entries.join(
                JoinRequest(f"person{i}@example.com"), network="192.0.2.1", proof=proof
            )
            for i in range(50)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, ProofInvalid) for result in results) == 49
    assert (await directories[0].overview.line()).in_line == 1


async def test_pause_keeps_places_and_takes_nobody(line: Directory, ledger_state: Any) -> None:
    joined = await join(line, "ada@example.com")
    assert await line.overview.pause("joining", paused=True)
    assert not await line.overview.pause("joining", paused=True)
    with pytest.raises(WaitlistPaused):
        await join(line, "bob@example.com")
    assert await place(line, joined.ticket) == 1
    await line.overview.pause("joining", paused=False)
    await join(line, "bob@example.com")
    assert [entry["action"] for entry in ledger_state.audit()] == ["paused", "resumed"]


async def test_tickets_and_networks_are_not_stored(line: Directory, ledger_state: Any) -> None:
    joined = await join(line, "ada@example.com")
    batch = await line.releases.release(1)
    code = line.signer.code(joined.entry_id, batch.batch_id)
    stored = ledger_state.everything_as_text()
    assert joined.entry_id in stored
    for secret in (joined.ticket[16:], code.removeprefix("fgi-"), "192.0.2"):
        assert secret not in stored
